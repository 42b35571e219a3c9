"""The piano roll: a canvas of cell codes, the notes it stands for, and the way between them.

Legend: P pitches (128, row = MIDI pitch), T steps. A cell of the notes vocabulary is silent, held, or the onset of a
note in one of V velocity bins, so a repeated note differs from a sustained one. A binary cell is off or on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from varcli.pianoroll.config import ModelConfig

PITCHES = 128
SILENT, HELD, ONSET = 0, 1, 2
BINARY_VELOCITY = 80  # what an "on" cell sounds like: mezzo-forte


@lru_cache(maxsize=64)
def _encode_table(velocity_bins: int) -> np.ndarray:
    velocities = np.arange(128)
    return (ONSET + np.maximum(velocities - 1, 0) * velocity_bins // 127).astype(np.uint8)


@lru_cache(maxsize=64)
def _decode_table(velocity_bins: int) -> np.ndarray:
    codes = _encode_table(velocity_bins)[1:]
    centres = [int(np.flatnonzero(codes == ONSET + i).mean()) + 1 for i in range(velocity_bins)]
    orphan = 64  # a held cell without an onset, which no reader writes, sounds mezzo-piano
    return np.array([0, orphan, *centres], np.uint8)


@dataclass(frozen=True)
class Vocabulary:
    """What a cell can hold: silent, held and `velocity_bins` onsets, or just off and on."""

    velocity_bins: int = 16
    binary: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.velocity_bins <= 127:
            raise ValueError(f"velocity_bins must be 1 to 127, not {self.velocity_bins}")

    @classmethod
    def of(cls, config: "ModelConfig") -> "Vocabulary":
        """The vocabulary that a model's config describes."""
        return cls(binary=True) if config.vocabulary == "binary" else cls(config.velocity_bins)

    @property
    def size(self) -> int:
        """Number of codes."""
        return 2 if self.binary else ONSET + self.velocity_bins

    @property
    def codes(self) -> np.ndarray:
        """Onset code of every velocity, u8 [128]; entry 0 stands for velocity 1."""
        return np.ones(128, np.uint8) if self.binary else _encode_table(self.velocity_bins)

    @property
    def velocities(self) -> np.ndarray:
        """Velocity of every code, u8 [size]: 0 for silent, the middle of its bin for an onset."""
        return np.array([0, BINARY_VELOCITY], np.uint8) if self.binary else _decode_table(self.velocity_bins)


@dataclass(frozen=True)
class Note:
    """One note on the grid: MIDI pitch 0..127, start and length in steps, velocity 1..127."""

    pitch: int
    start_step: int
    duration_steps: int
    velocity: int


@dataclass(frozen=True)
class Roll:
    """A canvas u8 [128, T] of cell codes with its grid and tempo; `downbeats` are steps of bar starts, if known.

    `kept` bool [128, T] are the cells that were known before the others were written, if any were. `voices` are the
    canvases u8 [128, T] of a piece in several voices, by name and in order; `cells` then hold all their notes.
    `beat_units` are the denominators of the time signatures of bars by their length in steps, such as 8 of 6/8 by 12;
    4 if nothing is said.
    """

    cells: np.ndarray
    vocabulary: Vocabulary = Vocabulary()
    steps_per_beat: int = 4
    steps_per_bar: int = 16
    tempo_bpm: float = 120.0
    title: str = ""
    downbeats: tuple[int, ...] | None = None
    kept: np.ndarray | None = None
    voices: Mapping[str, np.ndarray] | None = None
    beat_units: Mapping[int, int] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Width T of the canvas in steps."""
        return self.cells.shape[1]

    @property
    def notes(self) -> list[Note]:
        """The notes that the cells stand for."""
        return cells_to_notes(self.cells, self.vocabulary)


@dataclass(frozen=True)
class NoteArrays:
    """Notes as columns of equal length: pitch, start and end (exclusive) in steps, velocity."""

    pitch: np.ndarray
    start: np.ndarray
    end: np.ndarray
    velocity: np.ndarray


@dataclass(frozen=True)
class Placed:
    """A canvas made of notes: `merged` notes are no longer notes of their own, `cut` ones end at the next onset."""

    cells: np.ndarray
    merged: int
    cut: int


def place(notes: NoteArrays, steps: int, vocabulary: Vocabulary) -> Placed:
    """Write notes on an empty canvas u8 [128, steps], one note per pitch at a time.

    Notes of one pitch that begin on one step become one, with the longest end and the highest velocity. A note that
    still sounds when its pitch is struck again ends there. Ends beyond the canvas are cut off.
    """
    order = np.lexsort((notes.start, notes.pitch))
    pitch, start = notes.pitch[order], notes.start[order]
    cells = np.zeros((PITCHES, steps), np.uint8)
    if not len(order):
        return Placed(cells, 0, 0)
    first = np.flatnonzero(np.r_[True, (np.diff(pitch) != 0) | (np.diff(start) != 0)])
    end = np.minimum(np.maximum.reduceat(notes.end[order], first), steps)
    velocity = np.maximum.reduceat(notes.velocity[order], first)
    pitch, start = pitch[first], start[first]
    next_start = np.where(np.r_[np.diff(pitch) == 0, False], np.r_[start[1:], 0], steps)
    cut = int(np.count_nonzero(end > next_start))
    end = np.minimum(end, next_start)
    edges = np.zeros((PITCHES, steps + 1), np.uint8)  # wraps: 255 counts as -1
    edges[pitch, start] += 1
    edges[pitch, end] -= 1
    np.cumsum(edges[:, :-1], axis=1, dtype=np.uint8, out=cells)
    written = len(first)
    if vocabulary.binary:
        written = int(np.count_nonzero(np.diff(cells, axis=1, prepend=np.uint8(0)) == 1))
    else:
        cells[pitch, start] = vocabulary.codes[velocity]
    return Placed(cells, len(order) - written, cut)


def note_arrays(cells: np.ndarray, vocabulary: Vocabulary) -> NoteArrays:
    """Notes of a canvas u8 [P, T], by pitch, then start.

    A held cell with nothing before it starts a note; in a binary canvas every run is a note.
    """
    pitches, steps = cells.shape
    padded = np.zeros((pitches, steps + 1), np.uint8)
    padded[:, :steps] = cells
    flat = padded.ravel()
    begins = (flat == HELD) & (np.r_[np.uint8(0), flat[:-1]] == SILENT)
    if not vocabulary.binary:
        begins |= flat >= ONSET
    starts = np.flatnonzero(begins)
    stops = np.flatnonzero(flat != HELD)
    ends = stops[np.searchsorted(stops, starts, side="right")] if len(starts) else starts
    pitch, start = np.divmod(starts, steps + 1)
    return NoteArrays(pitch, start, start + ends - starts, vocabulary.velocities[flat[starts]].astype(np.int64))


def merge(voices: Iterable[np.ndarray], vocabulary: Vocabulary) -> np.ndarray:
    """One canvas u8 [128, T] with the notes of several voices u8 [P, T] (see `place`); there must be one at least."""
    canvases = list(voices)
    columns = [note_arrays(cells, vocabulary) for cells in canvases]
    pitch, start, end, velocity = (
        np.concatenate([getattr(notes, name) for notes in columns]) for name in ("pitch", "start", "end", "velocity")
    )
    return place(NoteArrays(pitch, start, end, velocity), canvases[0].shape[1], vocabulary).cells


def top_line(cells: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """The notes of a canvas, whole, that are the highest to sound where they begin: u8 [P, T].

    So a note is kept to its end even if a higher one begins meanwhile, and one that is left on top by the end of
    another is not part of the line.
    """
    notes = note_arrays(cells, vocabulary)
    highest = cells.shape[0] - 1 - (cells[::-1] > 0).argmax(0)
    line = np.zeros_like(cells)
    for index in np.flatnonzero(notes.pitch == highest[notes.start]).tolist():
        area = (notes.pitch[index], slice(notes.start[index], notes.end[index]))
        line[area] = cells[area]
    return line


def cells_to_notes(cells: np.ndarray, vocabulary: Vocabulary) -> list[Note]:
    """Notes of a canvas u8 [P, T], sorted by start, then pitch (see `note_arrays`)."""
    notes = note_arrays(cells, vocabulary)
    order = np.lexsort((notes.pitch, notes.start))
    columns = (notes.pitch, notes.start, notes.end - notes.start, notes.velocity)
    return [Note(*row) for row in zip(*(column[order].tolist() for column in columns), strict=True)]


def intensity(cells: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Brightness u8 [P, T] of a canvas: 0 where silent, else twice the velocity of the sounding note (2..254)."""
    if vocabulary.binary:
        return (cells != SILENT).astype(np.uint8) * np.uint8(2 * BINARY_VELOCITY)
    changes = np.where(cells != HELD, np.arange(cells.shape[1]), 0)
    onsets = np.take_along_axis(cells, np.maximum.accumulate(changes, axis=1), axis=1)
    # A held cell after silence is an orphan: it keeps its own code.
    codes = np.where((cells == HELD) & (onsets >= ONSET), onsets, cells)
    return vocabulary.velocities[codes] * np.uint8(2)


def crop(cells: np.ndarray, start: int, stop: int, vocabulary: Vocabulary) -> np.ndarray:
    """A copy of steps start..stop of a canvas u8 [P, T]; notes held across the left edge begin there.

    They keep their velocity. A binary canvas is just sliced.
    """
    part = cells[:, start:stop].copy()
    if vocabulary.binary or start <= 0 or not part.size:
        return part
    rows = np.flatnonzero(part[:, 0] == HELD)
    before = cells[rows, start - 1 :: -1]
    onsets = before[np.arange(len(rows)), np.argmax(before != HELD, axis=1)]
    part[rows, 0] = np.where(onsets >= ONSET, onsets, vocabulary.codes[vocabulary.velocities[HELD]])
    return part
