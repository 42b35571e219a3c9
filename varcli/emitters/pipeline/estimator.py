"""What becomes of the network's candidates: fitted by maximum likelihood or taken as they are, then calibrated.

Legend: E emitters, n frames, Y X camera pixels.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from varcli.emitters.camera.camera import Noise
from varcli.emitters.fit.fit import fit, photon_prior
from varcli.emitters.network.inputs import CELL_PX, block_background, pad_frames
from varcli.emitters.prior import PhotonPrior
from varcli.emitters.psf.psf import Psf
from varcli.emitters.table import Emitters

_LEAST_EMITTERS = 20  # that a photon prior rests on
_SURE = 0.8
_SPREAD = (0.02, 0.8)  # of log electrons, that models are trained on
_MOST_THREADS = 16


@dataclass(frozen=True)
class Priors:
    """What the survey of a stack finds of emitters: their brightness (None: nothing), and how many there are."""

    photons: PhotonPrior | None = None
    density_per_px2: float | None = None


@dataclass(frozen=True)
class Calibration:
    """A monotonous map of probabilities through the points (`reported`, `true`), straight between them, and factors of
    the standard deviations of positions and photons. The default changes nothing."""

    reported: tuple[float, ...] = (0.0, 1.0)
    true: tuple[float, ...] = (0.0, 1.0)
    position_factor: float = 1.0
    photon_factor: float = 1.0

    @classmethod
    def of(cls, data: Mapping[str, Any], polish: str) -> "Calibration":
        """The calibration that a checkpoint's header holds for this kind of polish, if any."""
        held = (data.get("calibration") or {}).get(polish)
        if held is None:
            return cls()
        reported, true = (tuple(map(float, held[name])) for name in ("said", "true"))
        return cls(reported, true, float(held["position_factor"]), float(held["photon_factor"]))

    def probability(self, reported: np.ndarray) -> np.ndarray:
        """Calibrated probabilities [E]."""
        return np.interp(reported, self.reported, self.true)


class Estimator(Protocol):
    """A way from candidates to emitters; frames [n, Y, X] in photoelectrons, NaN where a pixel is not usable."""

    def emitters(self, frames_e: np.ndarray, candidates: Emitters, noise: Noise, psf: Psf, priors: Priors) -> Emitters:
        """The emitters, in any order."""
        ...

    def priors(self, frames_e: np.ndarray, candidates: Emitters, noise: Noise, psf: Psf) -> Priors:
        """What the candidates of a few frames show of all emitters."""
        ...


def estimator_of(name: str, threads: int | None = None) -> Estimator:
    """The polish called "mle" or "none", which shares frames among `threads` (None: as many as there are)."""
    if name == "none":
        return NetworkEstimates()
    assert name == "mle"
    return MaximumLikelihood(threads or min(_MOST_THREADS, os.cpu_count() or 1))


class NetworkEstimates:
    """Candidates as the network gave them."""

    def emitters(self, frames_e: np.ndarray, candidates: Emitters, noise: Noise, psf: Psf, priors: Priors) -> Emitters:
        """Background is that around them, the bound that of an emitter alone."""
        background = _background_at(frames_e, candidates)
        bound = lone_bound_px(candidates.electrons, background, noise, psf.sigma_px)
        return replace(candidates, background=background, crlb_px=bound)

    def priors(self, frames_e: np.ndarray, candidates: Emitters, noise: Noise, psf: Psf) -> Priors:
        """From the candidates that are sure."""
        sure = candidates.electrons[candidates.probability >= _SURE]
        photons = None
        if len(sure) >= _LEAST_EMITTERS:
            log = np.log(np.maximum(sure, 1e-3))
            middle = float(np.median(log))
            # Of a normal distribution; it includes what the network errs by, as it did in training.
            spread = 1.4826 * float(np.median(np.abs(log - middle)))
            photons = PhotonPrior(middle, float(np.clip(spread, *_SPREAD)))
        return Priors(photons, len(candidates) / frames_e.size)


class MaximumLikelihood:
    """All emitters of a frame fitted jointly, and their number judged by the evidence of the image."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def emitters(self, frames_e: np.ndarray, candidates: Emitters, noise: Noise, psf: Psf, priors: Priors) -> Emitters:
        """The emitters that the image supports."""
        fitted = self._fitted(frames_e, candidates, noise, psf, priors)
        # Posterior odds of the emitter against the same image without it.
        probability = 1 / (1 + np.exp(-np.clip(fitted.log_odds, -30, 30)))
        bound = np.sqrt((fitted.crlb_x_px**2 + fitted.crlb_y_px**2) / 2)
        return replace(fitted, crlb_px=bound, probability=probability)

    def priors(self, frames_e: np.ndarray, candidates: Emitters, noise: Noise, psf: Psf) -> Priors:
        """From a first fit, of the emitters in it that stand alone."""
        fitted = self._fitted(frames_e, candidates, noise, psf, Priors())
        prior = photon_prior(fitted)
        if prior:
            prior = prior._replace(log_sd=float(np.clip(prior.log_sd, *_SPREAD)))
        return Priors(prior, len(fitted) / frames_e.size)

    def _fitted(self, frames_e: np.ndarray, candidates: Emitters, noise: Noise, psf: Psf, priors: Priors) -> Emitters:
        return fit(
            frames_e,
            candidates,
            noise,
            psf,
            priors.photons,
            search=True,
            density_per_px2=priors.density_per_px2,
            threads=self.threads,
        )


def lone_bound_px(electrons: np.ndarray, background: np.ndarray, noise: Noise, sigma_px: float) -> np.ndarray:
    """Least standard deviation [E] of a coordinate of an emitter that stands alone (Rieger & Stallinga 2014)."""
    wide = sigma_px**2 + 1 / 12
    steady = np.maximum(background, 0) + float(np.mean(noise.read_variance)) / noise.excess
    counts = np.maximum(electrons, 1e-3)
    tau = 2 * math.pi * wide * steady / counts
    return np.sqrt(noise.excess * wide / counts * (1 + 4 * tau + np.sqrt(2 * tau / (1 + 4 * tau))))


def _background_at(frames_e: np.ndarray, candidates: Emitters) -> np.ndarray:
    """Local background [E] in e per pixel, as the network sees it."""
    low = block_background(pad_frames(torch.from_numpy(frames_e))).numpy()
    row = np.clip(candidates.y_px // CELL_PX, 0, low.shape[1] - 1).astype(np.int64)
    column = np.clip(candidates.x_px // CELL_PX, 0, low.shape[2] - 1).astype(np.int64)
    return low[candidates.frame, row, column].astype(np.float64)
