"""What is known of emitters before a frame is looked at; the network and the fit take it alike."""

import math
from typing import NamedTuple


class PhotonPrior(NamedTuple):
    """The distribution of an emitter's photoelectrons in a frame: their natural logarithm is normal."""

    log_mean: float
    log_sd: float

    @property
    def electrons(self) -> float:
        """The median."""
        return math.exp(self.log_mean)
