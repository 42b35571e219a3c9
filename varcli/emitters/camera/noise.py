"""The variance of a pixel."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Noise:
    """Variance of a pixel with mean m: excess * m + read_variance, a number or a map [Y, X], in electrons²."""

    excess: float
    read_variance: float | np.ndarray
