"""How much two distributions overlap: the area that lies below both densities, 0 to 1.

Densities are Gaussian kernel estimates whose bandwidth follows Scott's rule (Scott, Multivariate Density Estimation,
1992: standard deviation times n**-1/5, the default of `scipy.stats.gaussian_kde`). A kernel is never narrower than a
floor, so a metric that is the same in every window has a density too: two such sides overlap by 1 if they agree, and by
next to nothing if they lie several floors apart.

Legend: A, B windows of either side, X places at which densities are taken (or classes of a histogram), R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_REACH = 4.0  # bandwidths beyond the outermost values
_FEWEST, _MOST = 512, 2048  # places at which densities are taken
_PLACES_PER_BANDWIDTH = 3


@dataclass(frozen=True)
class Profile:
    """One metric of two sides: what each window adds to its side's distribution, f64 [A, X] and [B, X], at `at` [X].

    Rows of windows in which the metric is undefined are 0. A side's distribution is the sum of its rows.
    """

    at: np.ndarray
    one: np.ndarray
    other: np.ndarray

    @property
    def shares(self) -> tuple[np.ndarray, np.ndarray]:
        """Both distributions f64 [X]; each sums to 1, or to 0 where nothing is defined."""
        return _normalised(self.one.sum(0)), _normalised(self.other.sum(0))

    @property
    def overlap(self) -> float:
        """The area that both distributions share; NaN where one side has none."""
        return float(_common_area(*self.shares))


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval in which it would lie with other windows."""

    value: float
    low: float
    high: float


def bandwidth(values: np.ndarray, floor: float) -> float:
    """Standard deviation of the kernel for `values` f64 [A], by Scott's rule, `floor` at least."""
    if len(values) < 2:
        return floor
    return max(float(values.std(ddof=1)) * len(values) ** -0.2, floor)


def kernel_profile(one: np.ndarray, other: np.ndarray, floor: float) -> Profile:
    """Kernel densities of two samples f64 [A] and [B]; values that are NaN are left out."""
    known = [values[np.isfinite(values)] for values in (one, other)]
    widths = [bandwidth(values, floor) for values in known]
    filled = [(values, width) for values, width in zip(known, widths, strict=True) if len(values)]
    if not filled:
        return Profile(np.zeros(1), np.zeros((len(one), 1)), np.zeros((len(other), 1)))
    low = min(values.min() - _REACH * width for values, width in filled)
    high = max(values.max() + _REACH * width for values, width in filled)
    places = int(np.clip(_PLACES_PER_BANDWIDTH * (high - low) / min(widths), _FEWEST, _MOST))
    at = np.linspace(low, high, places)
    return Profile(at, _kernels(one, at, widths[0]), _kernels(other, at, widths[1]))


def histogram_profile(one: np.ndarray, other: np.ndarray, classes: np.ndarray) -> Profile:
    """The pooled histograms of two sides from counts per window, i64 [A, X] and [B, X], of `classes` [X]."""
    return Profile(classes.astype(float), one.astype(float), other.astype(float))


def resample(windows: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of `windows` windows is drawn in each of `resamples` draws with replacement: f64 [R, windows]."""
    return rng.multinomial(windows, np.full(windows, 1 / windows), resamples).astype(float)


def resampled_overlaps(profile: Profile, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Overlaps f64 [R] of resampled sides (see `resample`); the kernels keep the width that all windows give them."""
    return _common_area(_normalised(one @ profile.one), _normalised(other @ profile.other))


def interval(value: float, resampled: np.ndarray, level: float = 0.95) -> Interval:
    """The interval around `value` that holds `level` of the deviations of resampled values f64 [R] from their mean.

    Drawing again from a sample adds the noise of sampling a second time, which lowers every overlap. Only the scatter
    of the resamples is therefore used, not where they lie.
    """
    known = resampled[np.isfinite(resampled)]
    if not len(known) or not np.isfinite(value):
        return Interval(value, float("nan"), float("nan"))
    below, above = np.quantile(known - known.mean(), ((1 - level) / 2, (1 + level) / 2)).tolist()
    return Interval(value, max(value + below, 0.0), min(value + above, 1.0))


def mean_overlap(overlaps: Sequence[float]) -> float:
    """Their mean, without those that are undefined; NaN if all are."""
    known = [value for value in overlaps if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def _kernels(values: np.ndarray, at: np.ndarray, width: float) -> np.ndarray:
    rows = np.zeros((len(values), len(at)))
    known = np.isfinite(values)
    rows[known] = np.exp(-0.5 * ((at - values[known, None]) / width) ** 2)
    return _normalised(rows)


def _normalised(rows: np.ndarray) -> np.ndarray:
    total = rows.sum(-1, keepdims=True)
    return np.divide(rows, total, out=np.zeros_like(rows), where=total > 0)


def _common_area(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Overlap of distributions [..., X]; NaN where either is empty."""
    area = np.minimum(one, other).sum(-1)
    empty = (one.sum(-1) == 0) | (other.sum(-1) == 0)
    return np.where(empty, np.nan, np.minimum(area, 1.0))
