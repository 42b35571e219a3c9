"""Facts about a corpus of MIDI that the design rests on: how far onsets lie off the grid, and how empty rolls are.

python benchmarks/corpus.py --data pop909.zip
"""

import argparse
import zipfile
from pathlib import Path

import numpy as np

from varcli.pianoroll.corpus.corpus import Corpus, read_corpus
from varcli.pianoroll.evaluation.windows import windows
from varcli.pianoroll.roll import Vocabulary
from varcli.pianoroll.score.midi import read_midi


def off_grid_without_beats(path: Path, every: int) -> list[float]:
    """Mean distance of onsets from the file's own tick grid, in steps, of every `every`-th MIDI file of a zip."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.lower().endswith((".mid", ".midi")))
        return [read_midi(archive.read(name), name=name).loss.off_grid for name in names[::every]]


def empty_shares(rolls: list[np.ndarray]) -> dict[str, float]:
    """Shares of 16x16 patches and 4x4 blocks that hold nothing, and decisions where only occupied parents ask."""
    on = np.stack([roll > 0 for roll in rolls])

    def occupied(size: int) -> np.ndarray:
        n, pitches, steps = on.shape
        return np.asarray(on.reshape(n, pitches // size, size, steps // size, size).any((2, 4)))

    patches, blocks = occupied(16), occupied(4)
    asked = patches[0].size + (16 * patches.sum((1, 2)) + 16 * blocks.sum((1, 2))).mean()
    return {
        "empty 16x16 patches": 1 - float(patches.mean()),
        "empty 4x4 blocks": 1 - float(blocks.mean()),
        "occupancy decisions per roll": float(asked),
        "cells per roll": float(on[0].size),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="zip of MIDI")
    parser.add_argument("--every", type=int, default=4, help="files looked at without their beats")
    parser.add_argument("--steps", type=int, default=256, help="length of a window")
    options = parser.parse_args()
    *_, corpus = read_corpus(options.data)
    assert isinstance(corpus, Corpus)
    with_beats = np.array([piece.off_grid for piece in corpus.pieces])
    without = np.array(off_grid_without_beats(options.data, options.every))
    print(f"pieces {len(corpus.pieces)}, steps {sum(piece.cells.shape[1] for piece in corpus.pieces)}")
    for label, values in (("beat annotations or tick grid", with_beats), ("tick grid alone", without)):
        figures = f"mean {values.mean():.3f}, median {np.median(values):.3f} steps ({len(values)} files)"
        print(f"off the grid, {label}: {figures}")
    rolls = windows(corpus.pieces, Vocabulary(), steps=options.steps)
    for label, value in empty_shares(rolls).items():
        print(f"{label}: {value:.3f}" if value < 1 else f"{label}: {value:.0f}")


if __name__ == "__main__":
    main()
