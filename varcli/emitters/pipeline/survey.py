"""The survey of a stack: its camera, PSF, background and the brightness of emitters, before it is analysed.

Legend: n frames, Y X camera pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from varcli.emitters.camera.camera import Camera
from varcli.emitters.camera.hot_pixels import filled, hot_pixels
from varcli.emitters.camera.photon_transfer import estimate_camera
from varcli.emitters.camera.resolve import refuse_impossible, resolve_camera
from varcli.emitters.camera.values import Provenanced, Values
from varcli.emitters.network.prediction import Conditions, Prediction
from varcli.emitters.pipeline.estimator import Estimator, Noise, Priors
from varcli.emitters.pipeline.trained_domain import Outside, TrainedDomain
from varcli.emitters.psf.gaussian import GaussianPsf
from varcli.emitters.stack.stack import Stack
from varcli.emitters.stack.window import Window
from varcli.errors import VarError

MOST_FRAMES = 60
_MOST_SIDE = 512  # pixels of a large frame that are surveyed, where it varies most
_MOST_PIXELS = 1 << 20  # that the priors are found in


class Network(Protocol):
    """What the pipeline asks of a model."""

    def predict(
        self, frames_e: np.ndarray, conditions: Conditions, *, threshold: float = 0.5, scales: tuple[int, ...] = ()
    ) -> Prediction:
        """Candidates in frames [n, Y, X] of photoelectrons, and the counts of `scales` as maps."""
        ...


@dataclass(frozen=True)
class Microscope:
    """What a stack is analysed with, and where each value comes from.

    `camera` is that of the window; `background_e` holds 5%, 50% and 95% of its places in e per pixel.
    """

    camera: Camera
    psf: GaussianPsf
    background_e: tuple[float, float, float]
    priors: Priors
    values: tuple[Provenanced, ...]
    outside: tuple[Outside, ...] = field(default=())
    hot: np.ndarray | None = None  # pixels of the window [Y, X] that are left out; None: not looked for

    @property
    def noise(self) -> Noise:
        """What a pixel varies by."""
        return Noise(self.camera.excess, self.camera.read_variance)

    @property
    def conditions(self) -> Conditions:
        """What the network is conditioned on."""
        read_variance = float(np.mean(self.camera.read_variance))
        return Conditions(self.psf.sigma_px, read_variance, self.camera.excess, self.priors.photons)

    @property
    def assumed(self) -> tuple[Provenanced, ...]:
        """What the user did not give."""
        return tuple(value for value in self.values if value.assumed)

    def document(self) -> dict[str, Any]:
        """All of it for JSON."""
        photons, density = self.priors.photons, self.priors.density_per_px2
        return {
            "known": [value.document() for value in self.values],
            "background_e": dict(zip(("low", "median", "high"), self.background_e, strict=True)),
            "emitter_electrons": None if photons is None else {"median": photons.electrons, "log_sd": photons.log_sd},
            "density_per_100px2": None if density is None else 100 * density,
            "outside_trained_domain": [outside.document() for outside in self.outside],
            "hot_pixels": None if self.hot is None else int(self.hot.sum()),
        }


def survey(
    stack: Stack,
    window: Window,
    network: Network,
    estimator: Estimator,
    given: Values,
    given_sigma_px: float | None,
    domain: TrainedDomain,
) -> Microscope:
    """What a stack will be analysed with, from up to 60 frames spread over it.

    Raises UsageError for a camera that cannot have taken these frames.
    """
    frames_adu, place = _spread_frames(stack, window)

    given = cut_maps(given, window, stack)
    camera, values = resolve_camera(given, stack.metadata, lambda: estimate_camera(frames_adu))
    near = cut_camera(camera, place)
    refuse_impossible(near, frames_adu)
    frames_e = near.to_electrons(frames_adu)
    hot = hot_pixels(frames_e)
    frames_e = filled(frames_e, hot)
    psf, psf_width = _psf(frames_e, near, given_sigma_px)
    background = _background(frames_e)
    few = frames_e[_spread(len(frames_e), _MOST_PIXELS // frames_e[0].size)]
    noise = Noise(near.excess, near.read_variance)
    conditions = Conditions(psf.sigma_px, float(np.mean(near.read_variance)), near.excess)
    priors = estimator.priors(few, network.predict(few, conditions).candidates, noise, psf)
    electrons = priors.photons.electrons if priors.photons else None
    density = 100 * (priors.density_per_px2 or 0.0)
    outside = domain.outside(psf.sigma_px, background, electrons, density)
    left_out = np.zeros((window.height, window.width), bool)
    left_out[place] = hot
    return Microscope(camera, psf, background, priors, (*values, psf_width), outside, left_out)


def cut_maps(given: Values, window: Window, stack: Stack) -> Values:
    """Values of a camera whose maps over the whole frame are cut to a window."""
    place = slice(window.top, window.bottom), slice(window.left, window.right)
    whole = (stack.height, stack.width)
    maps = {name: one for name, one in given.items() if np.ndim(one.value) and one.value.shape == whole}
    return given | {name: replace(one, value=one.value[place]) for name, one in maps.items()}


def cut_camera(camera: Camera, place: tuple[slice, slice]) -> Camera:
    """The part of a camera that sees a place."""
    return replace(camera, **{name: getattr(camera, name)[place] for name, _ in camera.map_shapes()})


def _spread(count: int, wanted: int) -> np.ndarray:
    """At most `wanted` numbers below `count`, evenly apart."""
    return np.unique(np.linspace(0, count - 1, max(1, min(count, wanted, MOST_FRAMES))).round().astype(int))


def _spread_frames(stack: Stack, window: Window) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Frames [n, Y, X] from everywhere in time, at most 512 pixels wide and high, and the place they show."""
    chosen = window.first + _spread(window.frames, MOST_FRAMES)
    place = (slice(0, window.height), slice(0, window.width))
    if max(window.height, window.width) > _MOST_SIDE:
        place = _most_variable(np.stack(list(_read_some(stack, window, chosen[:: max(1, len(chosen) // 4)], place))))
    return np.stack(list(_read_some(stack, window, chosen, place))), place


def _read_some(stack: Stack, window: Window, chosen: np.ndarray, place: tuple[slice, slice]) -> Iterator[np.ndarray]:
    """The place in those of the chosen frames that can be read; raises VarError where none can."""
    broken, count = None, 0
    for frame in chosen.tolist():
        try:
            yield window.read(stack, frame, frame + 1)[0][place].copy()
            count += 1
        except VarError as error:
            broken = broken or error
    if broken and not count:
        raise broken


def _most_variable(frames: np.ndarray) -> tuple[slice, slice]:
    """The place of at most 512 x 512 pixels where neighbouring pixels differ most, on a grid of half its size."""
    _, height, width = frames.shape
    rough = np.abs(np.diff(frames.astype(np.float32), axis=2)).mean(0)
    step = _MOST_SIDE // 2
    tops = range(0, max(1, height - _MOST_SIDE + step), step)
    lefts = range(0, max(1, width - _MOST_SIDE + step), step)
    places = [(slice(top, top + _MOST_SIDE), slice(left, left + _MOST_SIDE)) for top in tops for left in lefts]
    return max(places, key=lambda place: float(rough[place].sum()))


def _psf(frames_e: np.ndarray, camera: Camera, given_sigma_px: float | None) -> tuple[GaussianPsf, Provenanced]:
    if given_sigma_px is not None:
        return GaussianPsf.of(given_sigma_px), Provenanced("PSF width", given_sigma_px, "px", "said")
    from varcli.emitters.psf.estimate import estimate_psf

    found = estimate_psf(frames_e, camera.excess, camera.read_variance)
    origin = "estimated" if found.measured else "default"
    return found.psf, Provenanced("PSF width", found.sigma_px, "px", origin, found.sentence)


def _background(frames_e: np.ndarray) -> tuple[float, float, float]:
    from varcli.emitters.psf.estimate import estimate_background

    return estimate_background(frames_e)
