"""Metre: where the bars of a piece lie on a canvas of columns, whatever their length.

Every bar begins at the first step of a column. A shorter one leaves the rest of its column beyond the bar, where
nothing is decided; a longer one takes several columns. Steps of a piece are those of its file, rolls and prompts; steps
of the canvas are those of models that know metre.

Legend: R rows, T steps of a piece, K steps of its canvas, C columns of w steps.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from varcli.errors import UsageError
from varcli.pianoroll.roll import HELD


@dataclass(frozen=True)
class BarColumns:
    """A piece of `steps` steps on columns `width` steps wide, of each of which the first `lengths` lie in a bar.

    `begins` says in which columns a bar begins, `eighths` in which one lies that is told in eighths, or shorter notes.
    The last bar may be cut short: it has the length that it would have, and the canvas ends where the piece does.
    """

    width: int
    lengths: tuple[int, ...]
    begins: tuple[bool, ...]
    eighths: tuple[bool, ...]
    steps: int

    @classmethod
    def of(
        cls,
        steps: int,
        width: int,
        steps_per_beat: int,
        steps_per_bar: int,
        downbeats: Sequence[int] = (),
        beat_units: Mapping[int, int] | None = None,
    ) -> "BarColumns":
        """The columns of a piece whose bars begin at `downbeats`, and at step 0; without any, each `steps_per_bar`.

        `beat_units` are those of `Roll`; bars of other lengths are told as those of `steps_per_bar`.
        """
        starts = sorted({0, *(downbeats if len(downbeats) else range(0, steps, steps_per_bar))})
        starts = [int(step) for step in starts if 0 <= step < steps]
        bars = [after - before for before, after in pairwise(starts)]
        rest = steps - starts[-1]
        # How long the last bar would be is not told: as long as the one before it, or the usual one.
        bars.append(next((bar for bar in (*bars[-1:], steps_per_bar) if bar >= rest), rest))
        parts = [shares(bar, width, steps_per_beat) for bar in bars]
        lengths = [part for bar in parts for part in bar]
        begins = [number == 0 for bar in parts for number in range(len(bar))]
        units = beat_units or {}
        usual = units.get(steps_per_bar, 4)
        told = [units.get(bar, usual) >= 8 for bar, part in zip(bars, parts, strict=True) for _ in part]
        count = int(np.searchsorted(np.cumsum(lengths), steps)) + 1
        return cls(width, tuple(lengths[:count]), tuple(begins[:count]), tuple(told[:count]), steps)

    @cached_property
    def starts(self) -> np.ndarray:
        """Step of the piece at which each column begins, i64 [C]."""
        return np.cumsum((0, *self.lengths[:-1]))

    @property
    def metres(self) -> np.ndarray:
        """What models are told of each column, i64 [C]: its steps in the bar, and `width` more if told in eighths."""
        return np.array(self.lengths) + self.width * np.array(self.eighths)

    @property
    def canvas_steps(self) -> int:
        """K, the steps of the canvas."""
        return (len(self.lengths) - 1) * self.width + self.steps - int(self.starts[-1])

    @cached_property
    def inside(self) -> np.ndarray:
        """Which steps of the canvas lie in a bar, bool [K]."""
        column, place = np.divmod(np.arange(self.canvas_steps), self.width)
        return place < np.array(self.lengths)[column]

    @cached_property
    def source(self) -> np.ndarray:
        """The step of the piece that each step of the canvas is, i64 [K]; beyond a bar, its last one."""
        return np.cumsum(self.inside) - 1

    def piece_step(self, canvas_step: int) -> int:
        """The first step of the piece that is not before a step of the canvas."""
        return int(np.count_nonzero(self.inside[:canvas_step]))

    def crop(self, first: int, count: int) -> "BarColumns":
        """So many columns of the canvas, from `first` on, as a piece of their own, which begins at its `starts`."""
        stop = first + count
        end = int(self.starts[stop]) if stop < len(self.lengths) else self.steps
        part, steps = slice(first, stop), end - int(self.starts[first])
        return BarColumns(self.width, self.lengths[part], self.begins[part], self.eighths[part], steps)

    def spread(self, cells: np.ndarray) -> np.ndarray:
        """Cells [R, T] of a piece, codes or bools, on its canvas [R, K].

        Beyond a bar a row is held where it sounds in the bar's last step, silent where it does not. So what is held at
        the next bar line has always something before it, and what lies beyond a bar tells no more than the bar.
        """
        canvas = cells[:, self.source]
        canvas[:, ~self.inside] = np.minimum(canvas[:, ~self.inside], HELD)
        return canvas

    def spread_given(self, given: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which cells of a canvas are given, bool [R, K], and their codes u8 [R, K], with those beyond the bars.

        These follow from the last step of their bar, if that is given; else they are known to be held where what is
        held in the next bar's first step is given.
        """
        beyond = np.flatnonzero(~self.inside)
        last = np.flatnonzero(self.inside)[self.source[beyond]]
        following = (beyond // self.width + 1) * self.width
        known, goes_on = given[:, last], given[:, following] & (codes[:, following] == HELD)
        given, codes = given.copy(), codes.copy()
        given[:, beyond] = known | goes_on
        codes[:, beyond] = np.where(known, codes[:, last] > 0, goes_on) * HELD
        return given, codes

    def gather(self, nats: np.ndarray) -> np.ndarray:
        """Sums [R, T] of numbers [R, K] over each step of the piece and what lies beyond the bar that it ends."""
        return np.add.reduceat(nats, np.flatnonzero(self.inside), axis=1)


def parse_metre(text: str, steps_per_beat: int) -> tuple[int, int]:
    """The steps of a bar of a metre such as 3/4, and its denominator; raises UsageError for what is none."""
    match = re.fullmatch(r"([1-9]\d?)/(1|2|4|8|16|32|64)", text.strip())
    if match is None:
        raise UsageError(f"--metre {text!r}: not beats and their note value", "for example --metre 3/4, or 6/8")
    steps, rest = divmod(4 * steps_per_beat * int(match[1]), int(match[2]))
    if rest:
        raise UsageError(
            f"--metre {text}: its bar is no whole number of steps, {steps_per_beat} to a quarter note", "such as 3/4"
        )
    return steps, int(match[2])


def shares(bar: int, width: int, steps_per_beat: int) -> tuple[int, ...]:
    """A bar of so many steps shared out over columns, in whole beats and as evenly as these allow.

    A beat is a quarter note, or a dotted one, an eighth or a step where the bar is no multiple of it.
    """
    beats = (steps_per_beat, steps_per_beat * 3 // 2, steps_per_beat // 2, 1)
    beat = next(beat for beat in beats if 0 < beat <= width and bar % beat == 0)
    count, most = bar // beat, width // beat
    columns = -(-count // most)
    return tuple(beat * (count // columns + (number < count % columns)) for number in range(columns))
