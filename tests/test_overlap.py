"""Overlaps of distributions: densities as scipy has them, areas as calculus has them, and degenerate cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri
from scipy.stats import gaussian_kde

from varcli.pianoroll.evaluation.overlap import (
    Profile,
    bandwidth,
    histogram_profile,
    interval,
    kernel_profile,
    mean_overlap,
    resample,
    resampled_overlaps,
)

RNG = np.random.default_rng(0)
TINY = 1e-9


def overlap(one: list[float] | np.ndarray, other: list[float] | np.ndarray, floor: float = TINY) -> float:
    return kernel_profile(np.asarray(one, float), np.asarray(other, float), floor).overlap


def test_densities_are_those_of_scipy() -> None:
    one, other = RNG.normal(0, 1, 30), RNG.gamma(2, 2, 200)
    profile = kernel_profile(one, other, TINY)
    spacing = profile.at[1] - profile.at[0]
    for values, shares in zip((one, other), profile.shares, strict=True):
        assert shares / spacing == pytest.approx(gaussian_kde(values)(profile.at), abs=2e-4)
    both = np.minimum(*(gaussian_kde(values)(profile.at) for values in (one, other)))
    assert profile.overlap == pytest.approx(both.sum() * spacing, abs=1e-3)


def test_the_area_under_two_bells() -> None:
    # Quantiles of two normal distributions one deviation apart share 2 * Phi(-1/2); the kernels widen both a little.
    bell = ndtri((np.arange(2000) + 0.5) / 2000)
    width = np.sqrt(1 + bandwidth(bell, TINY) ** 2)
    assert overlap(bell, bell + 1) == pytest.approx(2 * ndtr(-0.5 / width), abs=0.003)


def test_equal_and_distant_samples() -> None:
    values = RNG.normal(0, 1, 50)
    assert overlap(values, values) == pytest.approx(1)
    assert overlap(values, values + 100) == pytest.approx(0, abs=1e-6)


def test_metrics_that_never_change() -> None:
    assert overlap([3.0] * 50, [3.0] * 7, floor=0.5) == pytest.approx(1)
    assert overlap([3.0] * 50, [9.0] * 7, floor=0.5) == pytest.approx(0, abs=1e-6)
    assert overlap([3.0] * 50, [3.5] * 7, floor=0.5) == pytest.approx(2 * ndtr(-0.5), abs=1e-3)
    assert overlap([3.0], [3.0], floor=0.5) == pytest.approx(1)
    wide = RNG.normal(3, 1, 300)
    assert 0.2 < overlap([3.0] * 50, wide, floor=0.25) < overlap([3.0] * 50, wide, floor=1.0) < 1


def test_undefined_values_are_left_out_and_an_undefined_side_has_no_overlap() -> None:
    one, other = RNG.normal(0, 1, 20), RNG.normal(0.3, 1, 30)
    assert overlap(np.r_[one, np.nan, np.nan], other) == pytest.approx(overlap(one, other))
    for empty in ([np.nan, np.nan], []):
        assert np.isnan(overlap(empty, other))
        assert np.isnan(overlap(other, empty))
        assert np.isnan(overlap(empty, empty))
    nothing = kernel_profile(np.array([np.nan]), other, TINY)
    again = resampled_overlaps(nothing, resample(1, 20, RNG), resample(30, 20, RNG))
    assert np.isnan(again).all()
    assert np.isnan(interval(nothing.overlap, again).low)


def test_histograms_pool_the_notes_of_all_windows() -> None:
    one = np.array([[3, 1, 0], [3, 1, 0]])
    other = np.array([[1, 0, 1]])
    profile = histogram_profile(one, other, np.array([1, 2, 3]))
    assert profile.shares[0].tolist() == [0.75, 0.25, 0]
    assert profile.overlap == 0.5
    assert np.isnan(histogram_profile(one * 0, other, np.array([1, 2, 3])).overlap)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-5, 5, allow_subnormal=False), min_size=2, max_size=20, unique=True),
    st.lists(st.floats(-5, 5, allow_subnormal=False), min_size=2, max_size=20, unique=True),
    st.floats(-3, 3),
    st.floats(0.1, 10),
)
def test_it_is_a_share_that_knows_neither_order_nor_units(
    one: list[float], other: list[float], shift: float, factor: float
) -> None:
    found = overlap(one, other, floor=0.3)
    assert 0 <= found <= 1
    assert overlap(other, one, floor=0.3) == pytest.approx(found)
    moved = [np.array(values) * factor + shift for values in (one, other)]
    assert overlap(*moved, floor=0.3 * factor) == pytest.approx(found, abs=0.01)


def test_windows_are_drawn_again_with_replacement() -> None:
    drawn = resample(40, 500, np.random.default_rng(1))
    assert drawn.shape == (500, 40)
    assert np.all(drawn.sum(1) == 40)
    assert drawn.mean(0) == pytest.approx(np.ones(40), abs=0.2)
    assert drawn.max() > 2
    assert np.array_equal(drawn, resample(40, 500, np.random.default_rng(1)))


def test_resampled_overlaps_count_windows_as_often_as_they_are_drawn() -> None:
    one, other = RNG.normal(0, 1, 10), RNG.normal(1, 1, 15)
    profile = kernel_profile(one, other, TINY)
    all_once = resampled_overlaps(profile, np.ones((1, 10)), np.ones((1, 15)))
    assert all_once.tolist() == pytest.approx([profile.overlap])
    twice = np.zeros((1, 10))
    twice[0, 3] = 10
    alone = Profile(profile.at, profile.one[3:4], profile.other)
    assert resampled_overlaps(profile, twice, np.ones((1, 15))).tolist() == pytest.approx([alone.overlap])


def test_an_interval_holds_its_estimate_and_narrows_with_more_windows() -> None:
    widths = []
    for count in (20, 500):
        one, other = RNG.normal(0, 1, count), RNG.normal(0.5, 1, count)
        profile = kernel_profile(one, other, TINY)
        again = resampled_overlaps(profile, resample(count, 300, RNG), resample(count, 300, RNG))
        found = interval(profile.overlap, again)
        assert found.low < found.value < found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2
    assert interval(0.99, np.array([0.7, 0.8, 0.9])).high == 1
    assert interval(0.5, np.array([0.3, 0.3])).low == 0.5


def test_an_interval_holds_what_other_windows_give() -> None:
    # The overlap of another draw of the same size lies inside about as often as two noisy figures agree.
    held = 0
    for _ in range(40):
        one, again = RNG.normal(0, 1, 50), RNG.normal(0, 1, 50)
        other = RNG.normal(0.8, 1, 100)
        profile = kernel_profile(one, other, TINY)
        found = interval(profile.overlap, resampled_overlaps(profile, resample(50, 100, RNG), resample(100, 100, RNG)))
        held += found.low <= overlap(again, other) <= found.high
    assert held > 0.7 * 40


def test_the_mean_leaves_out_what_is_undefined() -> None:
    assert mean_overlap([0.5, float("nan"), 0.7]) == pytest.approx(0.6)
    assert np.isnan(mean_overlap([float("nan")]))
    assert np.isnan(mean_overlap([]))
