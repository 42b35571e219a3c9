"""FRC: down to which detail two halves of the localisations show the same image.

Source: Nieuwenhuizen et al., Nature Methods 10, 557 (2013). Legend: E localisations, H W pixels, R rings.
"""

from dataclasses import dataclass

import numpy as np
from scipy import fft

from varcli.emitters.post.checks import check_frames, check_positions
from varcli.emitters.table import EmitterTable
from varcli.errors import UsageError, VarError

_DOING = "FRC"
THRESHOLD = 1 / 7
_FINEST_NM, _MOST_PIXELS = 5.0, 3072  # an image's pixel, and its longest side, for which pixels grow
_BLOCKS = 50  # of frames, at most: long ones, so that a blink seldom lies in two
_FEWEST = 1000  # localisations
_SPLITS = 5
_EDGE = 0.125  # of each side that the window fades
_REACH, _LEAST_REACH = 0.1, 3.0  # of smoothing to either side, as a share of the ring's number, and in rings


@dataclass(frozen=True)
class Frc:
    """The resolution, its spread over the splits, and the curve [R] against spatial frequency, as it is and smoothed.

    `resolution_nm` is None where the curve stays above 1/7 as far as the pixels reach; `reason` then names that.
    """

    resolution_nm: float | None
    spread_nm: float | None
    splits: int
    pixel_nm: float
    frequency_per_nm: np.ndarray
    curve: np.ndarray
    smooth: np.ndarray
    reason: str | None = None


def frc(table: EmitterTable, pixel_nm: float | None = None, seed: int = 0) -> Frc:
    """Fourier ring correlation at 1/7, averaged over random splits into halves.

    Frames are cut into blocks of equal length; of every two that follow each other, one goes to either half, and chance
    decides which. Pixels are 5 nm, larger for fields above 15 µm; above a sixth of the
    resolution they make it look coarser than it is. Raises VarError for a table that is empty, has frames
    out of order or positions that are not finite, too few localisations or frames, or no structure shared.
    """
    check_positions(table, _DOING)
    check_frames(table, _DOING)
    if len(table) < _FEWEST:
        raise VarError(f"FRC: {len(table)} localisations, fewer than {_FEWEST}", "measure on more frames")
    block_E = _blocks(table.frame)
    place_E, shape, pixel_nm = _pixels(table, pixel_nm)
    from scipy.signal.windows import tukey  # a third of a second to import, which every run would wait for

    weight_HW = np.outer(*(tukey(side, 2 * _EDGE) for side in shape)).astype(np.float32)
    ring_HW, weights_HW, frequency_R = _rings(shape, pixel_nm)
    whole_HW = _spectrum(place_E, shape, weight_HW)
    rng = np.random.default_rng(seed)
    curves = []
    for _ in range(_SPLITS):
        swapped = rng.integers(0, 2, block_E[-1] // 2 + 1)
        half_E = (block_E + swapped[block_E // 2]) % 2 == 0
        one_HW = _spectrum(place_E[half_E], shape, weight_HW)
        curves.append(_correlation(one_HW, whole_HW - one_HW, ring_HW, weights_HW, len(frequency_R)))
    curve_R = np.mean(curves, axis=0)
    smoother_RR = _smoother(len(curve_R))
    smooth_R = smoother_RR @ curve_R
    if smooth_R[1] < THRESHOLD:
        message = "FRC: the two halves of the localisations share no structure"
        raise VarError(message, "correct the drift first, or measure on more localisations")
    crossing = _crossing(frequency_R, smooth_R)
    each = [_crossing(frequency_R, smoother_RR @ one_R) for one_R in curves]
    spread = float(np.std([1 / one for one in each if one])) if all(each) else None
    reason = None if crossing else f"the curve stays above 1/7 down to {2 * pixel_nm:g} nm: take smaller pixels"
    return Frc(1 / crossing if crossing else None, spread, _SPLITS, pixel_nm, frequency_R, curve_R, smooth_R, reason)


def _blocks(frame_E: np.ndarray) -> np.ndarray:
    """The block of frames of every row; an even number of them."""
    frames = int(frame_E[-1] - frame_E[0]) + 1
    blocks = min(_BLOCKS, frames) // 2 * 2
    if blocks < 2:
        raise VarError("FRC: a single frame cannot be split into halves", "measure on more frames")
    return (frame_E - frame_E[0]) * blocks // frames


def _pixels(table: EmitterTable, pixel_nm: float | None) -> tuple[np.ndarray, tuple[int, int], float]:
    """The pixel of every row, counted along rows of the image [E], the image's shape and its pixel in nm."""
    x_E, y_E = table.x_nm - table.x_nm.min(), table.y_nm - table.y_nm.min()
    longest = float(max(x_E.max(), y_E.max()))
    if pixel_nm is None:
        pixel_nm = max(_FINEST_NM, longest / _MOST_PIXELS)
    if not 0 < pixel_nm < longest / 8:
        raise UsageError(f"FRC: pixels of {pixel_nm:g} nm for a field of {longest:g} nm", "give smaller pixels")
    height, width = (max(8, int(side.max() / pixel_nm) + 1) for side in (y_E, x_E))
    row_E, column_E = (y_E / pixel_nm).astype(np.int64), (x_E / pixel_nm).astype(np.int64)
    return row_E * width + column_E, (height, width), pixel_nm


def _spectrum(place_E: np.ndarray, shape: tuple[int, int], weight_HW: np.ndarray) -> np.ndarray:
    """Half the spectrum of the faded histogram."""
    count_HW = np.bincount(place_E, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float32)
    return np.asarray(fft.rfft2(count_HW * weight_HW))


def _rings(shape: tuple[int, int], pixel_nm: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ring of every coefficient of rfft2, how often it counts, and the frequencies of the rings up to Nyquist's."""
    height, width = shape
    step = 1 / (max(shape) * pixel_nm)
    y_H, x_W = fft.fftfreq(height, pixel_nm), fft.rfftfreq(width, pixel_nm)
    ring_HW = np.rint(np.hypot(y_H[:, None], x_W[None]) / step).astype(np.int64)
    rings = int(0.5 / pixel_nm / step) + 1
    # Every coefficient stands for its mirror image too, but for those of the first column and of an even width's last.
    twice_W = np.full(len(x_W), 2.0)
    twice_W[0] = 1
    if width % 2 == 0:
        twice_W[-1] = 1
    weights_HW = np.broadcast_to(twice_W, ring_HW.shape) * (ring_HW < rings)
    return np.minimum(ring_HW, rings - 1), weights_HW, np.arange(rings) * step


def _correlation(
    one_HW: np.ndarray, other_HW: np.ndarray, ring_HW: np.ndarray, weights_HW: np.ndarray, rings: int
) -> np.ndarray:
    """The correlation of two spectra in every ring [R]."""

    def total(values_HW: np.ndarray) -> np.ndarray:
        return np.bincount(ring_HW.ravel(), (values_HW * weights_HW).ravel(), rings)

    shared_R = total(np.real(one_HW * np.conj(other_HW)))
    power_R = total(np.abs(one_HW) ** 2) * total(np.abs(other_HW) ** 2)
    return shared_R / np.sqrt(np.maximum(power_R, np.finfo(float).tiny))


def _smoother(rings: int) -> np.ndarray:
    """The matrix [R, R] that smooths a curve: straight lines fitted around every ring, near rings counting most.

    The reach grows with frequency, for a curve falls the more slowly, the later it falls.
    """
    ring_R = np.arange(rings)
    reach_R1 = np.maximum(_LEAST_REACH, _REACH * ring_R)[:, None]
    offset_RR = ring_R[None] - ring_R[:, None]
    weight_RR = np.clip(1 - (np.abs(offset_RR) / (reach_R1 + 1)) ** 3, 0, None) ** 3
    s0, s1, s2 = ((weight_RR * offset_RR**power).sum(1, keepdims=True) for power in range(3))
    return weight_RR * (s2 - s1 * offset_RR) / (s0 * s2 - s1**2)


def _crossing(frequency_R: np.ndarray, smooth_R: np.ndarray) -> float | None:
    """The frequency at which the curve first falls below 1/7; None where it never does, or is there from the start."""
    below = np.flatnonzero(smooth_R[1:] < THRESHOLD)
    if not len(below) or below[0] == 0:
        return None
    at = int(below[0]) + 1
    part = (smooth_R[at - 1] - THRESHOLD) / (smooth_R[at - 1] - smooth_R[at])
    return float(frequency_R[at - 1] + part * (frequency_R[at] - frequency_R[at - 1]))
