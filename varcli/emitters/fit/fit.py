"""Refinement of emitters against the image: joint maximum likelihood, how many there are, and their Cramér-Rao bounds.

Everything is in photoelectrons and camera pixels from the corner of the frame. Frames are independent of one another,
so results do not depend on how many threads share them.

Legend: n frames, Y X camera pixels, E emitters.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from varcli.emitters.camera.noise import Noise
from varcli.emitters.fit.block import MAX_BLOCK, Law, Optics, Plan, workspace
from varcli.emitters.fit.frame import FITTED, refine_frame
from varcli.emitters.prior import PhotonPrior
from varcli.emitters.psf.gaussian import GaussianPsf
from varcli.emitters.table import Emitters

WINDOW_PIXELS = 4096


@dataclass(frozen=True)
class RefineSettings:
    """Limits of the search.

    `sweeps` of the joint fit before the search, `rounds` of moves at most, `final_sweeps` after it. `margin` is the log
    evidence that one more emitter must win near others, `lone_margin` where none is near; moves that a quick look puts
    below `screen` are not tried. `model_error` is the share of the signal by which the spot's shape may be wrong while
    counts are judged, `outliers` the share of emitters outside the law of photons, `density` emitters per px² (None: as
    many as candidates), `block` the most emitters fitted at once (2 to 8), `threads` share the frames.
    """

    sweeps: int = 2
    rounds: int = 8
    final_sweeps: int = 3
    margin: float = -1.0
    lone_margin: float = 4.0
    screen: float = -4.0
    model_error: float = 0.03
    outliers: float = 0.03
    density: float | None = None
    block: int = 7
    threads: int = 2


def fit(
    frames_e: np.ndarray,
    candidates: Emitters,
    noise: Noise,
    psf: GaussianPsf,
    prior: PhotonPrior | None = None,
    settings: RefineSettings | None = None,
    known: np.ndarray | None = None,
) -> Emitters:
    """Fit the candidates of frames [n, Y, X] jointly, as many as they are.

    Without a prior every emitter is fitted by the likelihood alone; with one, emitters that overlap are drawn to it.
    Pixels that are not finite, or not in `known` [Y, X] (booleans), count for nothing.
    """
    return run(frames_e, candidates, noise, psf, prior, settings, known, select=False)


def refine(
    frames_e: np.ndarray,
    candidates: Emitters,
    noise: Noise,
    psf: GaussianPsf,
    prior: PhotonPrior | None = None,
    settings: RefineSettings | None = None,
    known: np.ndarray | None = None,
) -> Emitters:
    """Like `fit`, and find by the evidence of the image which emitters are missing, doubled, merged or not there."""
    return run(frames_e, candidates, noise, psf, prior, settings, known, select=True)


def run(
    frames_e: np.ndarray,
    candidates: Emitters,
    noise: Noise,
    psf: GaussianPsf,
    prior: PhotonPrior | None,
    settings: RefineSettings | None,
    known: np.ndarray | None,
    select: bool,
) -> Emitters:
    """Both ways of `fit` and `refine`: frames shared among threads, rows put together in the order of frames."""
    settings = settings or RefineSettings()
    count, height, width = frames_e.shape
    shift = np.broadcast_to(np.asarray(noise.read_variance / noise.excess, np.float64), (height, width)).copy()
    law, plan = law_of(candidates, prior, settings, count * height * width), plan_of(settings)
    order = np.argsort(candidates.frame, kind="stable")
    first = np.searchsorted(candidates.frame[order], np.arange(count + 1))
    padded = np.append(order, -1)
    values = np.stack([candidates.x_px, candidates.y_px, candidates.electrons], 1).astype(np.float64)[order]

    def work_on(chunk: range) -> list[np.ndarray]:
        work = workspace(WINDOW_PIXELS)
        rows = []
        for k in chunk:
            data = np.asarray(frames_e[k], np.float32)
            usable = np.isfinite(data) if known is None else np.isfinite(data) & known
            found = refine_frame(
                np.where(usable, data, np.float32(0)),
                usable.astype(np.float32),
                shift,
                float(noise.excess),
                values[first[k] : first[k + 1]],
                Optics(*psf),
                law,
                prior is not None,
                select,
                plan,
                work,
            )
            origin = found["origin"]
            found["origin"] = np.where(origin >= 0, padded[first[k] + origin], -1)
            found["frame"] = k
            rows.append(found)
        return rows

    with ThreadPoolExecutor(settings.threads) as pool:
        rows = [row for part in pool.map(work_on, chunks(count, settings.threads)) for row in part]
    table = np.concatenate(rows) if rows else np.empty(0, FITTED)
    return Emitters(**{name: table[name].copy() for name in FITTED.names or ()})


def chunks(count: int, threads: int) -> Iterator[range]:
    """Ranges of a few frames: work for one thread at a time, with some for every thread."""
    size = max(1, min(8, count // (4 * threads)))
    for start in range(0, count, size):
        yield range(start, min(count, start + size))


def law_of(candidates: Emitters, prior: PhotonPrior | None, settings: RefineSettings, pixels: int) -> Law:
    """The law of electrons and the density of emitters that counts are judged by."""
    usable = candidates.electrons[candidates.electrons > 0]
    mean = prior.log_mean if prior else (float(np.median(np.log(usable))) if len(usable) else math.log(1000.0))
    sd = max(prior.log_sd, 0.1) if prior else 1.0
    density = settings.density if settings.density is not None else len(candidates.frame) / max(pixels, 1)
    return Law(mean, sd, settings.outliers, 2 * sd + 0.6, math.log(max(density, 2e-6)))


def plan_of(settings: RefineSettings) -> Plan:
    """The numbers of the settings in the form that compiled functions take."""
    assert 2 <= settings.block < MAX_BLOCK
    names = ("sweeps", "rounds", "final_sweeps", "margin", "lone_margin", "screen", "model_error", "block")
    return Plan(**{name: Plan.__annotations__[name](getattr(settings, name)) for name in names})


def photon_prior(fitted: Emitters) -> PhotonPrior | None:
    """The law of electrons that a first pass shows, from emitters that stand alone; None where fewer than 30 do."""
    precise = fitted.sd_electrons < 0.35 * fitted.electrons
    for apart in (4.0, 3.0, 2.0):
        chosen = precise & (fitted.neighbour > apart)
        if chosen.sum() >= 200:
            break
    if chosen.sum() < 30:
        return None
    value = np.log(fitted.electrons[chosen])
    noise = fitted.sd_electrons[chosen] / fitted.electrons[chosen]
    low, middle, high = np.percentile(value, [16, 50, 84])
    spread = max(middle - low, 1e-3) if high - middle > 1.5 * (middle - low) else 0.5 * (high - low)
    return PhotonPrior(float(middle), float(math.sqrt(max(spread**2 - float(np.median(noise)) ** 2, 0.1**2))))
