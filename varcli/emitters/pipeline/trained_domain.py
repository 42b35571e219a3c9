"""What a model was trained on, and what of a stack lies outside of it."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

_REFERENCE_PX = 1.3  # the PSF width that trained densities are given for; they scale by its area
_TOLERANCE = 0.02  # of a bound: an estimate that much beyond it is not outside


@dataclass(frozen=True)
class Outside:
    """A quantity of a stack that lies outside the range (least, greatest) that the model was trained on."""

    quantity: str
    value: float
    unit: str
    trained: tuple[float, float]

    def __str__(self) -> str:
        low, high = self.trained
        return (
            f"{self.quantity} {self.value:.3g} {self.unit} is outside the trained range {low:g} to {high:g}: "
            "expect missed or invented emitters"
        )

    def document(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self) | {"trained": list(self.trained)}


@dataclass(frozen=True)
class TrainedDomain:
    """Ranges (least, greatest) of PSF width (px), background (e/px), typical emitter (e) and density (per 100 px²).

    The density is that for a PSF of 1.3 px; a range that is not known is None.
    """

    sigma_px: tuple[float, float] | None = None
    background_e: tuple[float, float] | None = None
    electrons: tuple[float, float] | None = None
    density: tuple[float, float] | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "TrainedDomain":
        """The domain that a checkpoint was trained on, from its header."""
        simulated = data.get("simulated") or {}
        ranges = {
            name: (float(simulated[name][0]), float(simulated[name][1]))
            for name in ("sigma_px", "background_e", "electrons", "density")
            if name in simulated
        }
        return cls(**ranges)

    def outside(
        self,
        sigma_px: float,
        background_e: tuple[float, float, float],
        electrons: float | None,
        density_per_100px2: float,
    ) -> tuple[Outside, ...]:
        """What lies outside; `background_e` is its 5%, 50% and 95% place, `electrons` the median of the emitters."""
        return tuple(self._outside(sigma_px, background_e, electrons, density_per_100px2))

    def _outside(
        self, sigma_px: float, background_e: tuple[float, float, float], electrons: float | None, density: float
    ) -> Iterator[Outside]:
        if self.sigma_px and _beyond(sigma_px, self.sigma_px):
            yield Outside("PSF width", sigma_px, "px", self.sigma_px)
        if self.background_e:
            _, middle, high = background_e
            if high > self.background_e[1] * (1 + _TOLERANCE):
                yield Outside("background", high, "e-/px", self.background_e)
            elif middle < self.background_e[0] * (1 - _TOLERANCE):
                yield Outside("background", middle, "e-/px", self.background_e)
        if self.electrons and electrons is not None and _beyond(electrons, self.electrons):
            yield Outside("photoelectrons of an emitter,", electrons, "e-", self.electrons)
        if self.density:
            scale = (_REFERENCE_PX / sigma_px) ** 2
            # Frames without any emitter are trained too: only too many can be outside.
            if density > self.density[1] * scale * (1 + _TOLERANCE):
                trained = (self.density[0] * scale, self.density[1] * scale)
                yield Outside("density", density, "emitters per 100 px²", trained)


def _beyond(value: float, trained: tuple[float, float]) -> bool:
    return not trained[0] * (1 - _TOLERANCE) <= value <= trained[1] * (1 + _TOLERANCE)
