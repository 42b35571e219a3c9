"""Plans: which bars return, exactly, on pieces made for it."""

import numpy as np
import pytest

from varcli.pianoroll.form import Plan, likeness

BAR = 8


def bar_of(*onsets: tuple[int, int]) -> np.ndarray:
    """A bar u8 [128, BAR] with notes of two steps that begin at these (pitch, step)."""
    cells = np.zeros((128, BAR), np.uint8)
    for pitch, step in onsets:
        cells[pitch, step : step + 2] = (5, 1)[: BAR - step]
    return cells


A = bar_of((60, 0), (64, 2), (67, 4), (72, 6))
A2 = bar_of((60, 0), (64, 2), (67, 4), (71, 6))
B = bar_of((50, 0), (53, 2), (57, 4))
C = bar_of((40, 0), (41, 1))
SILENCE = bar_of()


def plan_of(*bars: np.ndarray) -> tuple[list[int], list[int]]:
    """Bars back and closeness of the plan of bars one after the other."""
    plan = Plan.of(np.concatenate(bars, axis=1), BAR)
    return plan.bars_back.tolist(), plan.closeness.tolist()


def test_aaba_comes_out_as_such() -> None:
    assert plan_of(A, A, B, A) == ([0, 1, 0, 2], [0, 3, 0, 3])


def test_closeness_is_how_much_of_the_bar_returns() -> None:
    three_of_five = [[A, A2], [bar_of((60, 0), (64, 2), (67, 4), (72, 6), (76, 6), (79, 6)), A]]
    assert likeness(np.stack([A >= 2, A2 >= 2]))[0, 1] == pytest.approx(0.6)
    assert plan_of(*three_of_five[0]) == ([0, 1], [0, 0])
    assert plan_of(*three_of_five[1]) == ([0, 1], [0, 1])  # 4 of 6
    assert plan_of(A, bar_of((60, 0), (64, 2), (20, 4), (21, 6))) == ([0, 0], [0, 0])  # 2 of 6


def test_of_bars_as_like_the_nearest_returns_unless_a_passage_goes_on() -> None:
    assert plan_of(A, A, A)[0] == [0, 1, 1]
    # The second half is the first: B, which was also a bar before, is said to be four bars back as A is.
    assert plan_of(A, C, B, B, A, C, B, B)[0] == [0, 0, 0, 1, 4, 4, 4, 4]
    assert plan_of(A, A2, A, A2)[0] == [0, 1, 2, 2]


def test_silent_bars_are_new_and_a_bar_may_be_cut_short() -> None:
    assert plan_of(SILENCE, SILENCE, A, SILENCE, A[:, :3]) == ([0, 0, 0, 0, 2], [0] * 5)


def test_a_plan_knows_only_the_bars_it_is_of() -> None:
    bars = [A, B, C, A, B, C]
    whole, part = Plan.of(np.concatenate(bars, 1), BAR), Plan.of(np.concatenate(bars[2:], 1), BAR)
    assert whole.bars_back.tolist() == [0, 0, 0, 3, 3, 3]
    assert part.bars_back.tolist() == [0, 0, 0, 3]


def test_no_bar_returns_from_farther_than_the_plan_reaches() -> None:
    between = [bar_of((20 + index, 0)) for index in range(47)]
    assert plan_of(A, *between[:46], A)[0][-1] == 47
    assert plan_of(A, *between, A)[0][-1] == 0


def test_plans_are_written_at_the_end_of_bars_and_read_again() -> None:
    plan = Plan.of(np.concatenate([A, A2, B, A[:, :5]], 1), BAR)
    cells = plan.cells(29, BAR)
    assert cells.shape == (48, 29) and cells.dtype == np.uint8
    where = [(int(row), int(step), int(cells[row, step])) for row, step in zip(*cells.nonzero(), strict=True)]
    assert sorted(where, key=lambda cell: cell[1]) == [(0, 7, 2), (1, 15, 2), (0, 23, 2), (2, 28, 3)]
    again = Plan.read(cells, BAR)
    assert np.array_equal(again.bars_back, plan.bars_back) and np.array_equal(again.closeness, plan.closeness)
    assert Plan.read(np.zeros((48, 16), np.uint8), BAR).bars_back.tolist() == [0, 0]
