"""The width of the PSF from how pixels of a stack fluctuate together, which holds however dense the emitters are.

Where emitters switch independently, Cov(pixel p, pixel p + d) over time sums Var(N) h(p) h(p + d) over the emitters:
averaged over p it is the autocorrelation of the PSF h at lag d, times a constant. Neither overlap nor static structure
nor the camera's noise (which has no lag) enters. A background that flickers adds a smooth surface, fitted along.

Legend: F frames, Y X camera pixels, L lags on either side.
"""

import math

import numpy as np
from scipy.optimize import least_squares
from scipy.special import erf

from varcli.emitters.psf.gaussian import GaussianPsf, PsfMeasurement

_SIGMA_RANGE_PX = (0.45, 5.0)
_WINDOW_SIGMAS = 5.5  # lags up to here are fitted: the autocorrelation ends at 4, the rest is background
_START_PX = 1.3
_WINDOWS = 4  # rounds in which the window follows the width
ENOUGH_FRAMES = 8  # for a mean over time
_GROUPS = 8  # of frames, for the jackknife
_MOST_TAIL = 0.5


class LagCovariance:
    """The covariance of a stack [F, Y, X] at all lags up to `reach`, kept per group of frames."""

    def __init__(self, frames_FYX: np.ndarray, reach: int) -> None:
        frames = len(frames_FYX)
        # Too few frames have no mean over time: that of each stands in, and leaves a constant that is fitted along.
        axes = 0 if frames >= ENOUGH_FRAMES else (1, 2)
        moving_FYX = frames_FYX - frames_FYX.mean(axes, keepdims=True)
        self.reach = reach
        groups = np.array_split(np.arange(frames), min(_GROUPS, frames))
        places_LL = _places(moving_FYX, reach)
        self.groups_GLL = np.stack([_lag_products(moving_FYX[group], reach) / places_LL for group in groups])

    def fit(self, tail_scale: float | None) -> PsfMeasurement:
        """Fit a Gaussian, with a wider second one if `tail_scale` says how much wider.

        Its deviations come from leaving out groups of frames.
        """
        whole_LL = self.groups_GLL.mean(0)
        sigma_px = _START_PX
        problem = _LagProblem(whole_LL, self.reach, sigma_px, None)
        for _ in range(_WINDOWS):
            problem = _LagProblem(whole_LL, self.reach, sigma_px, None)
            sigma_px = math.exp(float(problem.fit(sigma_px)[:2].mean()))
        problem.tail_scale = tail_scale
        widths = problem.fit(sigma_px)
        misfit = problem.misfit(widths)
        sd_log = sd_tail = math.inf
        count = len(self.groups_GLL)
        if count > 1:
            left_out = []
            for group_LL in self.groups_GLL:
                problem.aim((whole_LL * count - group_LL) / (count - 1))
                x, y, tail = problem.fit(sigma_px)
                left_out.append([0.5 * (x + y), tail])
            sd_log, sd_tail = (float(sd) for sd in np.std(left_out, axis=0) * math.sqrt(count - 1))
        psf = problem.psf(widths)
        return PsfMeasurement(psf, psf.sigma_px, sd_log, sd_tail, misfit)


class _LagProblem:
    """Least squares over the lags within reach of a width; height and background are linear and solved along."""

    def __init__(self, covariance_LL: np.ndarray, reach: int, sigma_px: float, tail_scale: float | None) -> None:
        lag = np.arange(-reach, reach + 1.0)
        square = lag**2 + lag[:, None] ** 2
        window = min(float(reach), max(4.0, _WINDOW_SIGMAS * sigma_px))
        # Lag 0 holds the camera's noise.
        self.kept_LL = (square > 0) & (square <= window**2)
        self.lag, self.tail_scale = lag, tail_scale
        x, y = np.broadcast_to(lag, square.shape), np.broadcast_to(lag[:, None], square.shape)
        self.smooth = np.stack([np.ones_like(square), x**2, y**2, x * y], -1)[self.kept_LL] / window**2
        self.aim(covariance_LL)

    def aim(self, covariance_LL: np.ndarray) -> None:
        """Take another covariance as the one to fit."""
        self.height = max(abs(float(covariance_LL[len(self.lag) // 2, len(self.lag) // 2 + 1])), 1e-12)
        self.target = covariance_LL[self.kept_LL] / self.height

    def fit(self, start_px: float) -> np.ndarray:
        """Log widths along x and y, and the tail (0 where none is fitted)."""
        least, most = np.log(_SIGMA_RANGE_PX)
        start = math.log(start_px)
        tails = ([0.1], [0.0], [_MOST_TAIL]) if self.tail_scale else ([], [], [])
        bounds = ([least, least, *tails[1]], [most, most, *tails[2]])
        start = min(max(start, least + 0.01), most - 0.01)
        fitted = least_squares(self.residual, [start, start, *tails[0]], bounds=bounds, x_scale=0.1).x
        return np.array([fitted[0], fitted[1], fitted[2] if self.tail_scale else 0.0])

    def psf(self, widths: np.ndarray) -> GaussianPsf:
        """The PSF of fitted log widths and tail."""
        tail = float(widths[2]) if self.tail_scale else 0.0
        return GaussianPsf(math.exp(widths[0]), math.exp(widths[1]), tail, self.tail_scale or 1.0)

    def _solve(self, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shape = autocorrelation(self.lag, self.psf(widths))[self.kept_LL]
        basis = np.column_stack([shape, self.smooth])
        weights, *_ = np.linalg.lstsq(basis, self.target, rcond=None)
        return basis @ weights - self.target, weights

    def residual(self, widths: np.ndarray) -> np.ndarray:
        return self._solve(widths)[0]

    def misfit(self, widths: np.ndarray) -> float:
        """Root mean square residual over the height at lag 0; infinite where the height is negative."""
        residual, weights = self._solve(widths)
        height = weights[0] * autocorrelation(np.zeros(1), self.psf(widths)).item()
        return float(np.sqrt(np.mean(residual**2)) / height) if height > 0 else math.inf


def autocorrelation(lag: np.ndarray, psf: GaussianPsf) -> np.ndarray:
    """Autocorrelation [L (y), L (x)] of a pixel-integrated Gaussian PSF with a tail, over all sub-pixel places."""
    sigma_x_px, sigma_y_px, tail, scale = psf
    total = np.zeros((len(lag), len(lag)))
    for weight, first, second in (
        ((1 - tail) ** 2, 1.0, 1.0),
        (2 * tail * (1 - tail), 1.0, scale),
        (tail**2, scale, scale),
    ):
        if weight:
            wide = math.hypot(first, second)
            total += weight * _triangle(lag, sigma_y_px * wide)[:, None] * _triangle(lag, sigma_x_px * wide)
    return total


def _triangle(lag: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian integrated over two pixels that lie `lag` apart."""

    def twice_integrated(z: np.ndarray) -> np.ndarray:
        gauss = np.exp(-0.5 * (z / sigma) ** 2) / math.sqrt(2 * math.pi)
        return 0.5 * z * (1 + erf(z / (sigma * math.sqrt(2)))) + sigma * gauss

    return twice_integrated(lag + 1) - 2 * twice_integrated(lag) + twice_integrated(lag - 1)


def _places(moving_FYX: np.ndarray, reach: int) -> np.ndarray:
    """How many places count at each lag: those with both ends in the frame, weighted by how much flickers there.

    Emitters in the middle of the frame have all of their pairs in it, those at the edge only some.
    """
    around_FYX = np.pad(moving_FYX, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    neighbours_FYX = around_FYX[:, :-2, 1:-1] + around_FYX[:, 2:, 1:-1]
    neighbours_FYX += around_FYX[:, 1:-1, :-2] + around_FYX[:, 1:-1, 2:]
    flicker_YX = np.mean(moving_FYX * neighbours_FYX, 0, dtype=np.float64)
    ones_YX = np.ones_like(flicker_YX)
    count_LL = _lag_sums(ones_YX, ones_YX, reach)
    if not flicker_YX.mean() > 0:
        return count_LL
    weighted_LL = _lag_sums(flicker_YX / flicker_YX.mean(), ones_YX, reach)
    weighted_LL = 0.5 * (weighted_LL + weighted_LL[::-1, ::-1])
    # Where hardly anything flickers, the weights are noise.
    return np.clip(weighted_LL, count_LL, flicker_YX.size)


def _lag_products(frames_FYX: np.ndarray, reach: int) -> np.ndarray:
    """Mean over frames of the sum of x(p) x(p + lag), for lags of -reach..reach along y and x."""
    return np.mean([_lag_sums(frame_YX, frame_YX, reach) for frame_YX in frames_FYX], axis=0)


def _lag_sums(first_YX: np.ndarray, second_YX: np.ndarray, reach: int) -> np.ndarray:
    """Sum of first(p) second(p + lag) over the places p where both lie in the frame."""
    size = (first_YX.shape[0] + reach, first_YX.shape[1] + reach)
    spectrum = np.conj(np.fft.rfft2(first_YX, s=size)) * np.fft.rfft2(second_YX, s=size)
    return np.roll(np.fft.irfft2(spectrum, s=size), (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
