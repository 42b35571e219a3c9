"""Form: how bars return, and the plan that says so of each bar before it is written.

Legend: B bars, X whatever describes a bar, S steps per bar, P pitches, T steps, K = FORM_ROWS rows of a plan.
"""

import re
from dataclasses import dataclass

import numpy as np

from varcli.errors import UsageError
from varcli.pianoroll.config import CLOSENESS, FORM_ROWS
from varcli.pianoroll.roll import ONSET

SAME, VARIED = 2, 1
"""Classes of closeness of a section that returns, and of one that returns varied."""
_AS_GOOD = 0.05  # a bar so much less like is as good an answer to what returns


def whole_bars(given: np.ndarray, steps_per_bar: int) -> np.ndarray:
    """The steps of bars that are given as a whole, bool [T], of given cells bool [..., T]."""
    steps = given.shape[-1]
    bar = np.arange(steps) // steps_per_bar
    return (np.bincount(bar, ~given.reshape(-1, steps).all(0)) == 0)[bar]


def likeness(one_BX: np.ndarray, other_BX: np.ndarray | None = None) -> np.ndarray:
    """Jaccard index of sets, bool [B, X] each: f64 [B, B], entry (i, j) compares row i with row j of the other.

    NaN where either set is empty.
    """
    one = one_BX.reshape(len(one_BX), -1).astype(np.float32)
    other = one if other_BX is None else other_BX.reshape(len(other_BX), -1).astype(np.float32)
    shared = (one @ other.T).astype(float)
    sizes = one.sum(1, dtype=float), other.sum(1, dtype=float)
    either = sizes[0][:, None] + sizes[1] - shared
    filled = (sizes[0][:, None] > 0) & (sizes[1] > 0)
    return np.divide(shared, either, out=np.full_like(shared, np.nan), where=filled)


@dataclass(frozen=True)
class Plan:
    """What a plan says of each bar: how many bars back the one is that returns, i64 [B], 0 where the bar is new.

    `closeness` i64 [B] is the class of their likeness, 0 to 3, by the bounds CLOSENESS; 0 where the bar is new.
    """

    bars_back: np.ndarray
    closeness: np.ndarray

    @classmethod
    def of(cls, canvas: np.ndarray, steps_per_bar: int) -> "Plan":
        """The plan of a canvas u8 [P, T] in which a bar starts at step 0: of the bars in it and nothing else.

        A bar returns if at least CLOSENESS[0] of its onsets and those of an earlier bar, at most K - 1 bars back, are
        the same. Of earlier bars that are about as like, the one as many bars back as that of the bar before is
        chosen, so that passages return as a whole; else the nearest.
        """
        like = np.nan_to_num(likeness(_onsets(canvas, steps_per_bar)))
        bars_back, closeness = np.zeros((2, len(like)), np.int64)
        for bar in range(1, len(like)):
            by_lag = like[bar, max(0, bar - FORM_ROWS + 1) : bar][::-1]  # entry i: i + 1 bars back
            best = by_lag.max()
            if best < CLOSENESS[0]:
                continue
            good = np.flatnonzero(by_lag >= best - _AS_GOOD) + 1
            lag = bars_back[bar - 1] if bars_back[bar - 1] in good else good[0]
            bars_back[bar] = lag
            closeness[bar] = max(0, np.searchsorted(CLOSENESS, by_lag[lag - 1], side="right") - 1)
        return cls(bars_back, closeness)

    @classmethod
    def read(cls, cells: np.ndarray, steps_per_bar: int) -> "Plan":
        """What cells u8 [K, T] say, as `cells` writes it; a bar of which they say nothing is new."""
        by_bar = _bars(cells, steps_per_bar).max(1)
        bars_back = by_bar.argmax(1)
        said = np.take_along_axis(by_bar, bars_back[:, None], 1)[:, 0].astype(np.int64)
        return cls(bars_back, np.where(bars_back > 0, np.maximum(said - ONSET, 0), 0))

    def known(self, given: np.ndarray, steps_per_bar: int) -> np.ndarray:
        """Where the plan is known from given cells bool [..., T]: bool [T], true in bars that are given as a whole, if
        what they return from is too."""
        whole = whole_bars(given, steps_per_bar)
        back = self.bars_back.repeat(steps_per_bar)[: len(whole)] * steps_per_bar
        return whole & whole[np.arange(len(whole)) - back]

    def cells(self, steps: int, steps_per_bar: int) -> np.ndarray:
        """The plan as cells u8 [K, steps]: in the last step of each bar, an onset in the row of `bars_back`.

        Its velocity is the closeness. The last bar may be cut short.
        """
        cells = np.zeros((FORM_ROWS, steps), np.uint8)
        last = np.minimum(np.arange(1, len(self.bars_back) + 1) * steps_per_bar, steps) - 1
        cells[self.bars_back, last] = ONSET + self.closeness
        return cells


@dataclass(frozen=True)
class Sections:
    """A form such as AABA' by sections of equal length: the plan of its bars, and which of them return, bool [B].

    In the others, `most_back` i64 [B] bars lie between a bar and the beginning of its section.
    """

    plan: Plan
    returns: np.ndarray
    most_back: np.ndarray

    @classmethod
    def parse(cls, text: str, bars: int) -> "Sections":
        """Read a form over so many bars: a capital letter a section, with ' behind it where it returns varied.

        A section returns to the last one of its letter. Raises UsageError for what is no form, and for one whose
        sections do not share out the bars.
        """
        names = re.findall(r"([A-Z])('?)", text)
        if not names or "".join(map("".join, names)) != text:
            raise UsageError(f"--form {text!r}: not letters such as AABA or ABA'", "for example --form AABA")
        each, rest = divmod(bars, len(names))
        if rest or not each:
            raise UsageError(
                f"--form {text}: {bars} bars do not make {len(names)} sections of equal length",
                f"give a width of a multiple of {len(names)} bars",
            )
        last: dict[str, int] = {}
        back, closeness = np.zeros((2, len(names)), np.int64)
        for section, (letter, prime) in enumerate(names):
            back[section] = (section - last.get(letter, section)) * each
            closeness[section] = (VARIED if prime else SAME) if letter in last else 0
            last[letter] = section
        if back.max() >= FORM_ROWS:
            raise UsageError(
                f"--form {text}: a section returns {back.max()} bars later; {FORM_ROWS - 1} is the most",
                "give a smaller --target-width",
            )
        back, closeness = back.repeat(each), closeness.repeat(each)
        return cls(Plan(back, closeness), back > 0, np.arange(bars) % each)


def _onsets(canvas: np.ndarray, steps_per_bar: int) -> np.ndarray:
    """Where notes of a canvas u8 [P, T] begin, bool [B, S, P]."""
    return _bars(canvas, steps_per_bar) >= ONSET


def _bars(canvas: np.ndarray, steps_per_bar: int) -> np.ndarray:
    """A canvas [P, T] by bars, [B, S, P], the last one filled up with silence."""
    rows, steps = canvas.shape
    bars = -(-steps // steps_per_bar)
    return np.pad(canvas, ((0, 0), (0, bars * steps_per_bar - steps))).T.reshape(bars, steps_per_bar, rows)
