"""The shape of the PSF from isolated spots: bright maxima with no neighbour, fitted one by one and then all together.

Legend: F frames, Y X camera pixels, P spots, W side of a window.
"""

import math

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from varcli.emitters.psf.gaussian import GaussianPsf, PsfMeasurement
from varcli.emitters.psf.spot_fit import LOCAL, fit_each, fit_shared

_BRIGHT, _SEEN = 10.0, 4.0  # height over the noise of spots that are fitted, and of neighbours that forbid it
_LEAST_SPOTS, _MOST_SPOTS = 6, 400
_WINDOW_SIGMAS, _ALONE_SIGMAS = 2.9, 5.4  # radius of a window; how far away the next maximum must be
_SPOTS_FOR_TAIL = 25
_ROUNDS = 12
_TAIL_SCALES = (2.0, 3.0)


def fit_isolated(
    frames_FYX: np.ndarray,
    excess: float,
    read_variance: float | np.ndarray,
    background_e: float,
    sigma_px: float,
    with_tail: bool,
) -> PsfMeasurement | None:
    """Fit the spots that stand alone for a PSF of about `sigma_px`; None where too few do.

    `unexplained` is the robust standard deviation of the logarithm of single widths beyond what noise explains; what
    few spots leave open is added.
    """
    windows = _cut_isolated(frames_FYX, excess, read_variance, background_e, sigma_px)
    if windows is None or len(windows[0]) < _LEAST_SPOTS:
        return None
    pixels, variances = windows
    locals_P6 = _first_guess(pixels, sigma_px)
    log_widths, deviations, chi2 = fit_each(pixels, variances, locals_P6, math.log(sigma_px), excess, _ROUNDS)
    kept, spread = _agreeing(log_widths, deviations, chi2)
    if kept.sum() < _LEAST_SPOTS:
        return None
    pixels, variances, locals_P6 = pixels[kept], variances[kept], locals_P6[kept]
    start = float(np.median(log_widths[kept]))
    shared = np.array([start, start, 0.0])
    information, chi2_plain, counted = fit_shared(pixels, variances, locals_P6.copy(), shared, 2.0, 2, excess, _ROUNDS)
    # Spots scatter more than their noise where the PSF varies over the field or the gain is not as given.
    scatter = max(1.0, float(np.std((log_widths[kept] - start) / deviations[kept])))
    single_px = math.exp(0.5 * (shared[0] + shared[1]))
    covariance = np.linalg.inv(information[:2, :2]) * scatter**2
    sd_log = 0.5 * math.sqrt(covariance.sum())
    tail, sd_tail, scale, gain = 0.0, math.inf, _TAIL_SCALES[0], -math.inf
    for candidate in _TAIL_SCALES if with_tail and kept.sum() >= _SPOTS_FOR_TAIL else ():
        tailed = np.array([start, start, 0.1])
        information, chi2_tail, _ = fit_shared(
            pixels, variances, locals_P6.copy(), tailed, candidate, 3, excess, 2 * _ROUNDS
        )
        brings = 0.5 * (chi2_plain - chi2_tail) / max(1.0, chi2_tail / counted)
        if brings > gain + 1.0:
            covariance = np.linalg.inv(information) * scatter**2
            tail, sd_tail, scale, gain = float(tailed[2]), math.sqrt(covariance[2, 2]), candidate, brings
            shared, sd_log = tailed, 0.5 * math.sqrt(covariance[:2, :2].sum())
    beyond_noise = math.sqrt(max(0.0, spread**2 - float(np.median(deviations[kept])) ** 2))
    psf = GaussianPsf(math.exp(shared[0]), math.exp(shared[1]), tail, scale)
    unexplained = beyond_noise + spread / math.sqrt(kept.sum())
    return PsfMeasurement(psf, psf.sigma_px, sd_log, sd_tail, unexplained, int(kept.sum()), single_px)


def _cut_isolated(
    frames_FYX: np.ndarray, excess: float, read_variance: float | np.ndarray, background_e: float, sigma_px: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Round windows [P, W, W] around maxima that have no neighbour, the brightest (doubles, dirt) left out, and the
    variance without light of their pixels; None where the frames are too small."""
    radius = _WINDOW_SIGMAS * sigma_px
    half = math.ceil(radius)
    height, width = frames_FYX.shape[1:]
    if min(height, width) < 2 * half + 1:
        return None
    read_YX = np.broadcast_to(np.asarray(read_variance, float), (height, width))
    significance = _significance(frames_FYX, excess * background_e + float(read_YX.mean()), sigma_px)
    size = 2 * math.ceil(1.2 * sigma_px) + 1
    peaks = (significance == ndimage.maximum_filter(significance, (1, size, size))) & (significance > _SEEN)
    inside = np.zeros_like(peaks)
    inside[:, half : height - half, half : width - half] = True
    bright = peaks & inside & (significance > _BRIGHT)
    frame, y, x = np.nonzero(bright & _lonely(peaks, _ALONE_SIGMAS * sigma_px))
    # Not the brightest of all: among equals that would choose those whose noise makes them sharp.
    order = np.argsort(-significance[frame, y, x], kind="stable")[len(frame) // 50 :]
    order = order[:: max(1, math.ceil(len(order) / _MOST_SPOTS))]
    frame, y, x = frame[order], y[order], x[order]
    around = np.arange(-half, half + 1)
    rows, columns = y[:, None, None] + around[:, None], x[:, None, None] + around
    pixels = frames_FYX[frame[:, None, None], rows, columns].astype(np.float64)
    pixels[:, around**2 + around[:, None] ** 2 > (radius + 0.5) ** 2] = np.nan
    return pixels, read_YX[rows, columns].astype(np.float64)


def _lonely(peaks_FYX: np.ndarray, distance_px: float) -> np.ndarray:
    """Which peaks have no other within the distance in their frame."""
    position = np.argwhere(peaks_FYX).astype(float)
    lonely = np.zeros_like(peaks_FYX)
    if len(position):
        position[:, 0] *= 4 * distance_px
        tree = KDTree(position)
        alone = tree.query_ball_point(position, distance_px, return_length=True) == 1
        lonely[peaks_FYX] = alone
    return lonely


def _significance(frames_FYX: np.ndarray, variance: float, sigma_px: float) -> np.ndarray:
    """Local contrast at the scale of the PSF over its noise on flat background."""
    narrow = ndimage.gaussian_filter(frames_FYX, (0, sigma_px, sigma_px))
    wide = ndimage.gaussian_filter(frames_FYX, (0, 3 * sigma_px, 3 * sigma_px))
    # Sum of the squared kernel: both Gaussians and their product.
    squares = (1 / 4 + 1 / 36 - 2 / 20) / (math.pi * sigma_px**2)
    return (narrow - wide) / math.sqrt(max(variance, 1e-6) * squares)


def _first_guess(pixels_PWW: np.ndarray, sigma_px: float) -> np.ndarray:
    """x, y, light and flat background of every window."""
    size = pixels_PWW.shape[1]
    guess = np.zeros((len(pixels_PWW), LOCAL))
    guess[:, :2] = 0.5 * size
    guess[:, 3] = np.nanquantile(pixels_PWW, 0.25, axis=(1, 2))
    middle = slice(size // 2 - 1, size // 2 + 2)
    height = pixels_PWW[:, middle, middle].mean((1, 2)) - guess[:, 3]
    guess[:, 2] = np.maximum(height * 2 * math.pi * (sigma_px**2 + 0.75), 10.0)
    return guess


def _agreeing(log_widths: np.ndarray, deviations: np.ndarray, chi2: np.ndarray) -> tuple[np.ndarray, float]:
    """Which spots fit well and are as wide as most: pairs that look like one are wider and fit worse."""
    finite = np.isfinite(log_widths) & np.isfinite(deviations) & np.isfinite(chi2)
    finite &= (log_widths > -0.9) & (log_widths < 1.6) & (deviations < 0.25)
    if finite.sum() < _LEAST_SPOTS:
        return finite, math.inf
    low, middle = np.quantile(chi2[finite], [0.1, 0.4])
    well = finite & (chi2 < middle + 2.5 * (middle - low) / 1.03)
    centre, spread = _mode(log_widths[well])
    width = np.sqrt(spread**2 + 0.01**2)
    return well & (np.abs(log_widths - centre) < 2.5 * width), spread


def _mode(values: np.ndarray) -> tuple[float, float]:
    """Middle and spread (as of a Gaussian) of the shortest interval that holds half of the values."""
    ordered = np.sort(values)
    half = max(2, len(ordered) // 2)
    lengths = ordered[half - 1 :] - ordered[: len(ordered) - half + 1]
    start = int(np.argmin(lengths))
    inner = ordered[start : start + half]
    return float(np.median(inner)), float(lengths[start] / 1.349)
