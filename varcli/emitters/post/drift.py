"""Drift by redundant cross-correlation: each pair of stretches of time gives how far the sample moved between them.

Source: Wang et al., Optics Express 22, 15982 (2014). Legend: E localisations, S segments, P pairs of segments, F
frames, H W pixels of a rendering.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import fft, interpolate

from varcli.emitters.events import PairsCorrelated
from varcli.emitters.post.checks import check_frames, check_positions
from varcli.emitters.post.correlation import Peak, correlation_peak
from varcli.emitters.table import EmitterTable
from varcli.errors import UsageError, VarError

_DOING = "drift"
_FINEST_NM, _MOST_PIXELS = 20.0, 2048  # a rendering's pixel, and its longest side, for which pixels grow
_REACH_NM = 1000.0  # that the sample may move between any two segments
_PER_SEGMENT, _MOST_SEGMENTS = 5000, 20  # localisations, where no number of segments is given
_FEWEST = 200  # localisations in a segment: with fewer, peaks of the correlation are noise
_OUTLIER = 5.0  # robust standard deviations of a pair's residual
_BLURRED = 0.8  # of the pairs in common pixels: chance alone costs less
_ROUNDING_NM = 1.0  # residuals below this are never called outliers


@dataclass(frozen=True)
class Drift:
    """How far the sample has moved since the first frame, at every frame of `frame` [F], in nm.

    Every segment has the mean frame of its localisations and its shift [S].
    `residual_nm` is the rms difference between the shifts of pairs and this drift, `pairs_left_out` how many pairs
    contradicted the others.
    """

    frame: np.ndarray
    x_nm: np.ndarray
    y_nm: np.ndarray
    segment_frame: np.ndarray
    segment_x_nm: np.ndarray
    segment_y_nm: np.ndarray
    residual_nm: float
    pairs: int
    pairs_left_out: int

    def apply(self, table: EmitterTable) -> EmitterTable:
        """The table with this drift taken off; raises VarError for frames that it does not reach."""
        if not len(table):
            return table
        place = table.frame - self.frame[0]
        if place.min() < 0 or place.max() >= len(self.frame):
            reach = f"drift: known for frames {self.frame[0]} to {self.frame[-1]}"
            raise VarError(f"{reach}, the table has {table.frame.min()} to {table.frame.max()}")
        return replace(table, x_nm=table.x_nm - self.x_nm[place], y_nm=table.y_nm - self.y_nm[place])


def drift_events(table: EmitterTable, segments: int | None = None) -> Iterator[PairsCorrelated | Drift]:
    """Estimate the drift from the structure itself, over `segments` equal stretches of the frames.

    By default there is a segment for every 5,000 localisations, 20 at most; pixels of 20 nm, larger ones for fields
    above 41 µm. Movements beyond 1 µm between any two segments are not searched. Between the middles of
    segments a cubic spline is drawn, beyond them it goes on straight. Yields an event for every pair of segments, the
    drift last. Raises VarError for a table that is empty, has frames out of order or positions that are not finite, and
    where segments are fewer than two or hold too few localisations; UsageError for settings that make no sense.
    """
    check_positions(table, _DOING)
    check_frames(table, _DOING)
    edges_S = _edges(table, segments)
    segment_E = np.searchsorted(edges_S, table.frame, side="right") - 1
    count_S = np.bincount(segment_E, minlength=len(edges_S) - 1)
    _check_counts(count_S, edges_S)
    spectra, pixel_nm = _renderings(table, segment_E, len(count_S))
    first_P, second_P = np.triu_indices(len(count_S), 1)
    peaks: list[Peak] = []
    for first, second in zip(first_P, second_P, strict=True):
        peaks.append(correlation_peak(np.conj(spectra[first]) * spectra[second], _REACH_NM / pixel_nm))
        yield PairsCorrelated(len(peaks), len(first_P))
    shift_P2 = np.array([[peak.x, peak.y] for peak in peaks]) * pixel_nm
    found_P = np.array([peak.found for peak in peaks])
    shift_S2, kept_P = _consistent(shift_P2, found_P, first_P, second_P, len(count_S))
    residual_P2 = (shift_P2 - (shift_S2[second_P] - shift_S2[first_P]))[kept_P]
    middle_S = np.bincount(segment_E, table.frame) / count_S
    frame_F = np.arange(table.frame[0], table.frame[-1] + 1)
    curve_F2 = _curve(frame_F, middle_S, shift_S2)
    start_2 = curve_F2[0]
    drift = Drift(
        frame=frame_F,
        x_nm=curve_F2[:, 0] - start_2[0],
        y_nm=curve_F2[:, 1] - start_2[1],
        segment_frame=middle_S,
        segment_x_nm=shift_S2[:, 0] - start_2[0],
        segment_y_nm=shift_S2[:, 1] - start_2[1],
        residual_nm=float(np.sqrt((residual_P2**2).sum(1).mean())),
        pairs=len(first_P),
        pairs_left_out=int(len(first_P) - kept_P.sum()),
    )
    if _sharpness(drift.apply(table), pixel_nm) < _BLURRED * _sharpness(table, pixel_nm):
        message = "drift: the drift between the segments would blur the image: they do not resemble each other"
        raise VarError(message, "take fewer segments, or correct no drift")
    yield drift


def _sharpness(table: EmitterTable, pixel_nm: float) -> float:
    """How many pairs of localisations share a pixel."""
    row_E, column_E = (np.floor(at / pixel_nm).astype(np.int64) for at in (table.y_nm, table.x_nm))
    _, count = np.unique(row_E * (2**31) + column_E, return_counts=True)
    return float((count * (count - 1.0)).sum())


def _edges(table: EmitterTable, segments: int | None) -> np.ndarray:
    """First frames of the segments, then the frame after the last [S + 1]."""
    frames = int(table.frame[-1] - table.frame[0]) + 1
    if segments is None:
        segments = min(len(table) // _PER_SEGMENT, _MOST_SEGMENTS, frames)
        if segments < 3:
            # Two would have nothing to check them.
            message = f"drift: {len(table)} localisations in {frames} frames make less than three segments"
            hint = f"{3 * _PER_SEGMENT} are good for three; give the number of segments to try with fewer localisations"
            raise VarError(message, hint)
    if segments < 2 or segments > frames:
        raise UsageError(f"drift: {segments} segments of {frames} frames", "give between 2 and the number of frames")
    return table.frame[0] + np.linspace(0, frames, segments + 1).round().astype(np.int64)


def _check_counts(count_S: np.ndarray, edges_S: np.ndarray) -> None:
    """Refuse segments with too few localisations."""
    worst = int(np.argmin(count_S))
    if count_S[worst] < _FEWEST:
        stretch = f"segment {worst + 1} of {len(count_S)} (frames {edges_S[worst]} to {edges_S[worst + 1] - 1})"
        message = f"drift: {stretch} has {count_S[worst]} localisations, fewer than {_FEWEST}"
        raise VarError(message, "take fewer segments, or a milder filter")


def _renderings(table: EmitterTable, segment_E: np.ndarray, segments: int) -> tuple[list[np.ndarray], float]:
    """Spectra of the histograms of all segments, and their pixel in nm.

    The images are as much wider as the sample may move, so that nothing is correlated with what lies across the edge.
    """
    left, top = table.x_nm.min(), table.y_nm.min()
    width, height = table.x_nm.max() - left + _REACH_NM, table.y_nm.max() - top + _REACH_NM
    pixel_nm = max(_FINEST_NM, max(width, height) / _MOST_PIXELS)
    if pixel_nm >= _REACH_NM:
        raise UsageError(f"drift: pixels of {pixel_nm:g} nm, a reach of {_REACH_NM:g} nm", "cut the table into parts")
    shape = [_fast(int(side / pixel_nm) + 1) for side in (height, width)]
    column_E, row_E = ((table.x_nm - left) / pixel_nm).astype(np.int64), ((table.y_nm - top) / pixel_nm).astype(int)
    spectra = []
    for segment in range(segments):
        chosen = segment_E == segment
        image_HW = np.zeros(shape, np.float32)
        np.add.at(image_HW, (row_E[chosen], column_E[chosen]), 1)
        spectra.append(np.asarray(fft.rfft2(image_HW)))
    return spectra, pixel_nm


def _fast(side: int) -> int:
    """An even number of pixels, at least `side`, whose Fourier transform is quick."""
    return 2 * (fft.next_fast_len(-(-side // 2), real=True) or side)


def _consistent(
    shift_P2: np.ndarray, found_P: np.ndarray, first_P: np.ndarray, second_P: np.ndarray, segments: int
) -> tuple[np.ndarray, np.ndarray]:
    """Shifts of all segments [S, 2] that agree best with those of the pairs, and the pairs that were kept [P].

    Least absolute residuals point out the pairs that contradict the rest; least squares over the others then decide.
    Raises VarError where what is left does not hang together.
    """
    design_PS = np.zeros((len(first_P), segments))
    design_PS[np.arange(len(first_P)), first_P], design_PS[np.arange(len(first_P)), second_P] = -1, 1
    weight_P, residual_P = found_P.astype(float), np.zeros(len(first_P))
    for _ in range(30):
        shift_S2 = _solved(design_PS, shift_P2, weight_P)
        residual_P = np.linalg.norm(shift_P2 - design_PS @ shift_S2, axis=1)
        weight_P = found_P / np.maximum(residual_P, _ROUNDING_NM / 4)
    # The median length of a two-dimensional normal error is 1.177 of its standard deviations; as many pairs as there
    # are numbers to find fit too well to count.
    surplus = max(found_P.sum() - (segments - 1), 1) / found_P.sum()
    spread = np.median(residual_P[found_P]) / 1.177 / np.sqrt(surplus)
    kept_P = found_P & (residual_P <= max(_OUTLIER * spread, _ROUNDING_NM))
    return _solved(design_PS, shift_P2, kept_P.astype(float)), kept_P


def _solved(design_PS: np.ndarray, shift_P2: np.ndarray, weight_P: np.ndarray) -> np.ndarray:
    """Weighted least squares with the first segment at rest."""
    root_P1 = np.sqrt(weight_P)[:, None]
    solution, _, rank, _ = np.linalg.lstsq(design_PS[:, 1:] * root_P1, shift_P2 * root_P1, rcond=1e-9)
    if rank < design_PS.shape[1] - 1:
        raise VarError("drift: the segments do not resemble each other", "take fewer segments, or correct no drift")
    return np.concatenate([np.zeros((1, 2)), solution])


def _curve(frame_F: np.ndarray, middle_S: np.ndarray, shift_S2: np.ndarray) -> np.ndarray:
    """The shift at every frame [F, 2]: a spline through the segments, straight before the first and after the last."""
    spline = interpolate.make_interp_spline(middle_S, shift_S2, k=min(3, len(middle_S) - 1))
    slope = spline.derivative()
    inside_F = np.clip(frame_F, middle_S[0], middle_S[-1])
    return spline(inside_F) + slope(inside_F) * (frame_F - inside_F)[:, None]
