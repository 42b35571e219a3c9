"""Drift by redundant cross-correlation: how near it comes to a known one and to Picasso's, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
from post_support import drift_curve, drifting, estimate_drift, filaments

from varcli.emitters.post.correlation import Peak, correlation_peak
from varcli.emitters.post.drift import Drift, _consistent
from varcli.emitters.table import EmitterTable
from varcli.errors import UsageError, VarError

FRAMES = 10_000
# Picasso 0.11.3, picasso.postprocess.undrift(segmentation=1000) on drifting(filaments(50_000, FRAMES, seed=seed),
# FRAMES) with pixels of 65 nm and positions in float32: its drift at frames 500, 1500, ... 9500, in nm.
PICASSO_NM = {
    0: (
        (0.01, 21.21, 42.70, 54.60, 60.44, 62.59, 63.17, 63.62, 66.27, 75.34),
        (0.00, 4.55, 6.69, 5.87, 0.22, -13.99, -28.11, -44.00, -67.26, -92.99),
    ),
    1: (
        (0.01, 21.41, 38.59, 52.61, 58.80, 61.07, 62.78, 63.43, 67.87, 75.61),
        (0.00, 4.66, 8.55, 6.07, -0.54, -10.57, -28.05, -45.46, -65.68, -86.65),
    ),
}


def difference_nm(drift: Drift, x_nm: np.ndarray, y_nm: np.ndarray, frame: np.ndarray) -> float:
    """Rms distance between a drift and another at these frames, whatever the two call zero."""
    place = frame - drift.frame[0]
    apart = np.column_stack([drift.x_nm[place] - x_nm, drift.y_nm[place] - y_nm])
    return float(np.sqrt(((apart - apart.mean(0)) ** 2).sum(1).mean()))


def error_nm(drift: Drift) -> float:
    x_nm, y_nm = drift_curve(FRAMES)
    return difference_nm(drift, x_nm[drift.frame], y_nm[drift.frame], drift.frame)


@pytest.mark.parametrize("seed", PICASSO_NM)
def test_five_thousand_localisations_per_segment_are_enough(seed: int) -> None:
    table = drifting(filaments(50_000, FRAMES, seed=seed), FRAMES)
    drift = estimate_drift(table)
    assert error_nm(drift) < 1.0
    picasso_x_nm, picasso_y_nm = np.array(PICASSO_NM[seed])
    assert difference_nm(drift, picasso_x_nm, picasso_y_nm, np.arange(500, FRAMES, 1000)) < 2.0
    assert (drift.pairs, len(drift.segment_frame)) == (45, 10)
    assert (drift.x_nm[0], drift.y_nm[0]) == (0, 0) and drift.residual_nm < 1
    # The table is put back where the sample was.
    still, back = filaments(50_000, FRAMES, seed=seed), drift.apply(table)
    moved = np.column_stack([back.x_nm - still.x_nm, back.y_nm - still.y_nm])
    assert np.sqrt(((moved - moved.mean(0)) ** 2).sum(1).mean()) < 1.0


def test_half_of_everything_may_be_background() -> None:
    table = drifting(filaments(50_000, FRAMES, sd_nm=15), FRAMES)
    rng = np.random.default_rng(5)
    stray = rng.random(len(table)) < 0.5
    table.x_nm[stray], table.y_nm[stray] = rng.uniform(0, 10_000, (2, stray.sum()))
    assert error_nm(estimate_drift(table, 10)) < 3.0


def test_segments_are_equal_stretches() -> None:
    table = drifting(filaments(20_000, FRAMES), FRAMES)
    drift = estimate_drift(table, 4)
    np.testing.assert_allclose(drift.segment_frame, [1250, 3750, 6250, 8750], atol=40)
    assert error_nm(drift) < 6
    straight = estimate_drift(table, 2)
    np.testing.assert_allclose(np.diff(straight.x_nm, 2), 0, atol=1e-9)


def test_frames_need_not_begin_at_zero() -> None:
    table = drifting(filaments(20_000, FRAMES), FRAMES)
    late, early = estimate_drift(replace(table, frame=table.frame + 700), 4), estimate_drift(table, 4)
    assert late.frame[0] == table.frame[0] + 700
    np.testing.assert_allclose(late.x_nm, early.x_nm, atol=1e-6)
    with pytest.raises(VarError, match="drift: known for frames 700 to 10699, the table has 0 to 9999"):
        late.apply(table)


def test_pairs_that_contradict_the_rest_are_left_out() -> None:
    rng = np.random.default_rng(2)
    first, second = np.triu_indices(8, 1)
    truth = np.cumsum(rng.normal(0, 20, (8, 2)), 0)
    shift = truth[second] - truth[first] + rng.normal(0, 0.5, (28, 2))
    shift[[3, 9, 20]] += rng.normal(0, 300, (3, 2))
    found = np.ones(28, bool)
    found[12] = False
    shift[12] = 1e6
    solved, kept = _consistent(shift, found, first, second, 8)
    assert np.flatnonzero(~kept).tolist() == [3, 9, 12, 20]
    np.testing.assert_allclose(solved - solved[0], truth - truth[0], atol=1.5)


@pytest.mark.parametrize("moved", [(0.0, 0.0), (3.3, -7.6), (-18.5, 2.25)])
def test_the_peak_lies_where_the_image_went(moved: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:96, :128]
    spots = rng.uniform(25, 70, (40, 2))

    def image(x: float, y: float) -> np.ndarray:
        return np.sum([np.exp(-((columns - u - x) ** 2 + (rows - v - y) ** 2) / 4) for u, v in spots], 0)

    spectrum = np.conj(np.fft.rfft2(image(0, 0))) * np.fft.rfft2(image(*moved))
    peak = correlation_peak(spectrum, 24)
    assert peak.found and (peak.x, peak.y) == pytest.approx(moved, abs=0.05)


def test_what_says_nothing_is_refused() -> None:
    table = filaments(3000, 100)
    with pytest.raises(VarError, match="drift: 3000 localisations in 100 frames make less than three segments"):
        estimate_drift(table)
    with pytest.raises(VarError, match=r"drift: segment \d+ of 20 .* has \d+ localisations, fewer than 200"):
        estimate_drift(table, 20)
    for segments in (1, 101):
        with pytest.raises(UsageError, match=f"drift: {segments} segments of 100 frames"):
            estimate_drift(table, segments)
    with pytest.raises(UsageError, match="drift: pixels of"):
        estimate_drift(replace(table, x_nm=table.x_nm * 250), 2)
    with pytest.raises(VarError, match="frames out of order"):
        estimate_drift(table.rows(np.arange(3000)[::-1]), 2)
    with pytest.raises(VarError, match="the table is empty"):
        estimate_drift(table.rows(np.zeros(3000, bool)), 2)
    rng = np.random.default_rng(5)
    noise = EmitterTable(np.sort(rng.integers(0, 100, 8000)), *rng.uniform(0, 10_000, (2, 8000)))
    with pytest.raises(VarError, match="the segments do not resemble each other"):
        estimate_drift(noise, 4)


def test_what_would_blur_the_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # Peaks of chance that agree with each other: 200 nm from segment to segment, of a structure at rest.
    peaks = iter([Peak(10.0 * (b - a), 0.0, True) for a, b in zip(*np.triu_indices(4, 1), strict=True)])
    monkeypatch.setattr("varcli.emitters.post.drift.correlation_peak", lambda *_: next(peaks))
    with pytest.raises(VarError, match="would blur the image"):
        estimate_drift(filaments(20_000, FRAMES), 4)
