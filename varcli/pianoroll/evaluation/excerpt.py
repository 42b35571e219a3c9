"""A stretch of music laid out for measuring: its notes, the outer voices, bars and key.

Legend: N notes by start, then pitch; P pitches, T steps up to the end of the bar of the last note, B bars, S steps per
bar, C the 12 pitch classes.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from varcli.pianoroll.evaluation.music_metrics import Metre
from varcli.pianoroll.harmony import Key, key_of
from varcli.pianoroll.roll import PITCHES, Vocabulary, note_arrays


@dataclass(frozen=True)
class Excerpt:
    """Notes as columns i64 [N], where any sounds, bool [P, T], and the steps that the canvas had."""

    pitch: np.ndarray
    start: np.ndarray
    end: np.ndarray
    velocity: np.ndarray
    sounding_PT: np.ndarray
    canvas_steps: int
    metre: Metre

    @classmethod
    def of(cls, cells: np.ndarray, vocabulary: Vocabulary, metre: Metre, steps: int | None = None) -> "Excerpt":
        """That of a canvas u8 [P, T] whose step 0 starts a bar; it counts as `steps` long if it is shorter."""
        notes = note_arrays(cells, vocabulary)
        order = np.lexsort((notes.pitch, notes.start))
        pitch, start, stop, velocity = (
            column[order] for column in (notes.pitch, notes.start, notes.end, notes.velocity)
        )
        bar = metre.steps_per_bar
        end = int(stop.max(initial=1))
        sounding = np.zeros((PITCHES, -(-end // bar) * bar), bool)
        sounding[: len(cells), : min(end, cells.shape[1])] = cells[:, :end] > 0
        return cls(pitch, start, stop, velocity, sounding, max(cells.shape[1], steps or 0), metre)

    @property
    def bars(self) -> int:
        """B, up to the last note."""
        return self.sounding_PT.shape[1] // self.metre.steps_per_bar

    @property
    def bar(self) -> np.ndarray:
        """In which bar each note begins, i64 [N]."""
        return self.start // self.metre.steps_per_bar

    @property
    def place(self) -> np.ndarray:
        """At which step of its bar each note begins, i64 [N]."""
        return self.start % self.metre.steps_per_bar

    @cached_property
    def top(self) -> np.ndarray:
        """The top line: indices of the notes with none above them when they begin (the skyline)."""
        highest = PITCHES - 1 - np.argmax(self.sounding_PT[::-1], axis=0)
        return np.flatnonzero(self.pitch == highest[self.start])

    @cached_property
    def bass(self) -> np.ndarray:
        """The bass line: indices of the notes with none below them when they begin."""
        return np.flatnonzero(self.pitch == np.argmax(self.sounding_PT, axis=0)[self.start])

    @cached_property
    def groups(self) -> np.ndarray:
        """Steps at which notes begin, i64 [G], each once."""
        return np.unique(self.start)

    @cached_property
    def chroma_BSC(self) -> np.ndarray:
        """How many pitches of each class sound, f64 [B, S, C]."""
        octaves = np.zeros((132, self.sounding_PT.shape[1]))
        octaves[:PITCHES] = self.sounding_PT
        by_class = octaves.reshape(11, 12, -1).sum(0)
        return by_class.T.reshape(self.bars, self.metre.steps_per_bar, 12)

    @cached_property
    def key(self) -> Key:
        """The key of all of it, pitch classes weighed by how long they sound."""
        return key_of(self.chroma_BSC.sum((0, 1)))

    @cached_property
    def onsets_BSP(self) -> np.ndarray:
        """Where notes begin, bool [B, S, P]."""
        return self.struck(np.arange(len(self.pitch)))

    def struck(self, notes: np.ndarray) -> np.ndarray:
        """Where some of the notes (indices) begin, bool [B, S, P]."""
        onsets = np.zeros((self.bars, self.metre.steps_per_bar, PITCHES), bool)
        onsets[self.bar[notes], self.place[notes], self.pitch[notes]] = True
        return onsets


def entropy(counts: np.ndarray) -> float:
    """Of counts, in bits; NaN without any."""
    if not counts.sum():
        return float("nan")
    shares = counts[counts > 0] / counts.sum()
    return float(np.sum(shares * np.log2(1 / shares)))


def mean(values: np.ndarray) -> float:
    """The mean without what is undefined; NaN if nothing is defined."""
    known = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    return float(known.mean()) if known.size else float("nan")


def spread(values: np.ndarray) -> float:
    """The standard deviation; NaN of fewer than two values."""
    return float(values.std()) if len(values) > 1 else float("nan")


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's; 0 where either side does not change, NaN of fewer than three pairs."""
    if len(one) < 3:
        return float("nan")
    one, other = one - one.mean(), other - other.mean()
    size = np.sqrt((one**2).sum() * (other**2).sum())
    return float((one * other).sum() / size) if size > 0 else 0.0
