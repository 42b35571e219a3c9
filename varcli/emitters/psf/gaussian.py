"""The Gaussian PSF: two widths along the camera's axes, and a share of the light in a wider tail.

A pixel holds the integral of the Gaussian over its area, which separates into one integral along x and one along y.

Legend: E emitters, Y X camera pixels of a window, B batch, P pixels in rows. Positions are px from the corner of pixel
(0, 0).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from varcli.compiled import kernel
from varcli.emitters.psf.psf import PsfKernels, register

if TYPE_CHECKING:
    from torch import Tensor

ROOT_2 = math.sqrt(2.0)
ROOT_TAU = math.sqrt(2.0 * math.pi)
_REACH_SIGMAS = 5.0


class GaussianPsf(NamedTuple):
    """A Gaussian of widths `sigma_x_px` and `sigma_y_px`, of whose light the share `tail` lies in a second one that is
    `tail_scale` times as wide."""

    sigma_x_px: float
    sigma_y_px: float
    tail: float = 0.0
    tail_scale: float = 2.0

    @classmethod
    def of(cls, sigma_px: float, ellipticity: float = 1.0, tail: float = 0.0, tail_scale: float = 2.0) -> "GaussianPsf":
        """From the mean width and sqrt(sigma_x / sigma_y)."""
        return cls(sigma_px * ellipticity, sigma_px / ellipticity, tail, tail_scale)

    @property
    def sigma_px(self) -> float:
        """The geometric mean of both widths."""
        return math.sqrt(self.sigma_x_px * self.sigma_y_px)

    @property
    def ellipticity(self) -> float:
        """The square root of sigma_x / sigma_y."""
        return math.sqrt(self.sigma_x_px / self.sigma_y_px)

    @property
    def reach_px(self) -> float:
        """How far from its centre it shines."""
        return _REACH_SIGMAS * max(self.sigma_x_px, self.sigma_y_px) * max(1.0, self.tail_scale if self.tail else 1.0)

    def components(self) -> Iterator[tuple[float, float, float]]:
        """The Gaussians that it is the sum of: their share of the light and their widths along x and y, px."""
        for share, scale in ((1 - self.tail, 1.0), (self.tail, self.tail_scale)):
            if share > 0:
                yield share, self.sigma_x_px * scale, self.sigma_y_px * scale

    def evaluate(
        self, x_px: "Tensor", y_px: "Tensor", z_nm: "Tensor | None" = None, *, size: tuple[int, int]
    ) -> "Tensor":
        """Share of the light of emitters at x, y [E] in every pixel of a window of `size` (Y, X): [E, Y, X].

        It does not depend on depth.
        """
        import torch

        shares_EYX = torch.zeros(len(x_px), *size, dtype=x_px.dtype, device=x_px.device)
        for share, sigma_x, sigma_y in self.components():
            in_y_EY = pixel_integrals(y_px, size[0], y_px.new_tensor(sigma_y))
            shares_EYX += (
                share * in_y_EY[:, :, None] * pixel_integrals(x_px, size[1], x_px.new_tensor(sigma_x))[:, None]
            )
        return shares_EYX

    def derivatives(
        self, x_px: "Tensor", y_px: "Tensor", z_nm: "Tensor | None" = None, *, size: tuple[int, int]
    ) -> "Tensor":
        """Derivatives of `evaluate` by x, y (per px) and z (per nm): [3, E, Y, X]."""
        import torch

        slopes_3EYX = torch.zeros(3, len(x_px), *size, dtype=x_px.dtype, device=x_px.device)
        for share, sigma_x, sigma_y in self.components():
            across, down = (x_px, size[1], x_px.new_tensor(sigma_x)), (y_px, size[0], y_px.new_tensor(sigma_y))
            slopes_3EYX[0] += share * pixel_integrals(*down)[:, :, None] * _pixel_slopes(*across)[:, None]
            slopes_3EYX[1] += share * _pixel_slopes(*down)[:, :, None] * pixel_integrals(*across)[:, None]
        return slopes_3EYX


@dataclass(frozen=True)
class PsfMeasurement:
    """A PSF measured on a stack, how sure it is, and how it was found.

    `sigma_px` is its mean width, `sd_log` the standard deviation of the logarithm of that (infinite where nothing
    could be measured), `sd_tail` that of the tail. `unexplained` is what the PSF leaves over, as a share: of the
    covariance's height, or of single spots' widths beyond their noise. `spots` counts the isolated emitters that were
    fitted, `single_px` is the width of the Gaussian without tail that fits these best, `sentence` describes all of it.
    """

    psf: GaussianPsf
    sigma_px: float
    sd_log: float
    sd_tail: float
    unexplained: float = 0.0
    spots: int = 0
    single_px: float = 0.0
    sentence: str = ""

    @property
    def sd_px(self) -> float:
        """The standard deviation of the mean width."""
        return self.sigma_px * self.sd_log

    @property
    def measured(self) -> bool:
        """Whether anything was measured; the width is a default otherwise."""
        return math.isfinite(self.sd_log)


def pixel_integrals(position_px: "Tensor", size: int, sigma_px: "Tensor") -> "Tensor":
    """Share of a 1D Gaussian in every pixel [..., size]; positions [...], widths that fit them."""
    scaled = (_edges(position_px, size) - position_px[..., None]) * (math.sqrt(0.5) / sigma_px)[..., None]
    return scaled.erf().mul_(0.5).diff(dim=-1)


def _pixel_slopes(position_px: "Tensor", size: int, sigma_px: "Tensor") -> "Tensor":
    """Derivative of `pixel_integrals` by the position."""
    scaled = (_edges(position_px, size) - position_px[..., None]) / sigma_px[..., None]
    density = (-0.5 * scaled**2).exp() / (math.sqrt(2 * math.pi) * sigma_px)[..., None]
    return -density.diff(dim=-1)


def _edges(position_px: "Tensor", size: int) -> "Tensor":
    import torch

    return torch.arange(size + 1, device=position_px.device, dtype=position_px.dtype)


def stamp(
    x_BE: "Tensor", y_BE: "Tensor", electrons_BE: "Tensor", size: tuple[int, int], sigma_B2: "Tensor"
) -> "Tensor":
    """Expected electrons [B, Y, X] of Gaussian spots with widths (x, y) per sample, summed over emitters."""
    height, width = size
    rows_BEY = pixel_integrals(y_BE, height, sigma_B2[:, 1:]) * electrons_BE[..., None]
    return rows_BEY.transpose(1, 2) @ pixel_integrals(x_BE, width, sigma_B2[:, :1])


@kernel(fastmath=True, allocates=False)
def profile(centre, sigma, start, count, value, slope):
    """Integrals of a Gaussian over pixels start..start+count-1, and their derivatives by its centre."""
    z = (start - centre) / sigma
    cdf = math.erf(z / ROOT_2)
    pdf = math.exp(-0.5 * z * z)
    for i in range(count):
        z = (start + i + 1 - centre) / sigma
        next_cdf = math.erf(z / ROOT_2)
        next_pdf = math.exp(-0.5 * z * z)
        value[i] = 0.5 * (next_cdf - cdf)
        slope[i] = (pdf - next_pdf) / (ROOT_TAU * sigma)
        cdf, pdf = next_cdf, next_pdf


@kernel(fastmath=True, allocates=False)
def _half_width(psf, electrons, noise):
    """Where the spot sinks below a seventh of the noise."""
    sigma = max(psf.sigma_x_px, psf.sigma_y_px)
    reach = 2.3
    peak = electrons * (1 - psf.tail) / (2 * math.pi * sigma * sigma) / (0.15 * noise)
    if peak > 1:
        reach = max(reach, math.sqrt(2 * math.log(peak)))
    if psf.tail > 0:
        wide = psf.tail_scale
        peak = electrons * psf.tail / (2 * math.pi * (sigma * wide) ** 2) / (0.15 * noise)
        if peak > 1:
            reach = max(reach, wide * math.sqrt(2 * math.log(peak)))
    return math.ceil(min(reach, 4.5 if psf.tail == 0 else 6.0) * sigma)


@kernel(fastmath=True, allocates=False)
def _add_spot(psf, x, y, electrons, y0, y1, x0, x1, mean, memory):
    for part in range(2):
        share = psf.tail if part else 1 - psf.tail
        if share <= 0:
            continue
        wide = psf.tail_scale if part else 1.0
        profile(x, psf.sigma_x_px * wide, x0, x1 - x0, memory[0], memory[1])
        profile(y, psf.sigma_y_px * wide, y0, y1 - y0, memory[2], memory[3])
        for i in range(y1 - y0):
            scale = electrons * share * memory[2, i]
            for j in range(x1 - x0):
                mean[y0 + i, x0 + j] += scale * memory[0, j]


@kernel(fastmath=True, allocates=False)
def _add_slopes(psf, x, y, electrons, y0, y1, x0, x1, first, width, mean, slopes, row, memory):
    for part in range(2):
        share = psf.tail if part else 1 - psf.tail
        if share <= 0:
            continue
        wide = psf.tail_scale if part else 1.0
        profile(x, psf.sigma_x_px * wide, x0, x1 - x0, memory[0], memory[1])
        profile(y, psf.sigma_y_px * wide, y0, y1 - y0, memory[2], memory[3])
        scale = electrons * share
        for i in range(y1 - y0):
            at = first + i * width
            g, d = scale * memory[2, i], scale * memory[3, i]
            for j in range(x1 - x0):
                spot = g * memory[0, j]
                slopes[row, at + j] += g * memory[1, j]
                slopes[row + 1, at + j] += d * memory[0, j]
                slopes[row + 2, at + j] += spot
                mean[at + j] += spot


register(GaussianPsf, PsfKernels(_half_width, _add_spot, _add_slopes))
