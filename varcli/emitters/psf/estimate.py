"""What a stack shows of its own microscope: the PSF and the background, each with how it was measured.

Legend: F frames, Y X camera pixels.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from varcli.emitters.psf.covariance import ENOUGH_FRAMES, LagCovariance
from varcli.emitters.psf.gaussian import GaussianPsf, PsfMeasurement
from varcli.emitters.psf.isolated import fit_isolated

DEFAULT_SIGMA_PX = 1.3
_REACH = 16  # lags
_BACKGROUND_BLOCKS, _BACKGROUND_FRAMES = 4, 8  # a place, in blocks of 3 x 3 pixels
_LEAST_TILE = 40  # pixels
_MOST_PIXELS = 4 << 20  # that are looked at
_SPOT_FLOOR, _COVARIANCE_FLOOR = 0.004, 0.006  # relative errors of either way that its own deviation does not show
_USABLE = 0.12  # relative deviation of a width that is worth saying
_ALIKE = 0.1  # relative spread of widths of spots that stand alone; larger where many are several emitters
_TAIL_SCALE = 2.0  # of the tail that the covariance is fitted with
_LEAST_TAIL, _MOST_TAIL, _TAIL_DEVIATIONS, _TAIL_FLOOR = 0.05, 0.45, 4.0, 0.01


def estimate_psf(frames_e: np.ndarray, excess: float, read_variance: float | np.ndarray) -> PsfMeasurement:
    """Measure the PSF in photoelectrons [F, Y, X] of a camera with this variance per electron, and without light.

    Two independent ways: isolated spots, precise where emitters are sparse, and the covariance of pixels over time,
    which holds where they overlap (see `covariance`). Frames that lie apart in time carry the most information.
    """
    wanted = max(1, _MOST_PIXELS // frames_e[0].size)
    chosen = np.unique(np.linspace(0, len(frames_e) - 1, min(wanted, len(frames_e))).round().astype(int))
    frames_e = np.ascontiguousarray(frames_e[chosen], np.float32)
    _, background, _ = estimate_background(frames_e)
    together = _by_covariance(frames_e)
    start = together.sigma_px if together else DEFAULT_SIGMA_PX
    alone = _by_spots(frames_e, excess, read_variance, background, start)
    if together and alone and alone.unexplained > _ALIKE:
        alone = None
    if together and alone and not _agree(together, alone):
        # Emitters that never switch deceive the covariance.
        together = None
    if not together and not alone:
        sentence = f"no emitters to measure the PSF on: its width is assumed to be {DEFAULT_SIGMA_PX} px"
        default = GaussianPsf.of(DEFAULT_SIGMA_PX)
        return PsfMeasurement(default, DEFAULT_SIGMA_PX, math.inf, 0.0, sentence=sentence)
    return _described(_combined(together, alone), together, alone)


def estimate_background(frames_e: np.ndarray) -> tuple[float, float, float]:
    """The background in photoelectrons per pixel: 5%, 50% and 95% of its places, about 12 pixels wide, over 8 frames.

    From the dark half of 3 x 3 means in every place, so that emitters which cover less than half of it do not count.
    """
    smooth = _block_means(frames_e, 3)
    local = []
    for start in range(0, len(smooth), _BACKGROUND_FRAMES):
        some = smooth[start : start + _BACKGROUND_FRAMES]
        for rows in np.array_split(np.arange(some.shape[1]), max(1, round(some.shape[1] / _BACKGROUND_BLOCKS))):
            for columns in np.array_split(np.arange(some.shape[2]), max(1, round(some.shape[2] / _BACKGROUND_BLOCKS))):
                block = some[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                dark, darker = np.nanquantile(block, [0.3, 0.1])
                # Of Gaussian noise, 30% lie below mean - 0.524 sd and 10% below mean - 1.282 sd.
                local.append(dark + 0.524 * (dark - darker) / 0.757)
    low, middle, high = np.nanquantile(np.array(local), [0.05, 0.5, 0.95])
    return float(low), float(middle), float(high)


def _block_means(frames_FYX: np.ndarray, side: int) -> np.ndarray:
    """Means over blocks of side x side pixels; what is left at the edges is cut off."""
    frames, height, width = frames_FYX.shape
    side = min(side, height, width)
    rows, columns = height // side, width // side
    cut = frames_FYX[:, : rows * side, : columns * side].reshape(frames, rows, side, columns, side)
    return cut.mean((2, 4), dtype=np.float64)


@dataclass(frozen=True)
class _Together:
    plain: PsfMeasurement
    tailed: PsfMeasurement | None

    @property
    def sigma_px(self) -> float:
        return self.plain.sigma_px

    @property
    def sd_log(self) -> float:
        return math.hypot(self.plain.sd_log, _COVARIANCE_FLOOR)


def _by_covariance(frames_e: np.ndarray) -> _Together | None:
    """The widths from the covariance; None where it cannot tell them."""
    finite = np.nan_to_num(frames_e, nan=float(np.nanmedian(frames_e)))
    if len(finite) < ENOUGH_FRAMES:
        finite = _tiles(finite)
    reach = min(_REACH, (min(finite.shape[1:]) - 1) // 2)
    if reach < 4:
        return None
    if len(finite) < ENOUGH_FRAMES:
        return None
    lags = LagCovariance(finite, reach)
    plain = lags.fit(None)
    if not (plain.sd_log < _USABLE and plain.unexplained < 0.1):
        return None
    return _Together(plain, lags.fit(_TAIL_SCALE) if len(frames_e) >= ENOUGH_FRAMES else None)


def _tiles(frames_FYX: np.ndarray) -> np.ndarray:
    """Few frames as many smaller ones, down to a side of 40 pixels."""
    height, width = frames_FYX.shape[1:]
    cuts = math.ceil(math.sqrt(4 * ENOUGH_FRAMES / len(frames_FYX)))
    side = min(max(min(height, width) // cuts, _LEAST_TILE), height, width)
    rows, columns = height // side, width // side
    cut = frames_FYX[:, : rows * side, : columns * side].reshape(-1, rows, side, columns, side)
    tiles = cut.transpose(0, 1, 3, 2, 4).reshape(-1, side, side)
    return tiles - tiles.mean((1, 2), keepdims=True)


def _by_spots(
    frames_e: np.ndarray, excess: float, read_variance: float | np.ndarray, background_e: float, start_px: float
) -> PsfMeasurement | None:
    """The shape of isolated spots, searched for at the scale that they turn out to have."""
    found, sigma_px = None, start_px
    for _ in range(3):
        found = fit_isolated(frames_e, excess, read_variance, background_e, sigma_px, with_tail=False)
        if found is None or abs(math.log(found.single_px / sigma_px)) < 0.1:
            break
        sigma_px = found.single_px
    if found is None or found.sd_log > _USABLE:
        return None
    tailed = fit_isolated(frames_e, excess, read_variance, background_e, sigma_px, with_tail=True)
    return tailed or found


def _spot_sd(alone: PsfMeasurement) -> float:
    """Relative deviation of the spots' width, with what unseen neighbours may add."""
    return math.hypot(alone.sd_log, _SPOT_FLOOR + 0.1 * alone.unexplained)


def _agree(together: _Together, alone: PsfMeasurement) -> bool:
    apart = abs(math.log(together.sigma_px / alone.single_px))
    return apart < 3 * math.hypot(together.sd_log, _spot_sd(alone)) or apart < 0.03


def _combined(together: _Together | None, alone: PsfMeasurement | None) -> PsfMeasurement:
    """The weighted mean of both ways, with a tail where they are sure of it."""
    tail, sd_tail, scale = _tail(together, alone)
    ways: list[tuple[float, float, float]] = []  # log width, log ellipticity, deviation
    if together:
        found = together.tailed if tail and together.tailed else together.plain
        ratio = math.log(found.psf.sigma_x_px / found.psf.sigma_y_px)
        deviation = math.hypot(found.sd_log, _COVARIANCE_FLOOR)
        ways.append((math.log(found.sigma_px), 0.5 * ratio, deviation))
    if alone:
        ratio = math.log(alone.psf.sigma_x_px / alone.psf.sigma_y_px)
        width = alone.sigma_px if tail else alone.single_px
        ways.append((math.log(width), 0.5 * ratio, _spot_sd(alone)))
    weights = np.array([1 / way[2] ** 2 for way in ways])
    log_sigma, log_ratio = (weights / weights.sum()) @ np.array([way[:2] for way in ways])
    psf = GaussianPsf.of(math.exp(log_sigma), math.exp(log_ratio), tail, scale)
    spots = alone.spots if alone else 0
    return PsfMeasurement(psf, math.exp(log_sigma), 1 / math.sqrt(weights.sum()), sd_tail, spots=spots)


def _tail(together: _Together | None, alone: PsfMeasurement | None) -> tuple[float, float, float]:
    """The tail, its deviation and its scale; none unless both ways, where there are two, agree on one."""
    found = []
    if together and together.tailed and together.tailed.psf.tail < _MOST_TAIL:
        found.append((together.tailed.psf.tail, max(together.tailed.sd_tail, _TAIL_FLOOR), _TAIL_SCALE))
    if alone and math.isfinite(alone.sd_tail):
        found.append((alone.psf.tail, max(alone.sd_tail, _TAIL_FLOOR), alone.psf.tail_scale))
    if not found:
        return 0.0, 0.0, _TAIL_SCALE
    tails, deviations, scales = np.array(found).T
    if len(found) > 1 and abs(tails[0] - tails[1]) > 3 * math.hypot(*deviations):
        # The spots show the tail itself; the covariance confuses it with a background that flickers.
        tails, deviations, scales = tails[1:], deviations[1:], scales[1:]
    weights = deviations**-2.0 / np.sum(deviations**-2.0)
    tail, sd_tail = float(weights @ tails), float(np.sum(deviations**-2.0) ** -0.5)
    if tail < _LEAST_TAIL or tail < _TAIL_DEVIATIONS * sd_tail:
        return 0.0, 0.0, _TAIL_SCALE
    return tail, sd_tail, float(scales[np.argmin(deviations)])


def _described(found: PsfMeasurement, together: _Together | None, alone: PsfMeasurement | None) -> PsfMeasurement:
    """The same with a sentence for people."""
    psf, how = found.psf, []
    if alone:
        how.append(f"from {alone.spots} isolated spots")
    if together:
        how.append("from how pixels fluctuate together")
    text = f"PSF width {found.sigma_px:.3f} ± {found.sd_px:.3f} px, measured {' and '.join(how)}"
    if psf.tail:
        share = f"{100 * psf.tail:.0f}% of the light"
        text += f"; {share} lies in a tail {psf.tail_scale:g} times as wide"
    ratio = psf.sigma_x_px / psf.sigma_y_px
    if abs(math.log(ratio)) > 0.06:
        wider, by = ("x", ratio) if ratio > 1 else ("y", 1 / ratio)
        text += f"; {100 * (by - 1):.0f}% wider along {wider}"
    return replace(found, sentence=text)
