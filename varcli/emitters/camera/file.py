"""camera.toml: the numbers and maps of a camera, as a lab writes them down.

Relative paths of maps start at the folder of the file.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from varcli.emitters.camera.camera import Camera
from varcli.errors import UsageError

if TYPE_CHECKING:
    from varcli.emitters.camera.config import CameraConfig

_MAPS = ("baseline_adu", "e_per_adu", "read_noise_e")


def load_camera(path: Path) -> Camera:
    """The camera of a camera.toml; raises UsageError in one line for what is missing or impossible."""
    from varcli.emitters.camera.config import CameraConfig

    values = read_camera_values(path)
    fields = CameraConfig.model_fields
    missing = [name for name, field in fields.items() if field.is_required() and name not in values]
    if missing:
        say = fields[missing[0]].description
        raise UsageError(f"{path}: [camera] has no {' and no '.join(missing)}", f"{missing[0]}: {say}")
    return _named(path, values)


def read_camera_values(path: Path) -> dict[str, Any]:
    """What a camera.toml says of the fields of `Camera`, maps loaded [Y, X]; what it leaves out is not there.

    Raises UsageError in one line for a file that is none, an unknown name or a value of the wrong kind; `Camera`
    itself refuses impossible ones.
    """
    import tomli

    try:
        tables = tomli.loads(path.read_text(encoding="utf-8"))
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}", "a camera is a TOML file with a table [camera]") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    table = tables.get("camera")
    if not isinstance(table, dict):
        raise UsageError(f"{path}: no table [camera]", "docs/formats.md shows a whole one")
    return {name: _value(path, name, value) for name, value in table.items()}


def camera_of(config: "CameraConfig", folder: Path = Path()) -> Camera:
    """The camera that a config describes; maps are read from paths relative to `folder`."""
    return _named(None, load_maps(config.model_dump(), folder))


def load_maps(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The same values with paths replaced by the maps they name."""
    return {name: _map(folder / value) if isinstance(value, str) else value for name, value in values.items()}


def dump_camera(config: "CameraConfig", folder: Path = Path()) -> str:
    """A camera.toml of this config; paths of maps, relative to `folder`, become absolute."""
    import tomli_w

    values = config.model_dump(exclude_none=True)
    for name in _MAPS:
        if isinstance(values[name], str):
            values[name] = str((folder / values[name]).resolve())
    return tomli_w.dumps({"camera": values})


def _named(path: Path | None, values: Mapping[str, Any]) -> Camera:
    try:
        return Camera(**values)
    except UsageError as error:
        raise error if path is None else UsageError(f"{path}: {error.message}", error.hint) from None


def _value(path: Path, name: str, value: Any) -> Any:
    from varcli.emitters.camera.config import CameraConfig

    fields = CameraConfig.model_fields
    if name not in fields:
        near = difflib.get_close_matches(name, fields, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(fields)}"
        raise UsageError(f"{path}: [camera] does not know {name}", hint)
    if isinstance(value, str) and name in _MAPS:
        return _map(path.parent / value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{path}: {name} must be a number, not {value!r}", fields[name].description)
    return float(value)


def _map(path: Path) -> np.ndarray:
    """One value per pixel from a .npy or .tif file."""
    if not path.is_file():
        raise UsageError(f"no map of the camera at {path}", "give the path of a .npy or .tif file")
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        elif path.suffix in {".tif", ".tiff"}:
            import tifffile

            values = tifffile.imread(path)
        else:
            raise UsageError(f"{path}: a map of the camera is a .npy or .tif file")
    except (ValueError, OSError, EOFError) as error:
        raise UsageError(f"{path}: not a map of the camera: {str(error).splitlines()[0]}") from None
    values = np.squeeze(values)
    if values.ndim != 2 or values.dtype.kind not in "uif":
        raise UsageError(f"{path}: a map of the camera has one number per pixel, not {values.shape} of {values.dtype}")
    return values.astype(np.float64)


_NEEDED = ("pixel_size_nm", "baseline_adu", "e_per_adu", "read_noise_e")


@dataclass(frozen=True)
class GivenCamera:
    """Numbers of a camera as `Camera` has them, or maps [Y, X]; None where nothing is said.

    `em_gain` of 0 or 1 says that there is none.
    """

    pixel_size_nm: float | None = None
    baseline_adu: float | np.ndarray | None = None
    e_per_adu: float | np.ndarray | None = None
    em_gain: float | None = None
    qe: float | None = None
    read_noise_e: float | np.ndarray | None = None

    def or_else(self, other: "GivenCamera") -> "GivenCamera":
        """The same, with what `other` says where this says nothing."""
        return replace(self, **{f.name: getattr(other, f.name) for f in fields(self) if getattr(self, f.name) is None})

    def document(self) -> dict[str, Any]:
        """For JSON; maps by their digest."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        maps = {name: sha256(value.tobytes()).hexdigest() for name, value in values.items() if np.ndim(value)}
        return values | maps

    def check(self, where: str, names: dict[str, str] | None = None) -> "GivenCamera":
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


def read_camera(path: Path) -> GivenCamera:
    """What a camera.toml says; what it leaves out is None.

    Raises UsageError for a missing file, an unknown key or an impossible value.
    """
    if not path.is_file():
        raise UsageError(f"--camera {path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    return GivenCamera(**read_camera_values(path)).check(f"{path}: ")


def complete_camera(path: Path, said: GivenCamera | None = None) -> GivenCamera:
    """What is said beside a camera file, else what the file says; raises UsageError where they leave something out."""
    # A camera file that says nothing of EM or QE describes a camera without, as docs/formats.md has it.
    said = (said or GivenCamera()).or_else(read_camera(path)).or_else(GivenCamera(em_gain=0.0, qe=1.0))
    for name in _NEEDED:
        if getattr(said, name) is None:
            option = "--" + name.removesuffix("_nm").removesuffix("_adu" if name == "baseline_adu" else "_e")
            raise UsageError(f"{path}: camera.{name} is missing", f"add it, or give {option.replace('_', '-')}")
    return said


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
