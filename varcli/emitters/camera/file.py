"""camera.toml: the numbers and maps of a camera, as a lab writes them down.

Relative paths of maps start at the folder of the file.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from varcli.emitters.camera.camera import MAPS, Camera
from varcli.emitters.camera.config import CameraConfig
from varcli.emitters.camera.values import Values, given_values
from varcli.errors import UsageError


def read_camera(path: Path) -> Values:
    """What a camera.toml gives, maps loaded [Y, X]; what it leaves out is not there.

    Raises UsageError for a missing file, one that is no TOML, an unknown name, or a value of the wrong kind or one that
    no camera has.
    """
    import tomli

    if not path.is_file():
        raise UsageError(f"--camera {path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    try:
        tables = tomli.loads(path.read_text(encoding="utf-8"))
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}", "a camera is a TOML file with a table [camera]") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    table = tables.get("camera")
    if not isinstance(table, dict):
        raise UsageError(f"{path}: no table [camera]", "docs/formats.md shows a whole one")
    return given_values(f"{path}: ", **{name: _value(path, name, value) for name, value in table.items()})


def complete_camera(path: Path, given: Values | None = None) -> Values:
    """What is given beside a camera file, else what the file gives; raises UsageError where both leave a value out."""
    # A camera file without EM gain or QE describes a camera without, as docs/formats.md has it.
    values = given_values(em_gain=0.0, qe=1.0) | read_camera(path) | (given or {})
    for name in ("pixel_size_nm", *MAPS):
        if name not in values:
            option = "--" + name.removesuffix("_nm").removesuffix("_adu" if name == "baseline_adu" else "_e")
            raise UsageError(f"{path}: camera.{name} is missing", f"add it, or give {option.replace('_', '-')}")
    return values


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
