"""From the probabilities and deviations of the pipeline to what is true on average, as a checkpoint holds it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Calibration:
    """A monotonous map of probabilities through the points (`reported`, `true`), straight between them, and factors of
    the standard deviations of positions and photons. The default changes nothing."""

    reported: tuple[float, ...] = (0.0, 1.0)
    true: tuple[float, ...] = (0.0, 1.0)
    position_factor: float = 1.0
    photon_factor: float = 1.0

    @classmethod
    def of(cls, data: Mapping[str, Any], polish: str) -> "Calibration":
        """The calibration that a checkpoint's header holds for this kind of polish, if any."""
        held = (data.get("calibration") or {}).get(polish)
        if held is None:
            return cls()
        reported, true = (tuple(map(float, held[name])) for name in ("said", "true"))
        return cls(reported, true, float(held["position_factor"]), float(held["photon_factor"]))

    def probability(self, reported: np.ndarray) -> np.ndarray:
        """Calibrated probabilities [E]."""
        return np.interp(reported, self.reported, self.true)
