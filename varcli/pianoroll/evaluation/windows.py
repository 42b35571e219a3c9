"""Windows of music, and statistics that tell it from noise: what a window sounds like, in six numbers."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from varcli.pianoroll.corpus.corpus import Piece
from varcli.pianoroll.roll import Vocabulary, crop, note_arrays


@dataclass(frozen=True)
class Window:
    """A canvas u8 [P, steps] cut from a piece at step `start`."""

    cells: np.ndarray
    piece: Piece
    start: int


@dataclass(frozen=True)
class WindowStatistics:
    """Six numbers about one window; all are 0 where it holds no note.

    `notes_per_bar`; `polyphony`, notes sounding on average where any sounds; `pitch_class_entropy` of the onsets in
    bits (0..3.58); `off_beat_share` of onsets that are not on a beat (0..1); `median_duration` in steps;
    `velocity_spread`, the standard deviation of the onsets' MIDI velocities.
    """

    notes_per_bar: float
    polyphony: float
    pitch_class_entropy: float
    off_beat_share: float
    median_duration: float
    velocity_spread: float


def window_statistics(
    cells: np.ndarray, vocabulary: Vocabulary, steps_per_bar: int = 16, steps_per_beat: int = 4
) -> WindowStatistics:
    """Statistics of a canvas u8 [P, T] whose step 0 is the start of a bar."""
    notes = note_arrays(cells, vocabulary)
    count = len(notes.pitch)
    if not count:
        return WindowStatistics(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    sounding = np.count_nonzero(cells, axis=0)
    shares = np.bincount(notes.pitch % 12) / count
    shares = shares[shares > 0]
    return WindowStatistics(
        notes_per_bar=count * steps_per_bar / cells.shape[1],
        polyphony=float(sounding[sounding > 0].mean()),
        pitch_class_entropy=float(np.sum(shares * np.log2(1 / shares))),
        off_beat_share=float(np.mean(notes.start % steps_per_beat != 0)),
        median_duration=float(np.median(notes.end - notes.start)),
        velocity_spread=float(notes.velocity.std()),
    )


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
