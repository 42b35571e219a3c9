"""Cameras: from the numbers in a file to photoelectrons, where Poisson statistics hold, and the noise they carry.

Legend: Y X camera pixels.
"""

import math
from dataclasses import dataclass

import numpy as np

from varcli.errors import UsageError

MAPS = ("baseline_adu", "e_per_adu", "read_noise_e")
"""What may differ from pixel to pixel."""


@dataclass(frozen=True)
class Noise:
    """Variance of a pixel with mean m: excess * m + read_variance, a number or a map [Y, X], in electrons²."""

    excess: float
    read_variance: float | np.ndarray


def problem(name: str, value: float | np.ndarray) -> str | None:
    """What is wrong with a number or a map under the name of a field of `Camera`, if anything."""
    low, high = float(np.min(value)), float(np.max(value))
    if not (math.isfinite(low) and math.isfinite(high)):
        return "must be finite"
    if name == "pixel_size_nm" and not 0 < high <= 1e5:
        return "must be above 0 and at most 100,000"
    if name == "e_per_adu" and low <= 0:
        return "must be above 0"
    if name in ("baseline_adu", "read_noise_e") and low < 0:
        return "must not be negative"
    if name == "qe" and not 0 < low <= 1:
        return "must be above 0 and at most 1"
    if name == "em_gain" and (low < 0 or 0 < low < 1):
        return "must be at least 1, or 0 for a camera without"
    return None


@dataclass(frozen=True)
class Camera:
    """What turns photons into the numbers of a file (analogue-to-digital units, ADU).

    `pixel_size_nm` is the side of a pixel in the sample. `baseline_adu`, `e_per_adu` (electrons at the output per ADU)
    and `read_noise_e` (rms electrons at the output, so before division by an EM gain) are numbers or maps [Y, X].
    `em_gain` is None for cameras without electron multiplication. `qe` is the share of photons that become electrons.
    """

    pixel_size_nm: float
    baseline_adu: float | np.ndarray
    e_per_adu: float | np.ndarray
    em_gain: float | None = None
    qe: float = 1.0
    read_noise_e: float | np.ndarray = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and (wrong := problem(name, value)):
                raise UsageError(f"camera: {name} {shown(value)}: {wrong}")
        if len(shapes := {shape for _, shape in self.map_shapes()}) > 1:
            raise UsageError(f"camera: maps differ in size: {' and '.join(map(_size, sorted(shapes)))}")

    def map_shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Names and shapes of what is given per pixel."""
        numbers = ((name, getattr(self, name)) for name in MAPS)
        return [(name, number.shape) for name, number in numbers if isinstance(number, np.ndarray)]

    def check_size(self, height: int, width: int) -> None:
        """Raise UsageError where a map per pixel is of another size than the frames."""
        for name, shape in self.map_shapes():
            if shape != (height, width):
                raise UsageError(
                    f"camera: the map {name} is of {_size(shape)} pixels, the frames of {_size((height, width))}",
                    "cut the map to the frames' part of the chip",
                )

    @property
    def gain(self) -> float:
        """The multiplication of electrons before they are read: 1 without EM."""
        return self.em_gain or 1.0

    @property
    def excess(self) -> float:
        """Variance per photoelectron: 1, or 2 behind a long EM cascade."""
        return 2.0 if self.gain > 1 else 1.0

    @property
    def read_variance(self) -> float | np.ndarray:
        """Variance that does not depend on light, in photoelectrons² at the input: reading and rounding."""
        step = self.e_per_adu / self.gain
        return (self.read_noise_e / self.gain) ** 2 + step**2 / 12

    def to_electrons(self, frames_adu: np.ndarray) -> np.ndarray:
        """Photoelectrons at the input [..., Y, X] as float32; their mean is the expected number of them."""
        offset = np.asarray(self.baseline_adu, np.float32)
        return (frames_adu.astype(np.float32) - offset) * np.asarray(self.e_per_adu / self.gain, np.float32)


def shown(value: float | np.ndarray) -> str:
    """A number or map in a message."""
    return "a map" if isinstance(value, np.ndarray) else f"{value:g}"


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, reversed(shape)))
