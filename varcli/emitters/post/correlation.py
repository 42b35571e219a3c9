"""The peak of the cross-correlation of two images, to a fraction of a pixel."""

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage
from scipy.optimize import least_squares

_SMOOTHINGS_PX = (1.0, 2.0, 4.0)  # of the correlation; its peak is searched where it stands out most
# A peak stands this many robust standard deviations above the rest: chance reaches 6, structures 15 and more.
_LEAST_HEIGHT = 7.0
_LEAST_BOX, _MOST_BOX = 3, 15  # half the side of what the Gaussian is fitted to, in pixels


@dataclass(frozen=True)
class Peak:
    """The movement of the second image against the first, in pixels; `found` is false where there is no peak."""

    x: float
    y: float
    found: bool


def correlation_peak(spectrum_HW: np.ndarray, reach_px: float) -> Peak:
    """The peak of the correlation whose half spectrum is given, at most `reach_px` from no movement.

    The spectrum is that of rfft2 for images of an even width.
    """
    reach = int(reach_px)
    height, width = spectrum_HW.shape[0], 2 * (spectrum_HW.shape[1] - 1)
    # The middle of the correlation, with no movement in its centre, and a margin for the fit.
    rows, columns = (np.arange(-n, n + 1) for n in (min(reach + _MOST_BOX, side // 2 - 1) for side in (height, width)))
    # Only the rows that are searched are transformed along the second axis.
    near_rows = np.asarray(fft.ifft(spectrum_HW, axis=0))[rows]
    near_HW = np.asarray(fft.irfft(near_rows, n=width, axis=1))[:, columns].astype(np.float64)
    allowed_HW = np.hypot(rows[:, None], columns[None]) <= reach
    height_z, row, column, smooth_HW = max(
        (_highest(near_HW, allowed_HW, sigma) for sigma in _SMOOTHINGS_PX), key=lambda found: found[0]
    )
    x, y, found = _fitted(near_HW, row, column, _box(smooth_HW, row, column))
    return Peak(float(columns[column] + x), float(rows[row] + y), found and height_z > _LEAST_HEIGHT)


def _highest(near_HW: np.ndarray, allowed_HW: np.ndarray, sigma: float) -> tuple[float, int, int, np.ndarray]:
    """The highest place at one smoothing: its height in robust standard deviations, its pixel, and what is smoothed.

    A wider smoothing is taken off, so that the shape of the whole field does not pass for a peak.
    """
    smooth_HW = ndimage.gaussian_filter(near_HW, sigma)
    band_HW = smooth_HW - ndimage.gaussian_filter(near_HW, 3 * sigma)
    row, column = np.unravel_index(np.argmax(np.where(allowed_HW, band_HW, -np.inf)), band_HW.shape)
    middle = np.median(band_HW)
    spread = 1.4826 * np.median(np.abs(band_HW - middle))
    height = (band_HW[row, column] - middle) / max(spread, np.finfo(float).tiny)
    return float(height), int(row), int(column), smooth_HW


def _box(smooth_HW: np.ndarray, row: int, column: int) -> int:
    """Half the side of the window for the fit: about twice the peak's half width at half its height."""
    height = smooth_HW[row, column]
    floor = np.median(smooth_HW)
    for reach in range(1, _MOST_BOX):
        ring = [
            smooth_HW[min(max(row + r, 0), smooth_HW.shape[0] - 1), min(max(column + c, 0), smooth_HW.shape[1] - 1)]
            for r, c in ((reach, 0), (-reach, 0), (0, reach), (0, -reach))
        ]
        if np.mean(ring) < (height + floor) / 2:
            return int(np.clip(2 * reach, _LEAST_BOX, _MOST_BOX))
    return _MOST_BOX


def _fitted(near_HW: np.ndarray, row: int, column: int, box: int) -> tuple[float, float, bool]:
    """Where a Gaussian on a plane lies, fitted to the box around a pixel, from that pixel."""
    top, left = max(row - box, 0), max(column - box, 0)
    window_HW = near_HW[top : row + box + 1, left : column + box + 1]
    y_HW, x_HW = np.mgrid[top : top + window_HW.shape[0], left : left + window_HW.shape[1]]
    y_HW, x_HW = y_HW - row, x_HW - column
    scale = float(window_HW.max() - window_HW.min())
    if not scale > 0:
        return 0.0, 0.0, False
    target_HW = (window_HW - window_HW.min()) / scale

    def residual(at: np.ndarray) -> np.ndarray:
        x, y, sigma, height, floor, slope_x, slope_y = at
        gauss_HW = np.exp(-((x_HW - x) ** 2 + (y_HW - y) ** 2) / (2 * sigma**2))
        return (height * gauss_HW + floor + slope_x * x_HW + slope_y * y_HW - target_HW).ravel()

    start = np.array([0, 0, box / 2, 1, 0, 0, 0])
    lowest = np.array([-box, -box, 0.3, 0, -10, -10, -10.0])
    highest = np.array([box, box, 4 * box, 20, 10, 10, 10.0])
    fit = least_squares(residual, start, bounds=(lowest, highest), max_nfev=200)
    x, y = float(fit.x[0]), float(fit.x[1])
    return x, y, bool(fit.success and max(abs(x), abs(y)) < box)
