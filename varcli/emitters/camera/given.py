"""What is said of a camera: the numbers of a camera.toml or of options, each checked, any of them left out."""

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from varcli.emitters.camera.file import read_camera_values
from varcli.errors import UsageError

_NEEDED = ("pixel_size_nm", "baseline_adu", "e_per_adu", "read_noise_e")


@dataclass(frozen=True)
class SaidCamera:
    """Numbers of a camera as `Camera` has them, or maps [Y, X]; None where nothing is said.

    `em_gain` of 0 or 1 says that there is none.
    """

    pixel_size_nm: float | None = None
    baseline_adu: float | np.ndarray | None = None
    e_per_adu: float | np.ndarray | None = None
    em_gain: float | None = None
    qe: float | None = None
    read_noise_e: float | np.ndarray | None = None

    def or_else(self, other: "SaidCamera") -> "SaidCamera":
        """The same, with what `other` says where this says nothing."""
        return replace(self, **{f.name: getattr(other, f.name) for f in fields(self) if getattr(self, f.name) is None})

    def check(self, where: str, names: dict[str, str] | None = None) -> "SaidCamera":
        """Raise UsageError for a value that no camera has; `names` are what the user calls the values."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            problem = _problem(field.name, value)
            if problem:
                named = (names or {}).get(field.name, field.name)
                shown = "a map" if isinstance(value, np.ndarray) else f"{value:g}"
                raise UsageError(f"{where}{named} {shown}: {problem}")
        return self


def read_camera(path: Path) -> SaidCamera:
    """What a camera.toml says; what it leaves out is None.

    Raises UsageError for a missing file, an unknown key or an impossible value.
    """
    if not path.is_file():
        raise UsageError(f"--camera {path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    return SaidCamera(**read_camera_values(path)).check(f"{path}: ")


def refuse_incomplete(said: SaidCamera, path: Path) -> None:
    """Raise UsageError where a camera file, with the options beside it, leaves out what it is there to say."""
    for name in _NEEDED:
        if getattr(said, name) is None:
            option = "--" + name.removesuffix("_nm").removesuffix("_adu" if name == "baseline_adu" else "_e")
            raise UsageError(f"{path}: camera.{name} is missing", f"add it, or give {option.replace('_', '-')}")


def _problem(name: str, value: float | np.ndarray) -> str | None:
    """What is wrong with a value, if anything."""
    low, high = float(np.min(value)), float(np.max(value))
    if not (math.isfinite(low) and math.isfinite(high)):
        return "must be finite"
    if name in ("pixel_size_nm", "e_per_adu") and low <= 0:
        return "must be above 0"
    if name in ("baseline_adu", "read_noise_e") and low < 0:
        return "must not be negative"
    if name == "qe" and not 0 < low <= 1:
        return "must be above 0 and at most 1"
    if name == "em_gain" and (low < 0 or 0 < low < 1):
        return "must be at least 1, or 0 for a camera without"
    return None
