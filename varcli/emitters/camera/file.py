"""camera.toml: the numbers and maps of a camera, as a lab writes them down.

Relative paths of maps start at the folder of the file.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from varcli.emitters.camera.camera import MAPS, Camera, problem, shown
from varcli.emitters.camera.config import CameraConfig
from varcli.errors import UsageError


def read_camera_values(path: Path) -> dict[str, Any]:
    """The fields of `Camera` that a camera.toml gives, maps loaded [Y, X]; what it leaves out is not there.

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


def camera_of(config: CameraConfig, folder: Path = Path()) -> Camera:
    """The camera that a config describes; maps are read from paths relative to `folder`."""
    return Camera(**load_maps(config.model_dump(), folder))


def load_maps(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The same values with paths replaced by the maps they name."""
    return {name: _map(folder / value) if isinstance(value, str) else value for name, value in values.items()}


def dump_camera(config: CameraConfig, folder: Path = Path()) -> str:
    """A camera.toml of this config; paths of maps, relative to `folder`, become absolute."""
    import tomli_w

    values = config.model_dump(exclude_none=True)
    for name in MAPS:
        if isinstance(values[name], str):
            values[name] = str((folder / values[name]).resolve())
    return tomli_w.dumps({"camera": values})


def _value(path: Path, name: str, value: Any) -> Any:
    fields = CameraConfig.model_fields
    if name not in fields:
        near = difflib.get_close_matches(name, fields, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(fields)}"
        raise UsageError(f"{path}: [camera] does not know {name}", hint)
    if isinstance(value, str) and name in MAPS:
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


@dataclass(frozen=True)
class GivenCamera:
    """What a user or a file gives of a camera: numbers as `Camera` has them, or maps [Y, X]; None where nothing is.

    `em_gain` of 0 or 1 stands for a camera without.
    """

    pixel_size_nm: float | None = None
    baseline_adu: float | np.ndarray | None = None
    e_per_adu: float | np.ndarray | None = None
    em_gain: float | None = None
    qe: float | None = None
    read_noise_e: float | np.ndarray | None = None

    def or_else(self, other: "GivenCamera") -> "GivenCamera":
        """The same, with what `other` gives where this gives nothing."""
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
            if wrong := problem(field.name, value):
                raise UsageError(f"{where}{(names or {}).get(field.name, field.name)} {shown(value)}: {wrong}")
        return self


def read_camera(path: Path) -> GivenCamera:
    """What a camera.toml gives; what it leaves out is None.

    Raises UsageError for a missing file, an unknown key or an impossible value.
    """
    if not path.is_file():
        raise UsageError(f"--camera {path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    return GivenCamera(**read_camera_values(path)).check(f"{path}: ")


def complete_camera(path: Path, given: GivenCamera | None = None) -> GivenCamera:
    """What is given beside a camera file, else what the file gives; raises UsageError where both leave a value out."""
    # A camera file without EM gain or QE describes a camera without, as docs/formats.md has it.
    given = (given or GivenCamera()).or_else(read_camera(path)).or_else(GivenCamera(em_gain=0.0, qe=1.0))
    for name in ("pixel_size_nm", *MAPS):
        if getattr(given, name) is None:
            option = "--" + name.removesuffix("_nm").removesuffix("_adu" if name == "baseline_adu" else "_e")
            raise UsageError(f"{path}: camera.{name} is missing", f"add it, or give {option.replace('_', '-')}")
    return given
