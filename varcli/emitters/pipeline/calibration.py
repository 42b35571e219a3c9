"""From what the pipeline says to what is true on average, as a checkpoint knows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Calibration:
    """A monotonous map of probabilities through the points (`said`, `true`), straight between them, and factors of the
    standard deviations of positions and photons. The default changes nothing."""

    said: tuple[float, ...] = (0.0, 1.0)
    true: tuple[float, ...] = (0.0, 1.0)
    position_factor: float = 1.0
    photon_factor: float = 1.0

    @classmethod
    def of(cls, data: Mapping[str, Any], polish: str) -> "Calibration":
        """The calibration that a checkpoint's header holds for this kind of polish, if any."""
        held = (data.get("calibration") or {}).get(polish)
        if held is None:
            return cls()
        said, true = (tuple(map(float, held[name])) for name in ("said", "true"))
        return cls(said, true, float(held["position_factor"]), float(held["photon_factor"]))

    def probability(self, said: np.ndarray) -> np.ndarray:
        """Calibrated probabilities [E]."""
        return np.interp(said, self.said, self.true)
