"""How good a table of emitters is against the truth: detection, precision, bias and calibration of its uncertainties.

Legend: E found emitters, G true emitters, P pairs.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from varcli.emitters.evaluation.matching import match_emitters
from varcli.emitters.table import EmitterTable
from varcli.errors import UsageError

_BINS = 10  # of the probability, in its calibration error
_ROBUST = 1.4826  # median absolute deviation to standard deviation of a Gaussian


@dataclass(frozen=True)
class Scores:
    """Figures over all frames; NaN where a column or any pair is missing.

    `jaccard` is in percent. `rmse_nm` is lateral (both axes), `rmse_axis_nm` per axis. `efficiency` is
    100 - √((100 - jaccard)² + (rmse_nm / 1 nm)²), Sage et al. 2019 with 1 nm counting as 1%; 0 without any pair.
    `photon_ratio` is the median of found over true photons. `gridding_x` and `gridding_y` are |mean exp(2πi x / pixel)|
    of what was found: about 1/√n by chance, 1 if all lie on one sub-pixel position. `within_1_sd` and `within_2_sd` are
    the shares of errors that the table's own standard deviations cover (a Gaussian: 0.683, 0.954), `z_std_robust`
    their spread (1). `probability_error` is the expected calibration error over ten bins.
    """

    true_positives: int
    false_positives: int
    missed: int
    precision: float
    recall: float
    jaccard: float
    rmse_nm: float
    rmse_axis_nm: float
    efficiency: float
    bias_x_nm: float
    bias_y_nm: float
    photon_ratio: float
    gridding_x: float
    gridding_y: float
    within_1_sd: float
    within_2_sd: float
    z_std_robust: float
    probability_error: float


def score(
    found: EmitterTable,
    truth: EmitterTable,
    *,
    width_nm: float,
    height_nm: float,
    radius_nm: float = 250.0,
    border_nm: float = 450.0,
    pixel_size_nm: float | None = None,
    least_photons: float = 0.0,
) -> Scores:
    """Score a table; `pixel_size_nm` is needed for the gridding alone.

    Pairs and misses are left out by the true position where it lies within `border_nm` of the edge, unpaired finds by
    their own. True emitters below `least_photons` are "do not care": neither a miss nor, with what is paired to them,
    a hit.
    """
    found_E2 = np.column_stack([found.x_nm, found.y_nm])
    true_G2 = np.column_stack([truth.x_nm, truth.y_nm])
    pair_found, pair_true = match_emitters(found.frame, found_E2, truth.frame, true_G2, radius_nm)
    false_E = _inside(found_E2, width_nm, height_nm, border_nm)
    false_E[pair_found] = False
    counted_G = _inside(true_G2, width_nm, height_nm, border_nm)
    if least_photons > 0 and truth.photons is not None:
        counted_G &= truth.photons >= least_photons
    hit = counted_G[pair_true]
    pair_found, pair_true = pair_found[hit], pair_true[hit]

    hits, false, missed = len(pair_found), int(false_E.sum()), int(counted_G.sum()) - len(pair_found)
    error_P2 = found_E2[pair_found] - true_G2[pair_true]
    rmse = math.sqrt(np.mean(np.sum(error_P2**2, axis=1))) if hits else math.nan
    jaccard = 100.0 * hits / max(1, hits + false + missed)
    within_1, within_2, robust = _coverage(found, pair_found, error_P2)
    return Scores(
        true_positives=hits,
        false_positives=false,
        missed=missed,
        precision=hits / max(1, hits + false),
        recall=hits / max(1, hits + missed),
        jaccard=jaccard,
        rmse_nm=rmse,
        rmse_axis_nm=rmse / math.sqrt(2.0),
        efficiency=100.0 - math.hypot(100.0 - jaccard, rmse) if hits else 0.0,
        bias_x_nm=_mean(error_P2[:, 0]),
        bias_y_nm=_mean(error_P2[:, 1]),
        photon_ratio=_photon_ratio(found, truth, pair_found, pair_true),
        gridding_x=_gridding(found.x_nm, pixel_size_nm),
        gridding_y=_gridding(found.y_nm, pixel_size_nm),
        within_1_sd=within_1,
        within_2_sd=within_2,
        z_std_robust=robust,
        probability_error=_probability_error(found, pair_found, np.flatnonzero(false_E)),
    )


def _inside(position_N2: np.ndarray, width: float, height: float, border: float) -> np.ndarray:
    """Which positions lie at least `border` away from every edge."""
    return np.all((position_N2 >= border) & (position_N2 <= np.array([width, height]) - border), axis=1)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _photon_ratio(found: EmitterTable, truth: EmitterTable, pair_found: np.ndarray, pair_true: np.ndarray) -> float:
    if found.photons is None or truth.photons is None or not len(pair_found):
        return math.nan
    return float(np.median(found.photons[pair_found] / truth.photons[pair_true]))


def _gridding(position_nm: np.ndarray, pixel_size_nm: float | None) -> float:
    if pixel_size_nm is None or not len(position_nm):
        return math.nan
    return float(abs(np.mean(np.exp(2j * np.pi * position_nm / pixel_size_nm))))


def _coverage(found: EmitterTable, pair_found: np.ndarray, error_P2: np.ndarray) -> tuple[float, float, float]:
    """Shares of errors within one and two stated standard deviations, and the robust spread of their ratio."""
    if found.sd_x_nm is None or found.sd_y_nm is None or not len(pair_found):
        return math.nan, math.nan, math.nan
    ratio = np.abs(error_P2 / np.column_stack([found.sd_x_nm, found.sd_y_nm])[pair_found])
    return float(np.mean(ratio < 1)), float(np.mean(ratio < 2)), float(_ROBUST * np.median(ratio))


def _probability_error(found: EmitterTable, hits: np.ndarray, false: np.ndarray) -> float:
    """Mean distance between stated probability and share of hits, over bins weighted by what they hold."""
    if found.probability is None or not len(hits) + len(false):
        return math.nan
    stated = found.probability[np.concatenate([hits, false])]
    true = np.concatenate([np.ones(len(hits)), np.zeros(len(false))])
    bin_of = np.clip((stated * _BINS).astype(int), 0, _BINS - 1)
    counts = np.bincount(bin_of, minlength=_BINS)
    gaps = np.bincount(bin_of, stated, _BINS) - np.bincount(bin_of, true, _BINS)
    return float(np.abs(gaps).sum() / counts.sum())


@dataclass(frozen=True)
class Evaluation:
    """Scores, and what they were made with: `size_nm` (width, height) of the field, sentences about what is assumed, by
    name, the rows of both tables and the number of frames that hold an emitter on either side."""

    radius_nm: float
    border_nm: float
    least_photons: float
    size_nm: tuple[float, float]
    pixel_size_nm: float | None
    assumed: dict[str, str]
    emitters: dict[str, int]
    frames: int
    scores: Scores

    def document(self) -> dict[str, Any]:
        """For JSON, the scores beside the rest."""
        document: dict[str, Any] = asdict(self) | {"size_nm": list(self.size_nm)}
        scores = document.pop("scores")
        return {**document, **scores}


def evaluate(
    found: EmitterTable,
    truth: EmitterTable,
    radius_nm: float,
    border_nm: float,
    size_nm: tuple[float, float] | None,
    pixel_size_nm: float | None,
    least_photons: float,
) -> Evaluation:
    """Score a table on the field that is given, that the tables give or, failing that, that the emitters span.

    Raises UsageError where nothing of the field is left within the border.
    """
    pixel_nm = pixel_size_nm or _stated(found, truth, "pixel_size_nm")
    size, assumed = size_nm or _stated_size(found, truth, pixel_nm), {}
    if size is None:
        side = truth if len(truth) else found
        if not len(side):
            raise UsageError("both tables are empty and neither says how large the field is", "give --size-nm W,H")
        size = float(side.x_nm.max()), float(side.y_nm.max())
        assumed["size_nm"] = "the field ends at the furthest emitter"
    if min(size) <= 2 * border_nm:
        message = f"--border {border_nm:g}: nothing is left of {size[0]:g} x {size[1]:g} nm"
        raise UsageError(message, "choose a smaller one")
    scores = score(
        found,
        truth,
        width_nm=size[0],
        height_nm=size[1],
        radius_nm=radius_nm,
        border_nm=border_nm,
        pixel_size_nm=pixel_nm,
        least_photons=least_photons,
    )
    rows = {"found": len(found), "truth": len(truth)}
    frames = len(np.union1d(found.frame, truth.frame))
    return Evaluation(radius_nm, border_nm, least_photons, size, pixel_nm, assumed, rows, frames, scores)


def _stated(found: EmitterTable, truth: EmitterTable, key: str) -> float | None:
    """A number of the provenance of either table, the truth's first."""
    values = [side.meta[key] for side in (truth, found) if isinstance(side.meta.get(key), int | float)]
    return float(values[0]) if values else None


def _stated_size(found: EmitterTable, truth: EmitterTable, pixel_size_nm: float | None) -> tuple[float, float] | None:
    width, height = (_stated(found, truth, key) for key in ("width", "height"))
    if pixel_size_nm is None or width is None or height is None:
        return None
    return width * pixel_size_nm, height * pixel_size_nm
