"""What a model's own samples cost it, less what held-out music costs it: nothing, if it is faithful to what it learnt.

    python benchmarks/own_samples.py --data pop909.zip [--checkpoint fractal-voices] [--windows 200]

Samples of 256 steps at temperature 1 and without top-p, and as many windows of held-out songs (validation and test),
each of another song while there are some, a fifth of them beginnings and the others from a downbeat, as crops in
training are. In nats per frame, with the plan that the notes of each say where the model has one; with standard errors.
"""

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import support

from varcli import loading
from varcli.pianoroll.corpus.corpus import Corpus, Piece, read_corpus_of
from varcli.pianoroll.evaluation.likelihood import LikelihoodReport, score
from varcli.pianoroll.events import SampleDone
from varcli.pianoroll.generation.generate import generate
from varcli.pianoroll.generation.settings import SampleSettings
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.results.constraints import Constraints
from varcli.pianoroll.roll import Roll, crop

OPENINGS = 0.2


def held_out(corpus: Corpus, bar: int, count: int, rng: np.random.Generator) -> list[Roll]:
    """Windows of held-out songs, each of another one while there are some."""
    songs = [piece for split in ("test", "valid") for piece in corpus.in_metre(bar).split(split)]
    songs = [piece for piece in songs if piece.cells.shape[1] >= support.STEPS]
    found = []
    for number in (rng.permutation(max(count, len(songs)))[:count] % len(songs)).tolist():
        piece = songs[number]
        bars = piece.downbeats[piece.downbeats <= piece.cells.shape[1] - support.STEPS]
        start = 0 if rng.random() < OPENINGS or not len(bars) else int(rng.choice(bars))
        stop, vocabulary = start + support.STEPS, corpus.vocabulary
        voices = {name: crop(cells, start, stop, vocabulary) for name, cells in (piece.voices or {}).items()} or None
        found.append(
            Roll(
                crop(piece.cells, start, stop, vocabulary), corpus.vocabulary, corpus.steps_per_beat, bar, voices=voices
            )
        )
    return found


def nats_of(model: FractalModel, rolls: list[Roll]) -> np.ndarray:
    """Nats per frame of each roll."""
    limits = partial(Constraints().on_canvas, model.config)
    *_, report = score(model, [Piece.of(roll) for roll in rolls], constraints=limits, in_order=model.scannable)
    assert isinstance(report, LikelihoodReport)
    return np.array([piece.nats / support.STEPS for piece in report.pieces])


def main(argv: Sequence[str] | None = None) -> None:
    """Print both means and their difference as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", default="fractal-voices")
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args(argv)
    model, _ = loading.load_model(options.checkpoint)
    assert isinstance(model, FractalModel)
    *_, corpus = read_corpus_of(model.config, options.data)
    assert isinstance(corpus, Corpus)
    plain = SampleSettings(options.windows, 32, support.STEPS, temperature=1.0, top_p=1.0, seed=options.seed)
    rolls = {
        "own": [event.roll for event in generate(model, plain) if isinstance(event, SampleDone)],
        "held out": held_out(
            corpus, model.config.model.steps_per_bar, options.windows, np.random.default_rng(options.seed)
        ),
    }
    nats = {kind: nats_of(model, each) for kind, each in rolls.items()}
    mean = {kind: float(each.mean()) for kind, each in nats.items()}
    error = {kind: float(each.std(ddof=1) / np.sqrt(len(each))) for kind, each in nats.items()}
    said = {kind: {"nats_per_frame": mean[kind], "standard_error": error[kind]} for kind in nats}
    difference = {
        "nats_per_frame": mean["own"] - mean["held out"],
        "standard_error": float(np.hypot(error["own"], error["held out"])),
    }
    print(json.dumps({**said, "difference": difference, "windows": options.windows}, indent=2))


if __name__ == "__main__":
    support.run(main)
