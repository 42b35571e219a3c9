"""The limit: a perfect unbiased estimator that knows every emitter, with errors from the joint Cramér-Rao bound.

Light and positions of all emitters of a frame and the scale of its background are estimated together, under the weak
prior that the law of the light gives.

Legend: E emitters of a frame.
"""

import math
import zlib

import numpy as np
from emitter_sets import CAMERAS, SIZE_PX, Law, Truth, spots

from varcli.emitters.evaluation.metrics import Scores, score
from varcli.emitters.table import EmitterTable

_STEP_PX = 1e-3
_PRIOR_PLACE_PX = 10.0


def truth_table(law: Law, truth: Truth) -> EmitterTable:
    """The emitters in the field, as a table."""
    inside, size = truth.inside, law.pixel_size_nm
    x, y = truth.x_px[inside] * size, truth.y_px[inside] * size
    return EmitterTable(truth.frame[inside].astype(np.int64), x, y, photons=truth.electrons[inside])


def score_set(law: Law, found: EmitterTable, truth: Truth) -> Scores:
    """Scores by the benchmark's rules; the dim parts of blinks count neither for nor against."""
    side = SIZE_PX * law.pixel_size_nm
    least = 250.0 if law.kind == "blink" else 0.0
    size = {"width_nm": side, "height_nm": side, "pixel_size_nm": law.pixel_size_nm}
    return score(found, truth_table(law, truth), **size, least_photons=least)


def oracle(law: Law, truth: Truth, draws: int = 3) -> tuple[Scores, float]:
    """Scores of the draw with the middle efficiency, and the rms bound per axis in nm."""
    rng = np.random.default_rng([1, zlib.crc32(law.name.encode())])
    rows: list[list[np.ndarray]] = [[] for _ in range(draws)]
    bounds = []
    for frame in np.unique(truth.frame):
        here = truth.frame == frame
        x, y, light = truth.x_px[here], truth.y_px[here], truth.electrons[here]
        covariance = _bound(law, x, y, light, truth.background_FYX[frame])
        root = np.linalg.cholesky(covariance + 1e-12 * np.diag(covariance).max() * np.eye(len(covariance)))
        count = len(x)
        for drawn in rows:
            error_3E = (root @ rng.normal(size=3 * count)).reshape(3, count)
            drawn.append(np.stack([np.full(count, frame), x + error_3E[0], y + error_3E[1], light + error_3E[2]]))
        scored = (np.minimum(x, y) > 4.5) & (np.maximum(x, y) < SIZE_PX - 4.5)
        bounds.append(0.5 * (np.diag(covariance)[:count] + np.diag(covariance)[count : 2 * count])[scored])
    scores = [score_set(law, _table(law, np.concatenate(drawn, axis=1)), truth) for drawn in rows]
    middle = sorted(scores, key=lambda one: one.efficiency)[draws // 2]
    return middle, law.pixel_size_nm * math.sqrt(float(np.mean(np.concatenate(bounds))))


def _table(law: Law, rows_4E: np.ndarray) -> EmitterTable:
    frame, x, y, light = rows_4E[:, np.all((rows_4E[1:3] >= 0) & (rows_4E[1:3] < SIZE_PX), axis=0)]
    return EmitterTable(frame.astype(np.int64), x * law.pixel_size_nm, y * law.pixel_size_nm, photons=light)


def _bound(law: Law, x: np.ndarray, y: np.ndarray, light: np.ndarray, background_YX: np.ndarray) -> np.ndarray:
    """Covariance [3E, 3E] of x, y and light."""
    camera = CAMERAS[law.camera]
    image = spots(law, x, y)
    slope_x = (spots(law, x + _STEP_PX, y) - spots(law, x - _STEP_PX, y)) / (2 * _STEP_PX)
    slope_y = (spots(law, x, y + _STEP_PX) - spots(law, x, y - _STEP_PX)) / (2 * _STEP_PX)
    mean = background_YX + np.tensordot(light, image, 1)
    read = (camera.read_noise_e / camera.gain) ** 2 + (camera.e_per_adu / camera.gain) ** 2 / 12
    variance = (2.0 if camera.em_gain else 1.0) * (mean + camera.spurious_e) + read
    slopes = np.concatenate([slope_x * light[:, None, None], slope_y * light[:, None, None], image])
    slopes = np.concatenate([slopes, background_YX[None]]).reshape(3 * len(x) + 1, -1)
    information = (slopes / variance.ravel()) @ slopes.T
    # Unit diagonal keeps the inverse stable.
    unit = np.sqrt(np.maximum(np.diag(information), 1e-12))
    place = np.full(2 * len(x), _PRIOR_PLACE_PX**-2)
    prior = np.concatenate([place, np.full(len(x), _light_sd(law) ** -2), [0.0]])
    inverse = np.linalg.inv(information / np.outer(unit, unit) + np.diag(prior / unit**2))
    return (inverse / np.outer(unit, unit))[:-1, :-1]


def _light_sd(law: Law) -> float:
    if law.log_normal:
        return law.electrons * math.exp(law.spread**2 / 2) * math.sqrt(math.exp(law.spread**2) - 1)
    return law.spread or 10 * law.electrons
