"""Scores of emitters: pairs by hand and by brute force, and every figure of small cases."""

import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varcli.emitters.evaluation import matching
from varcli.emitters.evaluation.matching import match_emitters
from varcli.emitters.evaluation.metrics import Scores, score
from varcli.emitters.table import EmitterTable


def table(*rows: tuple[float, ...], **columns: list[float]) -> EmitterTable:
    """Rows of frame, x, y, photons."""
    values = np.array(rows, float).reshape(-1, 4)
    bare = EmitterTable(values[:, 0].astype(np.int64), values[:, 1], values[:, 2], values[:, 3])
    return replace(bare, **{name: np.array(column, float) for name, column in columns.items()})


def scored(found: EmitterTable, truth: EmitterTable, **options: float) -> Scores:
    return score(found, truth, width_nm=4000, height_nm=3000, **options)


def test_counts_errors_and_efficiency_by_hand() -> None:
    truth = table((0, 1000, 1000, 500), (0, 2000, 1000, 1000), (1, 1000, 1000, 800), (2, 1500, 1500, 900))
    found = table((0, 1030, 1040, 550), (0, 1990, 1000, 900), (1, 1000, 1251, 800), (3, 1500, 1500, 900))
    scores = scored(found, truth)
    assert (scores.true_positives, scores.false_positives, scores.missed) == (2, 2, 2)
    assert (scores.precision, scores.recall, scores.jaccard) == (0.5, 0.5, pytest.approx(100 / 3))
    assert scores.rmse_nm == pytest.approx(math.sqrt((30**2 + 40**2 + 10**2) / 2))
    assert scores.rmse_axis_nm == pytest.approx(scores.rmse_nm / math.sqrt(2))
    assert scores.efficiency == pytest.approx(100 - math.hypot(200 / 3, scores.rmse_nm))
    assert (scores.bias_x_nm, scores.bias_y_nm) == (pytest.approx(10), pytest.approx(20))
    assert scores.photon_ratio == pytest.approx((1.1 + 0.9) / 2)
    assert math.isnan(scores.within_1_sd) and math.isnan(scores.probability_error) and math.isnan(scores.gridding_x)


def test_more_pairs_beat_nearer_ones() -> None:
    truth = table((0, 1000, 1000, 1), (0, 1300, 1000, 1))
    found = table((0, 1060, 1000, 1), (0, 840, 1000, 1))
    assert scored(found, truth).true_positives == 2


def test_border_goes_by_the_true_position_of_pairs_and_by_the_own_of_others() -> None:
    truth = table((0, 440, 1000, 1), (0, 3500, 2560, 1))
    scores = scored(table((0, 460, 1000, 1)), truth)
    assert (scores.true_positives, scores.false_positives, scores.missed) == (0, 0, 0)
    assert scored(table((0, 449, 2000, 1), (0, 451, 2000, 1)), truth).false_positives == 1


def test_dim_emitters_are_neither_missed_nor_hit() -> None:
    truth = table((0, 1000, 1000, 100), (0, 2000, 1000, 900))
    found = table((0, 1000, 1000, 100), (0, 3000, 1000, 100))
    scores = scored(found, truth, least_photons=250)
    assert (scores.true_positives, scores.false_positives, scores.missed) == (0, 1, 1)
    assert scores.efficiency == 0 and math.isnan(scores.rmse_nm)


def test_said_deviations_probability_and_gridding() -> None:
    truth = table(*[(0, 1000 + 500 * i, 1000, 1) for i in range(4)])
    found = table(
        *[(0, 1000 + 500 * i + e, 1000 + e, 1) for i, e in enumerate((1, 5, 15, 25))],
        (0, 2250, 2000, 1),
        sd_x_nm=[10] * 5,
        sd_y_nm=[10] * 5,
        probability=[0.95, 0.95, 0.91, 0.99, 0.35],
    )
    scores = scored(found, truth, pixel_size_nm=500)
    assert (scores.within_1_sd, scores.within_2_sd) == (0.5, 0.75)
    assert scores.z_std_robust == pytest.approx(1.4826)
    assert scores.probability_error == pytest.approx((4 * 0.05 + 0.35) / 5)
    phases = np.exp(2j * np.pi * np.array([1, 5, 15, 25, 250]) / 500)
    assert scores.gridding_x == pytest.approx(abs(phases.mean()))


def test_empty_tables_have_no_pairs() -> None:
    nothing, one = table(), table((0, 1000, 1000, 1))
    assert scored(nothing, nothing).efficiency == 0
    assert (scored(nothing, one).missed, scored(one, nothing).false_positives) == (1, 1)


def best_by_brute_force(found: np.ndarray, true: np.ndarray, radius: float) -> tuple[int, float]:
    """Most pairs, then least summed distance, over all injective maps of the smaller side."""
    few, many = sorted((found, true), key=len)
    distance = np.hypot(*(few[:, None] - many[None]).transpose(2, 0, 1))
    best = (0, 0.0)
    for order in permutations(range(len(many)), len(few)):
        pairs = [distance[i, j] for i, j in enumerate(order) if distance[i, j] <= radius]
        best = max(best, (len(pairs), -sum(pairs)))
    return best[0], -best[1]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 10**6), st.booleans())
def test_clusters_give_the_best_matching_of_the_whole(n_found: int, n_true: int, seed: int, sparse: bool) -> None:
    generator = np.random.default_rng(seed)
    found, true = generator.uniform(0, 100, (n_found, 2)), generator.uniform(0, 100, (n_true, 2))
    frames = [np.full(n, 3) for n in (n_found, n_true)]
    with pytest.MonkeyPatch.context() as patch:
        if sparse:
            patch.setattr(matching, "_DENSE_CELLS", 0)
        i, j = match_emitters(frames[0], found, frames[1], true, 40.0)
    assert len(set(i)) == len(set(j)) == len(i)
    pairs, total = best_by_brute_force(found, true, 40.0)
    assert len(i) == pairs
    assert np.hypot(*(found[i] - true[j]).T).sum() == pytest.approx(total)


def test_frames_are_kept_apart() -> None:
    place = np.full((2, 2), 1e4)
    i, j = match_emitters(np.array([5, 10**7]), place, np.array([10**7, 6]), place, 250.0)
    assert (i.tolist(), j.tolist()) == ([1], [0])
