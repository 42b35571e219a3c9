"""The classifier: it tells what differs and not what is alike, and never judges a piece by its own windows."""

from dataclasses import replace

import numpy as np
import pytest
from music_support import V, melody, piece, pieces

from varcli.pianoroll.evaluation import two_sample as module
from varcli.pianoroll.evaluation.features import Feature, FeatureTable
from varcli.pianoroll.evaluation.music_metrics import Metre
from varcli.pianoroll.evaluation.two_sample import (
    FEWEST_PIECES,
    Fit,
    Sides,
    TwoSample,
    classifiers_of,
    classify,
    draw_windows,
    fit_forest,
    fit_logistic,
    separation,
    two_sample,
)
from varcli.pianoroll.evaluation.windows import bar_windows, first_step_windows


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TREES", 20)
    monkeypatch.setattr(module, "_REPEATS", 1)


def numbers(rng: np.random.Generator, shift: float, generated: int = 24, real: int = 90) -> tuple[np.ndarray, Sides]:
    """Eight features f64 [W, 8] of a window per generated and three per real piece; the first is shifted."""
    own = np.r_[np.arange(generated), np.repeat(np.arange(generated, generated + real), 3)]
    values = rng.normal(size=(generated + real, 8))[own] + 0.7 * rng.normal(size=(len(own), 8))
    values[own < generated, 0] += shift
    return values, Sides(own, generated)


def fit_means(values: np.ndarray, is_generated: np.ndarray, weights: np.ndarray, seed: int):
    """Rank along the line between the means of both sides: a classifier that takes no time."""
    one, other = (np.average(values[side], axis=0, weights=weights[side]) for side in (is_generated, ~is_generated))
    return lambda asked: asked @ (one - other)


@pytest.mark.parametrize("fit", [fit_forest, fit_logistic])
def test_what_differs_is_told_and_what_does_not_is_not(fit: Fit) -> None:
    values, sides = numbers(np.random.default_rng(0), 6.0, real=40)
    told = separation(values, sides, fit, np.random.default_rng(0))
    assert told.value > 0.95 and told.low > 0.85
    alike = separation(*numbers(np.random.default_rng(1), 0.0, real=40), fit, np.random.default_rng(0))
    assert 0.3 < alike.value < 0.7 and alike.low < 0.5 < alike.high


@pytest.mark.parametrize("shift", [0.0, 1.6])
def test_intervals_hold_what_they_say(shift: float) -> None:
    draws = []
    for seed in range(80):
        values, sides = numbers(np.random.default_rng(seed), shift)
        draws.append(separation(values, sides, fit_means, np.random.default_rng(seed)))
    mean = float(np.mean([one.value for one in draws]))
    assert mean == pytest.approx(0.5 if shift == 0 else 0.8, abs=0.03)
    assert 0.9 <= np.mean([one.low <= mean <= one.high for one in draws]) <= 0.995


def test_samples_that_are_all_told_leave_an_interval() -> None:
    told = separation(*numbers(np.random.default_rng(0), 40.0), fit_means, np.random.default_rng(0))
    assert told.value == told.high == 1 and 0.9 < told.low < 1


def test_no_piece_is_judged_by_its_own_windows() -> None:
    values, sides = numbers(np.random.default_rng(0), 0.0, real=40)
    values[:, 1] = sides.piece
    judged: list[float] = []

    def watch(known: np.ndarray, is_generated: np.ndarray, weights: np.ndarray, seed: int):
        def score(asked: np.ndarray) -> np.ndarray:
            assert not set(asked[:, 1]) & set(known[:, 1])
            judged.extend(asked[:, 1])
            return asked[:, 0]

        return score

    separation(values, sides, watch, np.random.default_rng(0))
    assert sorted(judged) == sorted(np.tile(values[:, 1], 3))


def test_a_mark_of_the_piece_does_not_help() -> None:
    """Windows of a piece are the same, and unlike all others: a classifier that had seen one would know the others."""
    sides = Sides(np.repeat(np.arange(48), 3), 24)
    mark = np.random.default_rng(2).normal(size=(48, 20))[sides.piece]
    assert separation(mark, sides, fit_forest, np.random.default_rng(0)).value == pytest.approx(0.5, abs=0.2)
    leaky = Sides(np.arange(len(mark)), 72)
    assert separation(mark, leaky, fit_forest, np.random.default_rng(0)).value > 0.9


def test_either_side_and_every_piece_weighs_the_same() -> None:
    sides = Sides(np.array([0, 0, 1, 2, 3, 3, 3, 4]), 2)
    weights = sides.weights
    assert weights.mean() == pytest.approx(1)
    assert weights[:3].sum() == pytest.approx(weights[3:].sum())
    assert weights[:2].sum() == pytest.approx(weights[2]) and weights[4:7].sum() == pytest.approx(weights[3])


def test_undefined_values_and_what_tells(quick: None) -> None:
    values, sides = numbers(np.random.default_rng(0), 4.0, real=30)
    values[::7, 0] = np.nan
    values[:, 1] = np.nan
    values[:, 2] = -values[:, 0]
    table = FeatureTable(tuple(Feature("ab"[number % 2], str(number)) for number in range(8)), values)
    *names, found = classify(table, sides, np.random.default_rng(0))
    assert isinstance(found, TwoSample)
    assert names == ["forest", "logistic regression", "a", "b"]
    assert [one.feature.name for one in found.features[:2]] == ["0", "2"] and len(found.features) == 7
    assert (found.features[0].higher, found.features[1].higher) == (True, False)
    assert found.features[0].strength == pytest.approx(found.features[1].strength) and found.features[0].strength > 0.9
    assert found.features[0].generated - found.features[0].reference == pytest.approx(4, abs=1)
    assert found.families["a"].value > 0.9 > 0.75 > found.families["b"].value
    assert found.windows == (24, 90) and found.pieces == (24, 30)


def test_windows_of_music(quick: None) -> None:
    real = bar_windows(pieces(30, 100), V, 64)
    chromatic = [piece(melody(seed, 64, scale=tuple(range(12)))) for seed in range(12)]
    ours = first_step_windows(chromatic, V, 64)
    *names, found = two_sample(ours, real, V, Metre(), 0)
    assert isinstance(found, TwoSample)
    assert tuple(names) == classifiers_of(ours, real, V)
    assert found.forest.value > 0.9 and found.logistic.value > 0.9
    assert found.features[0].feature.family in {"key", "chords", "melody"}
    assert found.families["velocity"].value < 0.75 < found.families["key"].value
    *_, again = two_sample(ours, real, V, Metre(), 0)
    assert again.forest == found.forest and again.families == found.families  # pyright: ignore
    *_, alike = two_sample(first_step_windows(pieces(12, 500), V, 64), real, V, Metre(), 0)
    assert alike.forest.low < 0.5 < alike.forest.high  # pyright: ignore


def test_few_windows_of_a_piece_and_few_pieces() -> None:
    long = [piece(melody(seed, 64 * 8)) for seed in range(FEWEST_PIECES)]
    windows = bar_windows(long, V, 64)
    drawn = draw_windows(windows, np.random.default_rng(0))
    assert [len(one) for one in drawn] == [3] * FEWEST_PIECES
    assert all(len({id(window.piece) for window in one}) == 1 for one in drawn)
    assert classifiers_of(windows, windows, V) and not classifiers_of(windows[: -len(windows) // 2], windows, V)
    many = [replace(windows[0], piece=replace(long[0], name=str(number))) for number in range(300)]
    assert len(draw_windows(many, np.random.default_rng(0))) == 200
