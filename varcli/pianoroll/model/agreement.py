"""How well the surroundings of two columns of a canvas agree, by which candidates to copy from are found.

Shapes: B canvases, C columns of level 0, X cells of a column.
"""

import torch
from torch import Tensor

from varcli.pianoroll.constants import FAST, LONGEST_RUN, REACH, SLOW


def _alike(one_BCX: Tensor, other_BCX: Tensor, empty: float) -> tuple[Tensor, Tensor]:
    """How alike two patterns are (Dice's coefficient; `empty` where both are), and whether they are equal, [B, C, C].

    Two empty columns agree a little where that is known; where empty may mean unknown, it counts for nothing.
    """
    joint = one_BCX @ other_BCX.transpose(1, 2)
    both = one_BCX.sum(-1)[:, :, None] + other_BCX.sum(-1)[:, None]
    return torch.where(both > 0, 2 * joint / both.clamp(min=1), empty), 2 * joint == both


def agreement(pattern_BCX: Tensor, past_only: bool) -> tuple[Tensor, Tensor, Tensor]:
    """How well the surroundings of two columns agree, f32 [B, C, C] each: in the long view, in the short, and how many
    columns on end are equal (only of the past)."""
    alike, same = _alike(pattern_BCX, pattern_BCX, 0.25 if past_only else 0.0)
    sums = _Agreement(alike)
    for j in sums.lags():
        sums.add_before(j, alike, same if past_only else torch.zeros_like(same))
        if not past_only:
            sums.add_after(j, alike)
    if not past_only:
        sums.add(slice(None), slice(None), alike, 1.0, 1.0)
    return sums.slow, sums.fast, sums.run


def agreement_with_given(pattern_BCX: Tensor, given_BCX: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same for columns that know all before them, and of themselves and what comes after what is given.

    Whether a column d is known to column c as a whole, or as far as it is given, depends on which comes first.
    """
    given_pattern = pattern_BCX * given_BCX
    whole = given_BCX.all(2)[:, None]
    full_full, same = _alike(pattern_BCX, pattern_BCX, 0.25)
    full_given, same_given = _alike(pattern_BCX, given_pattern, 0.0)
    given_full, _ = _alike(given_pattern, pattern_BCX, 0.0)
    given_given, _ = _alike(given_pattern, given_pattern, 0.0)
    place = torch.arange(pattern_BCX.shape[1], device=pattern_BCX.device)
    distance = place[None] - place[:, None]  # columns from the first to the second
    sums = _Agreement(full_full)
    for j in sums.lags():
        past = distance < j
        same_back = torch.where(past, same, same_given & whole)
        sums.add_before(j, torch.where(past, full_full, full_given), same_back)
        sums.add_after(j, torch.where(distance < -j, given_full, given_given))
    own = torch.where(distance < 0, given_full, given_given)
    sums.add(slice(None), slice(None), own, 1.0, 1.0)
    return sums.slow, sums.fast, sums.run


class _Agreement:
    """Sums of how alike columns around two columns are, f32 [B, C, C]: `slow`, `fast`, and equal ones on end, `run`."""

    def __init__(self, like: Tensor) -> None:
        self.slow, self.fast, self.run = (torch.zeros_like(like) for _ in range(3))
        self._on_end = torch.ones_like(like)
        self._columns = like.shape[1]

    def lags(self) -> range:
        """Distances in columns that are compared, from the nearest on."""
        return range(1, min(max(REACH, LONGEST_RUN), self._columns - 1) + 1)

    def add(self, to: slice, source: slice, alike: Tensor, slow: float, fast: float) -> None:
        """Add what is alike at the columns `source`, weighted, to the columns `to`."""
        self.slow[:, to, to] += slow * alike[:, source, source]
        self.fast[:, to, to] += fast * alike[:, source, source]

    def add_before(self, j: int, alike: Tensor, same: Tensor) -> None:
        """Take the columns j before into account."""
        here, there = slice(j, None), slice(None, self._columns - j)
        if j <= REACH:
            self.add(here, there, alike, SLOW ** (j - 1), FAST ** (j - 1))
        self._on_end[:, here, here] *= same[:, there, there]
        self._on_end[:, :j] = 0
        self._on_end[:, :, :j] = 0
        self.run += self._on_end

    def add_after(self, j: int, alike: Tensor) -> None:
        """Take the columns j after into account."""
        if j <= REACH:
            self.add(slice(None, self._columns - j), slice(j, None), alike, SLOW ** (j - 1), FAST ** (j - 1))
