"""Values of a camera, each with where it comes from: the user, a file, the noise of a stack, or a default."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

import numpy as np

from varcli.emitters.camera.camera import problem, shown
from varcli.errors import UsageError

Origin = Literal["said", "metadata", "estimated", "default"]
"""Who gives a value: "said" is the user."""


@dataclass(frozen=True)
class Provenanced:
    """A value that a result rests on, where it comes from, and a note in words."""

    name: str
    value: Any
    unit: str
    origin: Origin
    note: str = ""

    @property
    def assumed(self) -> bool:
        """Whether the user did not give it."""
        return self.origin != "said"

    def document(self) -> dict[str, Any]:
        """The same for JSON; a map is given by its mean."""
        is_map = isinstance(self.value, np.ndarray)
        value = float(np.mean(self.value)) if is_map else self.value
        note = " ".join(filter(None, ("the mean of a map" if is_map else "", self.note)))
        return {"name": self.name, "value": value, "unit": self.unit, "origin": self.origin, "note": note}

    def __str__(self) -> str:
        value = self.document()["value"]
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        quantity = f"{self.name} {shown} {self.unit}".rstrip()
        how = {"metadata": "from the file", "estimated": "estimated", "default": "the default", "said": "given"}
        return f"{quantity} ({how[self.origin]}{': ' if self.note else ''}{self.note})"


Values = dict[str, Provenanced]
"""What one source gives of a camera, by the name of the field of `Camera`."""

QUANTITIES = {
    "pixel_size_nm": ("pixel size", "nm"),
    "baseline_adu": ("baseline", "ADU"),
    "e_per_adu": ("e-/ADU", ""),
    "em_gain": ("EM gain", ""),
    "read_noise_e": ("read noise", "e-"),
    "qe": ("quantum efficiency", ""),
}
"""What each field of `Camera` is called, and its unit."""


def value_of(field: str, value: Any, origin: Origin, note: str = "") -> Values:
    """A single value."""
    name, unit = QUANTITIES[field]
    return {field: Provenanced(name, value, unit, origin, note)}


def given_values(
    where: str = "", names: dict[str, str] | None = None, /, **numbers: float | np.ndarray | None
) -> Values:
    """What the user gives of a camera: numbers as `Camera` has them, or maps [Y, X]; None where nothing is given.

    `em_gain` of 0 or 1 stands for a camera without. Raises UsageError, which begins with `where`, for a value that no
    camera has; `names` are what the user calls the values.
    """
    values: Values = {}
    for field, number in numbers.items():
        if number is None:
            continue
        if wrong := problem(field, number):
            raise UsageError(f"{where}{(names or {}).get(field, field)} {shown(number)}: {wrong}")
        values |= value_of(field, None if field == "em_gain" and number <= 1 else number, "said")
    return values


def values_document(values: Values) -> dict[str, Any]:
    """The numbers for JSON, None where there is none; maps by their digest, an `em_gain` of 0 for a camera without."""
    document: dict[str, Any] = dict.fromkeys(QUANTITIES)
    for field, value in values.items():
        number = value.value
        document[field] = sha256(number.tobytes()).hexdigest() if isinstance(number, np.ndarray) else number or 0.0
    return document
