"""A first look at a stack: its camera, PSF, background and the brightness of emitters, before it is analysed.

Legend: n frames, Y X camera pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from varcli.emitters.camera.camera import Camera
from varcli.emitters.camera.file import SaidCamera
from varcli.emitters.camera.hot_pixels import filled, hot_pixels
from varcli.emitters.camera.resolve import Known, refuse_impossible, resolve_camera
from varcli.emitters.network.predict import Conditions, Prediction
from varcli.emitters.pipeline.estimator import Beliefs, Noise, Polish
from varcli.emitters.pipeline.trained_domain import Outside, TrainedDomain
from varcli.emitters.psf.psf import Psf
from varcli.emitters.stack.stack import Stack
from varcli.emitters.stack.window import Window
from varcli.errors import VarError

MOST_FRAMES = 60
_MOST_SIDE = 512  # pixels of a large frame that are looked at, where it varies most
_MOST_PIXELS = 1 << 20  # that the photon law is found in


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
    psf: Psf
    background_e: tuple[float, float, float]
    beliefs: Beliefs
    known: tuple[Known, ...]
    outside: tuple[Outside, ...] = field(default=())
    hot: np.ndarray | None = None  # pixels of the window [Y, X] that are left out; None: not looked for

    @property
    def noise(self) -> Noise:
        """What a pixel varies by."""
        return Noise(self.camera.excess, self.camera.read_variance)

    @property
    def conditions(self) -> Conditions:
        """What the network is told."""
        read_variance = float(np.mean(self.camera.read_variance))
        return Conditions(self.psf.sigma_px, read_variance, self.camera.excess, self.beliefs.photons)

    @property
    def assumed(self) -> tuple[Known, ...]:
        """What the user did not say."""
        return tuple(known for known in self.known if known.assumed)

    def document(self) -> dict[str, Any]:
        """All of it for JSON."""
        law, density = self.beliefs.photons, self.beliefs.density_per_px2
        return {
            "known": [known.document() for known in self.known],
            "background_e": dict(zip(("low", "median", "high"), self.background_e, strict=True)),
            "emitter_electrons": None if law is None else {"median": law.electrons, "log_sd": law.log_sd},
            "density_per_100px2": None if density is None else 100 * density,
            "outside_trained_domain": [outside.document() for outside in self.outside],
            "hot_pixels": None if self.hot is None else int(self.hot.sum()),
        }


def look(
    stack: Stack,
    window: Window,
    network: Network,
    polish: Polish,
    said: SaidCamera,
    said_sigma_px: float | None,
    domain: TrainedDomain,
) -> Microscope:
    """Look at up to 60 frames spread over the stack and say what it will be analysed with.

    Raises UsageError for a camera that cannot have taken these frames.
    """
    frames_adu, place = _spread_frames(stack, window)

    def estimate() -> Any:
        from varcli.emitters.psf.estimate import estimate_camera

        return estimate_camera(frames_adu)

    said = cut_maps(said, window, stack)
    camera, known = resolve_camera(said, stack.metadata, estimate)
    near = cut_camera(camera, place)
    refuse_impossible(near, frames_adu)
    frames_e = near.to_electrons(frames_adu)
    hot = hot_pixels(frames_e)
    frames_e = filled(frames_e, hot)
    psf, psf_known = _psf(frames_e, near, said_sigma_px)
    background = _background(frames_e)
    few = frames_e[_spread(len(frames_e), _MOST_PIXELS // frames_e[0].size)]
    noise = Noise(near.excess, near.read_variance)
    conditions = Conditions(psf.sigma_px, float(np.mean(near.read_variance)), near.excess)
    beliefs = polish.beliefs(few, network.predict(few, conditions).candidates, noise, psf)
    electrons = beliefs.photons.electrons if beliefs.photons else None
    density = 100 * (beliefs.density_per_px2 or 0.0)
    outside = domain.outside(psf.sigma_px, background, electrons, density)
    left_out = np.zeros((window.height, window.width), bool)
    left_out[place] = hot
    return Microscope(camera, psf, background, beliefs, (*known, psf_known), outside, left_out)


def cut_maps(said: SaidCamera, window: Window, stack: Stack) -> SaidCamera:
    """Maps of a camera over the whole frame, within a window."""
    return _cut(said, (stack.height, stack.width), slice(window.top, window.bottom), slice(window.left, window.right))


def cut_camera(camera: Camera, place: tuple[slice, slice]) -> Camera:
    """The part of a camera that sees a place."""
    return _cut(camera, None, *place)


def _cut(holder: Any, shape: tuple[int, int] | None, rows: slice, columns: slice) -> Any:
    from dataclasses import replace

    maps = {
        name: value[rows, columns]
        for name in ("baseline_adu", "e_per_adu", "read_noise_e")
        if isinstance(value := getattr(holder, name), np.ndarray) and (shape is None or value.shape == shape)
    }
    return replace(holder, **maps) if maps else holder


def _spread(count: int, wanted: int) -> np.ndarray:
    """At most `wanted` numbers below `count`, evenly apart."""
    return np.unique(np.linspace(0, count - 1, max(1, min(count, wanted, MOST_FRAMES))).round().astype(int))


def _spread_frames(stack: Stack, window: Window) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Frames [n, Y, X] from everywhere in time, at most 512 pixels wide and high, and the place they show."""
    chosen = window.first + _spread(window.frames, MOST_FRAMES)
    place = (slice(0, window.height), slice(0, window.width))
    if max(window.height, window.width) > _MOST_SIDE:
        place = _liveliest(np.stack(list(_read_some(stack, window, chosen[:: max(1, len(chosen) // 4)], place))))
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


def _liveliest(frames: np.ndarray) -> tuple[slice, slice]:
    """The place of at most 512 x 512 pixels where neighbouring pixels differ most, on a grid of half its size."""
    _, height, width = frames.shape
    rough = np.abs(np.diff(frames.astype(np.float32), axis=2)).mean(0)
    step = _MOST_SIDE // 2
    tops = range(0, max(1, height - _MOST_SIDE + step), step)
    lefts = range(0, max(1, width - _MOST_SIDE + step), step)
    places = [(slice(top, top + _MOST_SIDE), slice(left, left + _MOST_SIDE)) for top in tops for left in lefts]
    return max(places, key=lambda place: float(rough[place].sum()))


def _psf(frames_e: np.ndarray, camera: Camera, said_sigma_px: float | None) -> tuple[Psf, Known]:
    if said_sigma_px is not None:
        return Psf(said_sigma_px), Known("PSF width", said_sigma_px, "px", "said")
    from varcli.emitters.psf.estimate import estimate_psf

    found = estimate_psf(frames_e, camera.excess, camera.read_variance)
    psf = Psf(found.sigma_px, found.ellipticity, found.tail, found.tail_scale)
    origin = "estimated" if found.measured else "default"
    return psf, Known("PSF width", found.sigma_px, "px", origin, found.sentence)


def _background(frames_e: np.ndarray) -> tuple[float, float, float]:
    from varcli.emitters.psf.estimate import estimate_background

    return estimate_background(frames_e)
