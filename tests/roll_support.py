"""Canvases made of notes."""

from collections.abc import Iterable

import numpy as np

from varcli.pianoroll.roll import Note, NoteArrays, Vocabulary, place


def notes_to_cells(notes: Iterable[Note], steps: int, vocabulary: Vocabulary) -> tuple[np.ndarray, int]:
    """Write notes on a canvas u8 [128, steps]; also says how many notes merged with others (see `place`)."""
    table = np.array([(n.pitch, n.start_step, n.duration_steps, n.velocity) for n in notes], np.int64).reshape(-1, 4)
    pitch, start, duration, velocity = table.T
    placed = place(NoteArrays(pitch, start, start + duration, velocity), steps, vocabulary)
    return placed.cells, placed.merged
