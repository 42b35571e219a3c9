"""What the pipeline hands to a network and gets from it; importable without torch.

Legend: B frames, Y X cells of a scale.
"""

from dataclasses import dataclass

import numpy as np

from varcli.emitters.prior import PhotonPrior
from varcli.emitters.table import Emitters


@dataclass(frozen=True)
class Conditions:
    """Conditions of a whole stack: PSF width (px), variance of reading and rounding (e²), excess factor (1 or 2), and,
    where it has been found, the distribution of photoelectrons."""

    sigma_px: float
    read_variance: float
    excess: float
    photons: PhotonPrior | None = None


TYPICAL = Conditions(1.3, 1.6**2, 1.0)
"""A typical sCMOS camera and PSF, brightness unknown: for calls that give nothing."""


@dataclass(frozen=True)
class Prediction:
    """Candidates, the expected counts [B, Y, X] of the scales asked for, and how many cells of each scale were worked
    out (`cells`) of how many there are (`of_cells`)."""

    candidates: Emitters
    counts: dict[int, np.ndarray]
    cells: dict[int, int]
    of_cells: dict[int, int]
