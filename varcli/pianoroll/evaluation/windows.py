"""Windows of music, cut from pieces at the start of bars."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from varcli.pianoroll.corpus.corpus import Piece
from varcli.pianoroll.roll import Vocabulary, crop


@dataclass(frozen=True)
class Window:
    """A canvas u8 [P, steps] cut from a piece at step `start`."""

    cells: np.ndarray
    piece: Piece
    start: int


def pieces_of(windows: Iterable[Window]) -> list[Piece]:
    """The pieces that windows were cut from, each once."""
    return list({id(window.piece): window.piece for window in windows}.values())


def windows(pieces: Iterable[Piece], vocabulary: Vocabulary, steps: int = 256) -> list[np.ndarray]:
    """The canvases u8 [P, steps] of `bar_windows`."""
    return [window.cells for window in bar_windows(pieces, vocabulary, steps)]


def bar_windows(pieces: Iterable[Piece], vocabulary: Vocabulary, steps: int = 256) -> list[Window]:
    """Windows cut from pieces one after the other, each from the start of a bar (see `crop`).

    A piece without known bars is cut from its first step on. Windows without a note are left out, and so is what
    remains at the end of a piece.
    """
    found = []
    for piece in pieces:
        for start in _starts(piece, steps):
            part = crop(piece.cells, start, start + steps, vocabulary)
            if part.any():
                found.append(Window(part, piece, start))
    return found


def first_step_windows(pieces: Iterable[Piece], vocabulary: Vocabulary, steps: int = 256) -> list[Window]:
    """Windows cut from pieces one after the other from their first step on, silent ones too.

    A piece shorter than a window is one, whole; what remains at the end of a longer one is left out.
    """
    found = []
    for piece in pieces:
        last = max(piece.cells.shape[1] - steps, 0)
        for start in range(0, last + 1, steps):
            found.append(Window(crop(piece.cells, start, start + steps, vocabulary), piece, start))
    return found


def _starts(piece: Piece, steps: int) -> list[int]:
    bars = piece.downbeats if len(piece.downbeats) else np.arange(0, piece.cells.shape[1], steps)
    starts: list[int] = []
    free = 0
    for bar in bars.tolist():
        if bar >= free and bar + steps <= piece.cells.shape[1]:
            starts.append(bar)
            free = bar + steps
    return starts
