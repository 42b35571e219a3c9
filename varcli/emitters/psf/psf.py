"""The point spread function."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Psf:
    """A Gaussian of `sigma_px` (times and over `ellipticity` along x and y), of whose light the share `tail` lies
    `tail_scale` times wider."""

    sigma_px: float
    ellipticity: float = 1.0
    tail: float = 0.0
    tail_scale: float = 2.0
