"""Cameras: from the numbers in a file to photoelectrons, where Poisson statistics hold, and the noise they carry.

Legend: Y X camera pixels.
"""

import math
from dataclasses import dataclass

import numpy as np

from varcli.errors import UsageError

_LEAST = 1e-12
_POSSIBLE = (
    ("pixel_size_nm", _LEAST, 1e5),
    ("baseline_adu", 0.0, math.inf),
    ("e_per_adu", _LEAST, math.inf),
    ("em_gain", 1.0, math.inf),
    ("qe", _LEAST, 1.0),
    ("read_noise_e", 0.0, math.inf),
)


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
        for name, least, most in _POSSIBLE:
            number = getattr(self, name)
            if number is None:
                continue
            values = np.asarray(number)
            if not np.isfinite(values).all() or (values < least).any() or (values > most).any():
                bad = values[~(np.isfinite(values) & (values >= least) & (values <= most))].flat[0]
                bounds = f"from {least:g} to {most:g}" if math.isfinite(most) else f"of at least {least:g}"
                raise UsageError(f"camera: {name} must be a number {bounds}, not {bad:g}")
        if len(shapes := {shape for _, shape in self.map_shapes()}) > 1:
            raise UsageError(f"camera: maps differ in size: {' and '.join(map(_size, sorted(shapes)))}")

    def map_shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Names and shapes of what is given per pixel."""
        numbers = ((name, getattr(self, name)) for name in ("baseline_adu", "e_per_adu", "read_noise_e"))
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

    def noise_std(self, mean_e: float) -> float:
        """Standard deviation of a pixel that expects `mean_e` photoelectrons, averaged over a map of read noise."""
        return math.sqrt(self.excess * max(mean_e, 0.0) + float(np.mean(self.read_variance)))


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, reversed(shape)))
