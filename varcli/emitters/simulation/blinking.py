"""Where molecules lie, and when they are on: continuous time, cut into the frames of a camera."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from varcli.emitters.simulation.config import MoleculesConfig, StackConfig

_DIMMEST, _BRIGHTEST = 0.2, 20.0  # of the median

Placing = Callable[[int], np.ndarray]
"""Positions [E, 2] (x, y in px) of that many molecules."""


@dataclass(frozen=True)
class FrameMolecules:
    """One row per molecule and frame, sorted by frame: frames of the chunk from 0, px from the corner, photons."""

    frame: np.ndarray
    x_px: np.ndarray
    y_px: np.ndarray
    photons: np.ndarray


class _On(NamedTuple):
    """Molecules that are on from `start` to `end` (in frames) with a brightness in photons per frame."""

    place_px: np.ndarray
    start: np.ndarray
    end: np.ndarray
    photons: np.ndarray

    def chosen(self, mask: np.ndarray) -> "_On":
        return _On(*(column[mask] for column in self))

    def joined(self, other: "_On") -> "_On":
        return _On(*map(np.concatenate, zip(self, other, strict=True)))


def blinks(config: StackConfig, margin_px: float, seed: int, at_once: int) -> Iterator[tuple[FrameMolecules, int, int]]:
    """Molecules of the next frames, the first of these frames, and how many they are: at most `at_once`.

    Starts are a Poisson process and on-times exponential, so the molecules that are already on when the stack begins
    have the same distribution of the time left to them. Molecules lie up to `margin_px` outside the frame.
    """
    options = config.molecules
    rng = np.random.default_rng([seed, 1])
    pixel_um = config.camera.pixel_size_nm / 1000
    area_um2 = (config.height + 2 * margin_px) * (config.width + 2 * margin_px) * pixel_um**2
    on_at_a_time = options.density_per_um2 * area_um2
    placing = _sites(options.sites, _placing(config, margin_px, rng), rng)

    def begun(count: int, start: np.ndarray, life: np.ndarray) -> _On:
        return _On(placing(count), start, start + life, brightness(options, count, rng))

    if options.structure != "grid" and options.on_frames:
        count = int(rng.poisson(on_at_a_time))
        going = begun(count, np.zeros(count), rng.exponential(options.on_frames, count))
    else:
        going = begun(0, np.zeros(0), np.zeros(0))
    for first in range(0, config.frames, at_once):
        frames = min(at_once, config.frames - first)
        if options.structure == "grid":
            yield _lattice(config, frames, rng), first, frames
            continue
        per_frame = on_at_a_time / (options.on_frames or 1.0)
        count = int(rng.poisson(per_frame * frames))
        start = first + rng.uniform(0, frames, count)
        if options.on_frames:
            going = going.joined(begun(count, start, rng.exponential(options.on_frames, count)))
            yield _rows(going, first, frames), first, frames
            going = going.chosen(going.end > first + frames)
        else:
            whole = begun(count, np.floor(start), np.ones(count))
            yield _rows(whole, first, frames), first, frames


def brightness(options: MoleculesConfig, count: int, rng: np.random.Generator) -> np.ndarray:
    """Photons per frame of molecules that are on throughout."""
    if options.photon_law == "exponential":
        return options.photons * rng.exponential(1 / math.log(2), count)
    spread = options.photon_spread * rng.normal(size=count)
    relative = 1 + spread if options.photon_law == "normal" else np.exp(spread)
    return options.photons * relative.clip(_DIMMEST, _BRIGHTEST)


def _rows(on: _On, first: int, frames: int) -> FrameMolecules:
    """Cut what is on into frames `first` to `first + frames`; photons in proportion to the time."""
    begin, end = np.maximum(on.start, first), np.minimum(on.end, first + frames)
    first_frame = np.floor(begin).astype(np.int64)
    last_frame = np.maximum(np.ceil(end).astype(np.int64) - 1, first_frame)
    spans = last_frame - first_frame + 1
    molecule = np.repeat(np.arange(len(spans)), spans)
    frame = first_frame[molecule] + np.arange(len(molecule)) - np.repeat(np.cumsum(spans) - spans, spans)
    part = np.minimum(end[molecule], frame + 1) - np.maximum(begin[molecule], frame)
    order = np.argsort(frame, kind="stable")
    order = order[(part[order] > 0) & (frame[order] < first + frames)]
    x_px, y_px = on.place_px[molecule[order]].T
    return FrameMolecules(frame[order] - first, x_px, y_px, on.photons[molecule[order]] * part[order])


def _lattice(config: StackConfig, frames: int, rng: np.random.Generator) -> FrameMolecules:
    """Isolated molecules at least a spacing less one pixel apart, in every frame at a new place within their pixel."""
    spacing_px = config.molecules.spacing_nm / config.camera.pixel_size_nm
    axes = []
    for side in (config.width, config.height):
        cells = max(1, int(side // spacing_px))
        axes.append((np.arange(cells) - (cells - 1) / 2) * spacing_px + side / 2)
    x_px, y_px = (np.tile(axis.ravel(), frames) for axis in np.meshgrid(*axes))
    frame = np.repeat(np.arange(frames), len(x_px) // frames)
    jitter = rng.uniform(-0.5, 0.5, (2, len(frame)))
    return FrameMolecules(frame, x_px + jitter[0], y_px + jitter[1], brightness(config.molecules, len(frame), rng))


def _sites(sites: int, placing: Placing, rng: np.random.Generator) -> Placing:
    """The same placing, or one that chooses among `sites` places fixed beforehand."""
    if not sites:
        return placing
    fixed = placing(sites)
    return lambda count: fixed[rng.integers(sites, size=count)]


def _placing(config: StackConfig, margin_px: float, rng: np.random.Generator) -> Placing:
    """Draws positions in the frame and its margin, by the structure that the config names."""
    low = np.full(2, -margin_px)
    high = np.array([config.width, config.height]) + margin_px
    if config.molecules.structure in {"uniform", "grid"}:
        return lambda count: rng.uniform(low, high, (count, 2))
    options = config.molecules
    size = np.array([config.width, config.height])
    longest = float(np.hypot(*size))
    starts = rng.uniform(0.1 * size, 0.9 * size, (options.structures, 2))
    angles = rng.uniform(0, 2 * math.pi, options.structures)
    bends = rng.uniform(-1.5, 1.5, options.structures) / longest
    width_px = options.width_nm / config.camera.pixel_size_nm

    def drawn(count: int) -> np.ndarray:
        chosen = rng.integers(options.structures, size=count)
        places = starts[chosen] + width_px * rng.normal(size=(count, 2))
        if options.structure == "filaments":
            along = rng.uniform(-longest, longest, count)
            angle = angles[chosen] + bends[chosen] * along / 2
            places += along[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        return places[((places >= low) & (places <= high)).all(1)]

    def placing(count: int) -> np.ndarray:
        places = np.empty((0, 2))
        while len(places) < count:
            places = np.concatenate([places, drawn(2 * count + 16)])
        return places[:count]

    return placing
