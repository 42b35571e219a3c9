"""The point spread function (PSF): what every kind of it does, and what is measured of one on a stack.

Legend: E emitters, Y X camera pixels of a window. Positions are px from the corner of pixel (0, 0), depths in nm.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from varcli.emitters.psf.gaussian import GaussianPsf

if TYPE_CHECKING:
    from torch import Tensor


class Psf(Protocol):
    """The image of a point: a value that does not change."""

    @property
    def sigma_px(self) -> float:
        """Mean width of its core."""
        ...

    @property
    def reach_px(self) -> float:
        """How far from its centre it shines."""
        ...

    def evaluate(
        self, x_px: "Tensor", y_px: "Tensor", z_nm: "Tensor | None" = None, *, size: tuple[int, int]
    ) -> "Tensor":
        """Share of the light of emitters at x, y, z [E] in every pixel of a window of `size` (Y, X): [E, Y, X].

        Integrated over the area of each pixel; z is 0 where it is left out.
        """
        ...

    def derivatives(
        self, x_px: "Tensor", y_px: "Tensor", z_nm: "Tensor | None" = None, *, size: tuple[int, int]
    ) -> "Tensor":
        """Derivatives of `evaluate` by x, y (per px) and z (per nm): [3, E, Y, X]."""
        ...


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
