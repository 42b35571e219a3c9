"""What is known of emitters before a frame is looked at; the network and the fit take it alike."""

import math
from typing import NamedTuple


class PhotonPrior(NamedTuple):
    """The distribution of an emitter's photoelectrons in a frame: their natural logarithm is normal.

    For the fit a share of emitters are `outliers`, spread by 2 log_sd + 0.6.
    """

    log_mean: float
    log_sd: float
    outliers: float = 0.03

    @property
    def electrons(self) -> float:
        """The median."""
        return math.exp(self.log_mean)
