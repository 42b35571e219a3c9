"""NeNA: how precise localisations are, from the distances between those of consecutive frames.

Source: Endesfelder et al., Histochemistry and Cell Biology 141, 629 (2014). Legend: E localisations, B bins.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import curve_fit
from scipy.spatial import KDTree

from varcli.emitters.post.checks import check_frames, check_positions
from varcli.emitters.table import EmitterTable
from varcli.errors import VarError

_DOING = "NeNA"
_FEWEST = 500  # distances below which the histogram is too rough for the fit
_BINS = 120
_SEARCHED_NM = 1500.0  # neighbours farther away are never searched
_UNRELATED = (
    0.7  # near neighbours in one's own frame, as a share of those in the next: with more, all are other molecules
)
_WIDEST_PEAK_NM = 150.0  # a precision of 100 nm: what peaks farther away are other molecules
_PEAK_BINS = 200  # of the rough search of where the distances peak
_RANGE = 6.0  # of the fitted distances, in units of that peak
_MOST = 2_000_000  # distances that are used; evenly spread over the frames, they serve as well as all


@dataclass(frozen=True)
class Nena:
    """The precision of one coordinate, its standard error from the fit, and what it was read from [B].

    `counts` are distances per bin between nearest neighbours of consecutive frames, `fitted` those of the model.
    """

    precision_nm: float
    error_nm: float
    distances: int
    distance_nm: np.ndarray
    counts: np.ndarray
    fitted: np.ndarray


def nena(table: EmitterTable) -> Nena:
    """Fit the distances up to six times where they peak.

    The model is that of the source: p(d) = A d / (2 s^2) exp(-d^2 / 4 s^2) for one molecule seen twice, a Gaussian for
    what lies a little further, and a straight line for other molecules. Raises VarError for a table that is empty, has
    frames out of order or positions that are not finite, or too few molecules seen in consecutive frames.
    """
    check_positions(table, _DOING)
    check_frames(table, _DOING)
    distance_E, own_E = _distances(table)
    if len(distance_E) < _FEWEST:
        message = f"NeNA: {len(distance_E)} neighbours in consecutive frames, fewer than {_FEWEST}"
        raise VarError(message, "measure before linking, or on more frames")
    peak_nm = _peak(distance_E)
    if peak_nm > _WIDEST_PEAK_NM:
        message = f"NeNA: no molecule lasts two frames: neighbours in consecutive frames lie {peak_nm:.0f} nm apart"
        raise VarError(message, "measure before linking")
    if np.sum(own_E < 2 * peak_nm) > _UNRELATED * np.sum(distance_E < 2 * peak_nm):
        message = "NeNA: localisations of consecutive frames lie no nearer to each other than those of one frame"
        raise VarError(message, "measure before linking, on molecules that last two frames or more")
    farthest_nm = _RANGE * peak_nm
    counts_B, edges_B = np.histogram(distance_E, bins=_BINS, range=(0, farthest_nm))
    middle_B = (edges_B[1:] + edges_B[:-1]) / 2
    numbers, errors = _fit(middle_B, counts_B.astype(float), peak_nm, farthest_nm)
    if not (np.isfinite(errors[1]) and errors[1] < numbers[1] / 4):
        raise VarError("NeNA: the distances between consecutive frames do not peak", "too few blinks last two frames")
    return Nena(
        float(numbers[1]), float(errors[1]), int(counts_B.sum()), middle_B, counts_B, _model(middle_B, *numbers)
    )


def _distances(table: EmitterTable) -> tuple[np.ndarray, np.ndarray]:
    """Distance of every localisation to the nearest one of the next frame, and to the nearest other one of its own.

    Those farther than any that are searched are left out.
    """
    # Frames become a third axis: moved on by one frame, each localisation lies in the layer of its neighbours.
    apart = 4 * _SEARCHED_NM
    place_E3 = np.column_stack([table.x_nm, table.y_nm, table.frame * apart])
    asked_E3 = place_E3[:: -(-len(table) // _MOST)]
    tree = KDTree(place_E3)
    next_E, _ = tree.query(asked_E3 + np.array([0, 0, apart]), distance_upper_bound=_SEARCHED_NM)
    itself_and_other_E2, _ = tree.query(asked_E3, k=2, distance_upper_bound=_SEARCHED_NM)
    own_E = itself_and_other_E2[:, 1]
    return next_E[np.isfinite(next_E)], own_E[np.isfinite(own_E)]


def _peak(distance_E: np.ndarray) -> float:
    """Where short distances are most frequent, roughly: the densest of windows that grow with distance."""
    log_E = np.log(np.maximum(distance_E, 0.05))
    counts, edges = np.histogram(log_E, bins=_PEAK_BINS, range=(np.log(0.1), np.log(distance_E.max() + 1)))
    window = np.ones(15) / 15
    smooth = np.convolve(counts, window, mode="same")
    # Other molecules are ever more frequent with distance; twice a Rayleigh's mode they would be its double.
    middle = np.exp((edges[1:] + edges[:-1]) / 2)
    return float(middle[np.argmax(smooth / middle)])


def _fit(distance_B: np.ndarray, counts_B: np.ndarray, peak_nm: float, farthest_nm: float) -> tuple:
    """Numbers of the model and their standard errors.

    The Gaussian is only there where the distances call for it (Bayesian information criterion): otherwise it would
    share the peak with the molecules themselves, and nothing would determine the shares.
    """
    total = counts_B.sum() * (distance_B[1] - distance_B[0])
    slope = max(float(counts_B[-10:].mean()), 1e-3) / farthest_nm
    fits = [_converged(distance_B, counts_B, [0.8 * total, 0.7 * peak_nm, slope], peak_nm, farthest_nm)]
    for centre, width in ((3.5, 0.5), (4.5, 1.0)):
        start = [0.8 * total, 0.7 * peak_nm, slope, 0.05 * total, centre * peak_nm, width * peak_nm]
        fits.append(_converged(distance_B, counts_B, start, peak_nm, farthest_nm))
    converged = [fit for fit in fits if fit is not None]
    if not converged:
        raise VarError("NeNA: the distances between consecutive frames cannot be fitted", "measure on more frames")
    return min(converged, key=lambda fit: fit[0])[1:]


def _converged(
    distance_B: np.ndarray, counts_B: np.ndarray, start: list[float], peak_nm: float, farthest_nm: float
) -> tuple[float, np.ndarray, np.ndarray] | None:
    """The criterion, the numbers and their standard errors of a fit; None where it does not converge."""
    weight_B = np.sqrt(counts_B + 1)
    farthest_nm = max(farthest_nm, 4 * peak_nm)
    lowest = np.array([0, peak_nm / 4, 0, 0, 3 * peak_nm, peak_nm / 4])[: len(start)]
    highest = np.array([np.inf, 2 * peak_nm, np.inf, np.inf, farthest_nm, farthest_nm])[: len(start)]
    at = np.clip(start, lowest + 1e-9, highest)
    try:
        numbers, covariance = curve_fit(
            _model, distance_B, counts_B, p0=at, sigma=weight_B, bounds=(lowest, highest), max_nfev=2000
        )
    except RuntimeError:
        return None
    misfit = float((((_model(distance_B, *numbers) - counts_B) / weight_B) ** 2).sum())
    return misfit + len(start) * np.log(len(counts_B)), numbers, np.sqrt(np.diag(covariance))


def _model(
    distance: np.ndarray,
    seen: float,
    sd: float,
    slope: float,
    near: float = 0.0,
    centre: float = 0.0,
    width: float = 1.0,
) -> np.ndarray:
    """Expected counts at a distance; `seen` and `near` are areas."""
    same = seen * distance / (2 * sd**2) * np.exp(-(distance**2) / (4 * sd**2))
    beside = near / (width * np.sqrt(2 * np.pi)) * np.exp(-((distance - centre) ** 2) / (2 * width**2))
    return same + beside + slope * distance
