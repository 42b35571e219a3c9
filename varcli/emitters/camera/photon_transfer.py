"""Baseline and gain of a camera from the noise of its own stack: the photon-transfer curve without a flat field.

A mixed fourth difference K takes out everything as smooth as a PSF and leaves noise. Behind a camera of `slope` ADU per
electron, E[(K x)²] / ΣK² = slope · (mean over the pixels of K, weighted by K² - baseline) + read variance: a straight
line, whose slope is found with the mean of the pixels around as an instrument, free of the bias that noise in the mean
itself would bring.

Legend: F frames, Y X camera pixels.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

ASSUMED_READ_NOISE_E = 1.5
ASSUMED_READ_NOISE_EM_E = 0.3  # at the input, behind a multiplication
_KERNEL = np.outer((1.0, -4.0, 6.0, -4.0, 1.0), (1.0, -4.0, 6.0, -4.0, 1.0))
_AROUND = 4  # pixels on either side of the place whose mean is the instrument
_OUTLIERS = 25.0  # times the expected square that a difference may have: hot pixels, cosmic rays
_GROUPS = 8
_MOST_PIXELS = 2 << 20
_EM_ABOVE_ADU = 10.0  # per photoelectron: no camera without multiplication has so many


@dataclass(frozen=True)
class CameraEstimate:
    """`e_per_adu` photoelectrons at the input per ADU, for a camera without EM gain; `baseline_adu` is without light.

    Behind an EM gain, twice as many electrons make the same noise: `e_per_adu_em`. `sd_baseline_adu` is a standard
    deviation. `sentence` describes all of it, and what was assumed rather than measured.
    """

    baseline_adu: float
    e_per_adu: float
    sentence: str
    sd_baseline_adu: float
    likely_em: bool
    measured: bool = True

    @property
    def e_per_adu_em(self) -> float:
        """Photoelectrons at the input per ADU if the camera multiplies electrons: the excess noise factor is 2."""
        return 2.0 * self.e_per_adu


def estimate_camera(frames_adu: np.ndarray) -> CameraEstimate:
    """Measure a camera [F, Y, X]; where the light varies too little for a line, the baseline is the darkest level."""
    frames, height, width = frames_adu.shape
    if min(height, width) <= 2 * _AROUND:
        return _assumed(frames_adu)
    wanted = max(_GROUPS, _MOST_PIXELS // (height * width))
    chosen = np.unique(np.linspace(0, frames - 1, min(frames, wanted)).round().astype(int))
    noise, mean, around = (np.concatenate(part) for part in zip(*(_points(frames_adu[i]) for i in chosen), strict=True))
    group = np.minimum(np.arange(len(noise)) * _GROUPS // max(1, len(noise)), _GROUPS - 1)
    slope, intercept = _line(noise, mean, around)
    lines = [_line(noise[group != g], mean[group != g], around[group != g]) for g in range(_GROUPS)]
    sd_slope = float(np.std([line[0] for line in lines]) * math.sqrt(_GROUPS - 1))
    if not slope > 4 * sd_slope:
        return _assumed(frames_adu, noise)
    likely_em = slope > _EM_ABOVE_ADU
    read_noise_e = ASSUMED_READ_NOISE_EM_E if likely_em else ASSUMED_READ_NOISE_E
    read_variance = 1 / 12 + (read_noise_e * slope / (2 if likely_em else 1)) ** 2
    baselines = [(read_variance - line[1]) / line[0] for line in lines if line[0] > 0]
    baseline = (read_variance - intercept) / slope
    sd_baseline = float(np.std(baselines) * math.sqrt(_GROUPS - 1))
    per_adu, relative = 1 / slope, sd_slope / slope
    with_em = "which is likely with so much noise" if likely_em else "which noise alone cannot tell"
    sentence = (
        f"{per_adu:.3g} e-/ADU (±{100 * relative:.0f}%) and a baseline of {baseline:.1f} ± {sd_baseline:.1f} ADU, from "
        f"how noise grows with light, for a read noise of {read_noise_e:g} e-; if the camera has an EM gain it "
        f"is {2 * per_adu:.3g} e- at the input per ADU, {with_em}"
    )
    return CameraEstimate(baseline, per_adu, sentence, sd_baseline, likely_em)


def _assumed(frames_adu: np.ndarray, noise: np.ndarray | None = None) -> CameraEstimate:
    """A baseline at the darkest level, the gain that the noise of the dark places then has, and that neither is sure.

    `noise` is the squared noise of some places. A wrong baseline makes photons wrong; signal over noise stays right.
    """
    baseline = float(np.quantile(frames_adu, 0.001))
    # The square of a normal number has a median of 0.455 of its mean; few places hold an emitter.
    variance = 0.0 if noise is None else float(np.median(noise)) / 0.455 - 1 / 12
    light = max(float(np.median(frames_adu)) - baseline, 0.0)
    read = ASSUMED_READ_NOISE_E**2
    slope = (math.sqrt(light**2 + 4 * read * variance) - light) / (2 * read) if variance > 0 else 1.0
    how = "the gain that fits its noise" if variance > 0 else "a gain without evidence"
    sentence = (
        f"noise does not grow with light in a way that shows the gain: a baseline of {baseline:.1f} ADU is assumed, "
        f"the darkest level of the stack, and {1 / slope:.3g} e-/ADU, {how}; photon counts may be far off"
    )
    return CameraEstimate(baseline, 1 / slope, sentence, math.inf, likely_em=False, measured=False)


def _points(frame_adu: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Squared noise, mean light there, and mean light around it, for every place of a frame away from its edges."""
    frame_YX = frame_adu.astype(np.float64)
    squares = _KERNEL**2
    noise_YX = ndimage.convolve(frame_YX, _KERNEL) ** 2 / squares.sum()
    mean_YX = ndimage.convolve(frame_YX, squares / squares.sum())
    side = 2 * _AROUND + 1
    total = ndimage.uniform_filter(frame_YX, side) * side**2
    inner = ndimage.uniform_filter(frame_YX, _KERNEL.shape[0]) * _KERNEL.size
    around_YX = (total - inner) / (side**2 - _KERNEL.size)
    inside = (slice(_AROUND, -_AROUND),) * 2
    return noise_YX[inside].ravel(), mean_YX[inside].ravel(), around_YX[inside].ravel()


def _line(noise: np.ndarray, mean: np.ndarray, around: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of noise over mean by the instrument, reweighted by the noise that the line expects."""
    weight = np.ones_like(noise)
    slope = intercept = 0.0
    for _ in range(4):
        total = weight.sum()
        centre_noise, centre_mean, centre_around = (float(weight @ part / total) for part in (noise, mean, around))
        lever = weight * (around - centre_around)
        spread = float(lever @ (mean - centre_mean))
        slope = float(lever @ (noise - centre_noise)) / spread if spread > 0 else 0.0
        intercept = centre_noise - slope * centre_mean
        expected = np.maximum(intercept + slope * around, 0.1 * max(centre_noise, 1e-9))
        weight = (noise < _OUTLIERS * expected) / expected**2
    return slope, intercept
