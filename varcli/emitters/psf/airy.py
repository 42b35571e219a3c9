"""The Airy PSF of a circular aperture, in focus or not: as a table of pixels, and as a mixture of Gaussians.

Legend: E emitters, Y X camera pixels, C Gaussian components of a spot.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

AIRY_SCALES = (0.5, 0.7, 0.9, 1.1, 1.4, 1.8, 2.4, 3.4)
AIRY_PHASES = (0.0, 0.6, 1.0, 1.4, 1.8, 2.2)
_EXTENT = 10.0  # of the widths of the core: beyond, an Airy spot is counted as background
_STEPS = 16  # samples per pixel of a spot table


class AiryPsf(NamedTuple):
    """The spot of a circular aperture with `defocus` radians at its rim, scaled to a core of `sigma_px`.

    For simulation: it has no compiled form that a fit could use.
    """

    sigma_px: float
    defocus: float = 0.0

    @property
    def reach_px(self) -> float:
        """How far from its centre it shines."""
        return _EXTENT * self.sigma_px

    def evaluate(self, x_px: Tensor, y_px: Tensor, z_nm: Tensor | None = None, *, size: tuple[int, int]) -> Tensor:
        """Share of the light of emitters at x, y [E] in every pixel of a window of `size` (Y, X): [E, Y, X].

        The defocus is that of the PSF, whatever the depth.
        """
        rows_Y, columns_X = (torch.arange(side, device=x_px.device, dtype=x_px.dtype) + 0.5 for side in size)
        table = airy_table(self.sigma_px, self.defocus)
        return table_values(table, columns_X - x_px[:, None], rows_Y - y_px[:, None])

    def derivatives(self, x_px: Tensor, y_px: Tensor, z_nm: Tensor | None = None, *, size: tuple[int, int]) -> Tensor:
        """Derivatives of `evaluate` by x, y (per px) and z (per nm), between samples of its table: [3, E, Y, X]."""
        h = 1 / _STEPS
        by_x = (self.evaluate(x_px + h, y_px, size=size) - self.evaluate(x_px - h, y_px, size=size)) / (2 * h)
        by_y = (self.evaluate(x_px, y_px + h, size=size) - self.evaluate(x_px, y_px - h, size=size)) / (2 * h)
        return torch.stack([by_x, by_y, torch.zeros_like(by_x)])


def airy_profile(phase: float, radius: np.ndarray) -> np.ndarray:
    """Intensity of a circular aperture with `phase` radians of defocus at its rim, at `radius` in units of λ/(2π NA).

    Scalar diffraction: |∫ exp(i·phase·t²) J0(radius·t) t dt|² (Born and Wolf, 8.8); 1/4 at the centre when in focus.
    """
    from scipy.special import j0

    node, weight = np.polynomial.legendre.leggauss(96)
    rho, weight = (node + 1) / 2, weight / 2
    field = (np.exp(1j * phase * rho**2) * rho * weight) @ j0(np.outer(rho, radius))
    return np.abs(field) ** 2


def core_sigma(radius: np.ndarray, profile: np.ndarray) -> float:
    """Width of the Gaussian that fits a radial profile best by least squares over the plane, amplitude free."""
    from scipy.optimize import minimize_scalar

    def unexplained(sigma: float) -> float:
        gauss = np.exp(-(radius**2) / (2 * sigma**2))
        return -float(np.sum(profile * gauss * radius) ** 2 / np.sum(gauss**2 * radius))

    found = minimize_scalar(unexplained, bounds=(0.2, 6.0), method="bounded", options={"xatol": 1e-6})
    return float(found.x)  # type: ignore[union-attr]


@lru_cache
def airy_mixture(phase: float) -> np.ndarray:
    """Weights [C] (some negative, sum 1) of Gaussians of AIRY_SCALES core widths that make a defocused Airy spot."""
    from scipy.optimize import lsq_linear

    radius = np.linspace(0.0, 25.0, 2501)
    radius = np.linspace(0.0, _EXTENT * core_sigma(radius, airy_profile(phase, radius)), 2001)
    sigma = radius[-1] / _EXTENT
    profile = airy_profile(phase, radius)
    scales = np.asarray(AIRY_SCALES) * sigma
    gauss = np.exp(-(radius[:, None] ** 2) / (2 * scales**2)) / (2 * np.pi * scales**2)
    ring = 2 * np.pi * radius * (radius[1] - radius[0])
    profile = profile / (profile @ ring)
    importance = np.sqrt(ring + 0.02 * ring.max())[:, None]
    ridge = 1e-4 * gauss.max() * np.eye(len(scales))
    design = np.concatenate([importance * gauss, ridge])
    target = np.concatenate([importance[:, 0] * profile, np.zeros(len(scales))])
    weights = np.asarray(lsq_linear(design, target).x)
    return weights / weights.sum()


@lru_cache
def airy_table(sigma_px: float, phase: float) -> np.ndarray:
    """Share of a defocused Airy spot in a pixel whose centre is (i, j) sixteenths of a pixel away [I, J], sum 1.

    The spot is scaled to a core width of `sigma_px` and ends at ten of them; I and J run from 0, for the spot is
    symmetric.
    """
    wide = core_sigma(np.linspace(0.0, 25.0, 2501), airy_profile(phase, np.linspace(0.0, 25.0, 2501)))
    half = math.ceil((_EXTENT * sigma_px + 1) * _STEPS)
    # Samples lie in the middle of fine cells, so that a pixel centred on the spot covers whole ones.
    offset_px = (np.arange(-half, half) + 0.5) / _STEPS
    distance_px = np.hypot(offset_px[:, None], offset_px)
    radius = np.linspace(0.0, _EXTENT * wide, 20001)
    fine = np.interp(distance_px * wide / sigma_px, radius, airy_profile(phase, radius), right=0.0)
    summed = np.pad(fine, ((1, 0), (1, 0))).cumsum(0).cumsum(1) / fine.sum()
    pixel = (
        summed[_STEPS:, _STEPS:] - summed[:-_STEPS, _STEPS:] - summed[_STEPS:, :-_STEPS] + summed[:-_STEPS, :-_STEPS]
    )
    centre = half - _STEPS // 2
    return pixel[centre:, centre:]


def table_values(table: np.ndarray, x_px: Tensor, y_px: Tensor) -> Tensor:
    """Shares [E, Y, X] from a spot table, linear between its samples, 0 beyond.

    `x_px` [E, X] and `y_px` [E, Y] are distances of pixel centres from the spots.
    """
    values = torch.as_tensor(np.pad(table, ((0, 2), (0, 2))), dtype=x_px.dtype, device=x_px.device)
    last = len(values) - 2

    def place(distance: Tensor) -> tuple[Tensor, Tensor]:
        at = (distance.abs() * _STEPS).clamp(max=last)
        return at.long().clamp(max=last), at - at.floor()

    (column_EX, right_EX), (row_EY, down_EY) = place(x_px), place(y_px)
    row_EY1, column_E1X = row_EY[:, :, None], column_EX[:, None]
    right_E1X, down_EY1 = right_EX[:, None], down_EY[:, :, None]
    upper = values[row_EY1, column_E1X].lerp(values[row_EY1, column_E1X + 1], right_E1X)
    lower = values[row_EY1 + 1, column_E1X].lerp(values[row_EY1 + 1, column_E1X + 1], right_E1X)
    return upper.lerp(lower, down_EY1)
