"""The chorales at sixteenths (Jsb16thSeparated.npz) as an archive of binary canvases that train and evaluate read.

    python benchmarks/chorales_16th.py Jsb16thSeparated.npz chorales-16th.npz [--transpose 3]

The file holds pickled arrays: it is unpickled here alone, so give only a copy that you trust. Each piece is (T, 4): the
MIDI pitches of soprano, alto, tenor and bass at every sixteenth, NaN for a rest; whether a pitch is held or struck
again it does not say. Every voice gets 32 rows of its own, with one cell at each step in which it sounds: a canvas is
its four sequences and nothing else, and the exact likelihood of the one is that of the other. Voices lie bass first,
each two octaves farther up than it sounds, so that rows 12 apart are one pitch class.
"""

import argparse
from pathlib import Path

import numpy as np
from support import run

from varcli.errors import UsageError

SPLITS = ("train", "valid", "test")
VOICES = 4
VOICE_ROWS = 32
LOWEST = (36, 44, 52, 60)
"""The pitch of the first row of each voice, bass to soprano."""


def rows_of(piece: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the voices of a piece (T, 4) are in their own rows, int [T, 4] from 0, bass first, and sound, bool [T, 4].

    Raises UsageError for what are not pitches of four voices.
    """
    pitches = np.asarray(piece, np.float64)
    if pitches.ndim != 2 or pitches.shape[1] != VOICES or not len(pitches):
        raise UsageError(f"a piece has shape {pitches.shape}", "it should be (T, 4), with T at least 1")
    pitches = pitches[:, ::-1]
    sounds = ~np.isnan(pitches)
    rows = np.where(sounds, pitches, LOWEST) - LOWEST
    if (rows % 1 != 0).any() or (rows < 0).any() or (rows >= VOICE_ROWS).any():
        raise UsageError("a voice leaves its 32 rows", "pitches are whole numbers, or NaN for a rest")
    return rows.astype(int), sounds


def canvas_of(rows: np.ndarray, sounds: np.ndarray, semitones: int = 0) -> np.ndarray | None:
    """The canvas u8 [T, 128] of a piece moved by some semitones, None if a voice would leave its rows."""
    moved = rows + semitones
    if (sounds & ((moved < 0) | (moved >= VOICE_ROWS))).any():
        return None
    canvas = np.zeros((len(rows), VOICES * VOICE_ROWS), np.uint8)
    step, voice = np.nonzero(sounds)
    canvas[step, voice * VOICE_ROWS + moved[step, voice]] = 1
    return canvas


def convert(source: Path, transpose: int) -> dict[str, np.ndarray]:
    """All pieces by name; training pieces also moved by up to `transpose` semitones, where all voices keep theirs."""
    canvases: dict[str, np.ndarray] = {}
    with np.load(source, allow_pickle=True, encoding="latin1") as archive:
        pieces = [(split, index, piece) for split in SPLITS for index, piece in enumerate(archive[split])]
    for split, index, piece in pieces:
        rows, sounds = rows_of(piece)
        reach = transpose if split == "train" else 0
        for semitones in sorted(range(-reach, reach + 1), key=abs):
            canvas = canvas_of(rows, sounds, semitones)
            if canvas is not None:
                canvases[f"{split}_{index:03d}" + (f"_{semitones:+d}" if semitones else "")] = canvas
    return canvases


def main() -> None:
    """Write the archive and print what it holds."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("source", type=Path, help="Jsb16thSeparated.npz")
    parser.add_argument("target", type=Path, help="the archive to write")
    parser.add_argument("--transpose", type=int, default=3, help="semitones that training pieces move at most")
    options = parser.parse_args()
    canvases = convert(options.source, options.transpose)
    np.savez_compressed(options.target, **canvases)  # pyright: ignore[reportArgumentType]
    for split in SPLITS:
        frames = [len(canvas) for name, canvas in canvases.items() if name.startswith(split)]
        print(f"{split}: {len(frames)} canvases, {sum(frames):,} frames")


if __name__ == "__main__":
    run(main)
