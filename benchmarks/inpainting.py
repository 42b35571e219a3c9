"""How well models fill a hole of four bars: the NLL of its true notes, given what stands before, or both sides.

    python benchmarks/inpainting.py --data pop909.zip [--checkpoint NAME ...] [--holes 60] [--around song]

For each held-out song a hole of 64 steps, from a downbeat: amid a window of 256 steps, or in the whole song,
a quarter, half, or three quarters on its way (song after song in turn). "Left" ends the canvas where the hole ends, so
that nothing after it is known, not even that there is something. Every figure is exact: autoregressive models
as ever, masked ones for one fixed order, that of time.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import support
import torch

from varcli import loading
from varcli.pianoroll.corpus.corpus import Corpus, read_corpus_of
from varcli.pianoroll.evaluation.windows import windows
from varcli.pianoroll.generation.batch import Batch
from varcli.pianoroll.model.canvas import Limits
from varcli.pianoroll.model.decisions import Draw
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.roll import Vocabulary, crop
from varcli.pianoroll.sampling.constraints import CanvasConstraints
from varcli.pianoroll.sampling.policy import Policy

WINDOW, BEFORE, LENGTH = 256, 96, 64


@dataclass(frozen=True)
class Hole:
    """Cells u8 [P, T], of which those from step `start` on, LENGTH of them, are to be told."""

    cells: np.ndarray
    start: int

    @property
    def stop(self) -> int:
        """The first step after it."""
        return self.start + LENGTH


def hole_nats(model: FractalModel, cells: np.ndarray, start: int) -> float:
    """NLL of LENGTH steps from `start` on of a canvas u8 [P, T], everything else given, in nats."""
    given = np.ones(cells.shape, bool)
    given[:, start : start + LENGTH] = False
    if model.masked and not model.scannable:
        constraints = CanvasConstraints(given, cells * given, np.ones(cells.shape, bool))
        in_order = Policy.following(model.tree, cells, None)
        batch = Batch(model, [in_order], [0], cells.shape[1], constraints=constraints)
        for _ in batch.events():
            pass
        return sum(nats for *_, nats in batch.samples[0].prices)
    nats = 0.0
    limits = Limits(given=torch.from_numpy(given)[None])
    codes = torch.from_numpy(np.ascontiguousarray(cells))[None]
    with torch.inference_mode():
        for part in model.walk(codes, Draw(torch.Generator(), scan=model.masked), limits=limits, chunk=512):
            nats += float((part.nats.double() * part.weight).sum())
    return nats


def holes(data: Path, model: FractalModel, around: str, count: int) -> list[Hole]:
    """Holes in held-out songs, one a song, that are not silent; around them a "window" or the "song"."""
    found = []
    *_, corpus = read_corpus_of(model.config, data)
    assert isinstance(corpus, Corpus)
    for piece in corpus.split("test"):
        if around == "song":
            bars = piece.downbeats[piece.downbeats + LENGTH <= piece.cells.shape[1]]
            goal = piece.cells.shape[1] * (1 + len(found) % 3) / 4
            parts = [Hole(piece.cells, int(bars[np.abs(bars - goal).argmin()]))] if len(bars) else []
        else:
            cut = windows([piece], Vocabulary.of(model.config.model), WINDOW)
            parts = [Hole(part, BEFORE) for part in cut]
        parts = [part for part in parts if part.cells[:, part.start : part.stop].any()]
        if parts:
            found.append(parts[len(parts) // 2])
    return found[:count]


def main() -> None:
    """Score the holes and print a table, or with --json one document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="zip or folder of MIDI")
    parser.add_argument("--checkpoint", nargs="+", default=["fractal-ar", "fractal-mar"])
    parser.add_argument("--holes", type=int, default=60, help="songs to take a hole from")
    parser.add_argument("--around", choices=["window", "song"], default="window", help="what stands around a hole")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report = {}
    for name in options.checkpoint:
        model, _ = loading.load_model(name)
        vocabulary = Vocabulary.of(model.config.model)
        found = holes(options.data, model, options.around, options.holes)
        left = [hole_nats(model, crop(hole.cells, 0, hole.stop, vocabulary), hole.start) for hole in found]
        both = [hole_nats(model, hole.cells, hole.start) for hole in found]
        frames = len(found) * LENGTH
        gain = 1 - sum(both) / sum(left)
        report[name] = {
            "holes": len(found),
            "left_nats_per_frame": sum(left) / frames,
            "both_nats_per_frame": sum(both) / frames,
            "gain": gain,
            "gain_standard_error": float(
                np.std([1 - b / a for a, b in zip(left, both, strict=True)]) / len(found) ** 0.5
            ),
        }
        if not options.json:
            print(f"{name}: {len(found)} holes of {LENGTH} steps, the {options.around} around them")
            for key, value in report[name].items():
                print(f"  {key:24} {value:.4f}" if isinstance(value, float) else f"  {key:24} {value}")
    if options.json:
        print(json.dumps(report))


if __name__ == "__main__":
    support.run(main)
