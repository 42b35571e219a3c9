"""What nodes hear of the key: counted right, the same in every key, and never a leak."""

from typing import Any

import numpy as np
import pytest
import torch
from fractal_support import all_canvases, codes_of, follow, price, some_canvas, tiny

from varcli.config import load_config
from varcli.errors import UsageError
from varcli.pianoroll.constants import FEATURES, PITCH_CLASSES
from varcli.pianoroll.model.canvas import Canvas
from varcli.pianoroll.model.context import Context
from varcli.pianoroll.model.pitch_classes import count_pitch_classes, pitch_class_features

TONAL: dict[str, Any] = {"model": {"tonality": True}}


def features_by_class(counts_BCSK: torch.Tensor) -> torch.Tensor:
    """Features relative to each of the 12 pitch classes [B * C, K, FEATURES]."""
    B, C = counts_BCSK.shape[:2]
    column, pitch = (
        torch.arange(B * C)[:, None].expand(-1, PITCH_CLASSES),
        torch.arange(PITCH_CLASSES).expand(B * C, -1),
    )
    return pitch_class_features(counts_BCSK, column, pitch)


def by_hand(on: np.ndarray, width: int, column: int, reach: int, past_only: bool) -> np.ndarray:
    """Sounding cells of bool [P, T] per pitch class near a column and in all, [2, 12], one cell at a time."""
    counts = np.zeros((2, PITCH_CLASSES))
    for p, t in zip(*np.nonzero(on), strict=True):
        c = t // width
        if past_only and c >= column:
            continue
        counts[1, p % PITCH_CLASSES] += 1
        if abs(c - column) <= reach:
            counts[0, p % PITCH_CLASSES] += 1
    return counts


@pytest.mark.parametrize("past_only", [True, False])
def test_counts_pitch_classes_near_and_in_all(past_only: bool) -> None:
    on = np.random.default_rng(0).random((2, 30, 8 * 16)) < 0.1
    counted = count_pitch_classes(torch.from_numpy(on).view(2, 30, 8, 16), past_only=past_only).numpy()
    for canvas in range(2):
        for column in range(8):
            np.testing.assert_array_equal(counted[canvas, column], by_hand(on[canvas], 16, column, 4, past_only))


def test_a_transposed_past_is_heard_alike_from_the_transposed_pitch() -> None:
    on = torch.from_numpy(np.random.default_rng(1).random((1, 48, 2, 4)) < 0.3)
    on[:, 41:] = False
    plain = features_by_class(count_pitch_classes(on, past_only=True)).view(1, 2, PITCH_CLASSES, FEATURES)
    higher = features_by_class(count_pitch_classes(on.roll(7, 1), past_only=True)).view(1, 2, PITCH_CLASSES, FEATURES)
    torch.testing.assert_close(higher, plain.roll(7, 2))


@pytest.mark.parametrize("shapes", ["2x2>1x1", "4x1>2x1>1x1"])
def test_ar_probabilities_sum_to_one(shapes: str) -> None:
    model = tiny("ar", shapes, 4, **TONAL)
    assert np.exp(-price(model, all_canvases(4, 3, codes_of(model)))).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kinds", [("mar", "mar"), ("mar", "ar"), ("ar", "mar")])
def test_masked_probabilities_sum_to_one_in_a_fixed_order(kinds: tuple[str, str]) -> None:
    model = tiny(kinds, "2x2>1x1", 2, **TONAL)
    assert np.exp(-follow(model, all_canvases(2, 4, codes_of(model)))).sum() == pytest.approx(1, abs=1e-5)


def test_parallel_walk_equals_sequential_scoring() -> None:
    model = tiny("ar", "4x4>2x2>1x1", 8, notes=True, velocity_bins=3, **TONAL)
    canvas = some_canvas(model, 11)[None]
    np.testing.assert_allclose(price(model, canvas), follow(model, canvas), atol=1e-4)


def test_a_column_does_not_hear_itself_or_what_follows() -> None:
    model = tiny("ar", "4x4>1x1", 8, **TONAL)
    codes = torch.from_numpy(some_canvas(model, 16))[None]
    changed = codes.clone()
    changed[:, :, 8:] = 1 - changed[:, :, 8:]
    counts = [Context(model.config.model, Canvas(model.layout, c)).count_pitch_classes() for c in (codes, changed)]
    rows = [features_by_class(one).view(4, PITCH_CLASSES, FEATURES) for one in counts]
    torch.testing.assert_close(rows[0][:3], rows[1][:3])
    assert not torch.equal(rows[0][3], rows[1][3])


def test_row_major_cannot_hear_whole_columns() -> None:
    with pytest.raises(UsageError, match="tonality"):
        load_config("fractal-ar", ["model.scan_order='row_major'"])
