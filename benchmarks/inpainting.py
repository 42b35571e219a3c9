"""How well models fill a hole of four bars: the NLL of its true notes, given what stands before, or both sides.

    python benchmarks/inpainting.py --data pop909.zip [--checkpoint fractal-ar fractal-mar] [--holes 60]

For each held-out song a hole of 64 steps in a window of 256, from a downbeat. "Left" ends the canvas where the hole
ends, so that nothing after it is known, not even that there is something. Every figure is exact: autoregressive models
as ever, masked ones for one fixed order, that of time.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import support
import torch

from varcli import registry
from varcli.pianoroll.choose import Scorer
from varcli.pianoroll.conditions import Conditions
from varcli.pianoroll.corpus import Corpus, read_corpus_of
from varcli.pianoroll.fractal import Draw, FractalModel, Limits
from varcli.pianoroll.metrics import windows
from varcli.pianoroll.roll import Vocabulary, crop
from varcli.pianoroll.run import Run

WINDOW, START, STOP = 256, 96, 160


class InOrder(Scorer):
    """Follows a canvas in scan order, also where a level is masked."""

    def order(self, level: int, p: np.ndarray, t: np.ndarray) -> np.ndarray:
        """The order of time."""
        return np.arange(len(p))


def hole_nats(model: FractalModel, cells: np.ndarray) -> float:
    """NLL of the cells between START and STOP of a canvas u8 [P, T], everything else given, in nats."""
    given = np.ones(cells.shape, bool)
    given[:, START:STOP] = False
    if model.masked and not model.scannable:
        conditions = Conditions(given, cells * given, np.ones(cells.shape, bool))
        scorer = InOrder(model.tree, cells)
        for _ in Run(model, [scorer], [0], cells.shape[1], conditions=conditions).events():
            pass
        return scorer.nats
    nats = 0.0
    limits = Limits(given=torch.from_numpy(given)[None])
    with torch.inference_mode():
        for part in model.walk(
            torch.from_numpy(cells)[None], Draw(torch.Generator(), scan=model.masked), limits=limits
        ):
            nats += float((part.nats.double() * part.weight).sum())
    return nats


def holes(data: Path, model: FractalModel, count: int) -> list[np.ndarray]:
    """Windows u8 [P, 256] of held-out songs, at most one a song, whose hole is not silent."""
    found = []
    *_, corpus = read_corpus_of(model.config, data)
    assert isinstance(corpus, Corpus)
    for piece in corpus.split("test"):
        parts = windows([piece], Vocabulary.of(model.config.model), WINDOW)
        parts = [part for part in parts if part[:, START:STOP].any()]
        if parts:
            found.append(parts[len(parts) // 2])
    return found[:count]


def main() -> None:
    """Score the holes and print a table, or with --json one document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="zip or folder of MIDI")
    parser.add_argument("--checkpoint", nargs="+", default=["fractal-ar", "fractal-mar"])
    parser.add_argument("--holes", type=int, default=60, help="songs to take a hole from")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report = {}
    for name in options.checkpoint:
        model, _ = registry.load_model(name)
        vocabulary = Vocabulary.of(model.config.model)
        cells = holes(options.data, model, options.holes)
        left = [hole_nats(model, crop(part, 0, STOP, vocabulary)) for part in cells]
        both = [hole_nats(model, part) for part in cells]
        frames = len(cells) * (STOP - START)
        gain = 1 - sum(both) / sum(left)
        report[name] = {
            "holes": len(cells),
            "left_nats_per_frame": sum(left) / frames,
            "both_nats_per_frame": sum(both) / frames,
            "gain": gain,
            "gain_standard_error": float(
                np.std([1 - b / a for a, b in zip(left, both, strict=True)]) / len(cells) ** 0.5
            ),
        }
        if not options.json:
            print(f"{name}: {len(cells)} holes of {STOP - START} steps")
            for key, value in report[name].items():
                print(f"  {key:24} {value:.4f}" if isinstance(value, float) else f"  {key:24} {value}")
    if options.json:
        print(json.dumps(report))


if __name__ == "__main__":
    support.run(main)
