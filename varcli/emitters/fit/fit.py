"""Refinement of emitters against the image: joint maximum likelihood, how many there are, and their Cramér-Rao bounds.

Everything is in photoelectrons and camera pixels from the corner of the frame. Frames are independent of one another,
so results do not depend on how many threads share them.

Legend: n frames, Y X camera pixels, E emitters.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from varcli.emitters.camera.camera import Noise
from varcli.emitters.fit.block import Plan, workspace
from varcli.emitters.fit.frame import FITTED, refine_frame
from varcli.emitters.prior import PhotonPrior
from varcli.emitters.psf.gaussian import GaussianPsf
from varcli.emitters.psf.psf import KINDS, Psf
from varcli.emitters.table import Emitters
from varcli.errors import UsageError

WINDOW_PIXELS = 4096


def fit(
    frames_e: np.ndarray,
    candidates: Emitters,
    noise: Noise,
    psf: Psf,
    prior: PhotonPrior | None = None,
    *,
    search: bool = False,
    density_per_px2: float | None = None,
    known: np.ndarray | None = None,
    threads: int = 2,
) -> Emitters:
    """Fit the candidates of frames [n, Y, X] jointly: as many as they are, or with `search` as many as there are.

    Without a prior every emitter is fitted by the likelihood alone; with one, emitters that overlap are drawn to it.
    The search finds by the evidence of the image which emitters are missing, doubled, merged or not there, with a prior
    of `density_per_px2` (None: that of the candidates). Pixels that are not finite, or not in `known` [Y, X]
    (booleans), count for nothing. `threads` share the frames. Raises UsageError for a kind of PSF that only simulates.
    """
    if type(psf) not in KINDS:
        raise UsageError(f"{type(psf).__name__} has no compiled functions", "give them to psf.register")
    count, height, width = frames_e.shape
    shift = np.broadcast_to(np.asarray(noise.read_variance / noise.excess, np.float64), (height, width)).copy()
    density = len(candidates) / max(frames_e.size, 1) if density_per_px2 is None else density_per_px2
    plan = Plan(log_density=math.log(max(density, 2e-6)))
    used_prior = prior._replace(log_sd=max(prior.log_sd, 0.1)) if prior else vague_prior(candidates)
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
                psf,
                used_prior,
                0.0 if prior is None else 1.0,
                search,
                plan,
                work,
            )
            origin = found["origin"]
            found["origin"] = np.where(origin >= 0, padded[first[k] + origin], -1)
            found["frame"] = k
            rows.append(found)
        return rows

    with ThreadPoolExecutor(threads) as pool:
        rows = [row for part in pool.map(work_on, chunks(count, threads)) for row in part]
    table = np.concatenate(rows) if rows else np.empty(0, FITTED)
    return Emitters(**{name: table[name].copy() for name in FITTED.names or ()})


def example() -> tuple[Any, tuple[Any, ...]]:
    """The function that `fit` needs compiled, and arguments like those that it gives it, for `compile_beside`."""
    frame = np.zeros((1, 1), np.float32)
    psf, prior, plan = GaussianPsf.of(1.0), PhotonPrior(0.0, 1.0), Plan(log_density=0.0)
    arguments = frame, frame, frame.astype(float), 1.0, np.zeros((0, 3)), psf, prior, 1.0, True, plan, workspace(1)
    return refine_frame, arguments


def chunks(count: int, threads: int) -> Iterator[range]:
    """Ranges of a few frames: work for one thread at a time, with some for every thread."""
    size = max(1, min(8, count // (4 * threads)))
    for start in range(0, count, size):
        yield range(start, min(count, start + size))


def vague_prior(candidates: Emitters) -> PhotonPrior:
    """A prior of photons where none is known: about that of the candidates, and wide."""
    usable = candidates.electrons[candidates.electrons > 0]
    return PhotonPrior(float(np.median(np.log(usable))) if len(usable) else math.log(1000.0), 1.0)


def photon_prior(fitted: Emitters) -> PhotonPrior | None:
    """The distribution of electrons of emitters that stand alone in a first fit; None where fewer than 30 do."""
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
