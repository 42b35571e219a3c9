"""Picasso's HDF5 and YAML: pixels from the CENTRE of pixel (0, 0), so half a pixel less than ours; frames from 0.

Source: https://picassosr.readthedocs.io/en/latest/files.html. The dataset is `locs`, a table of float32 numbers. The
YAML holds one document for the movie and one per step of its processing; newer versions of Picasso may keep the same
in the dataset `metadata`, as JSON.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from varcli.emitters.table import EmitterTable
from varcli.emitters.tables.base import HDF5_HEAD, Field, broken_hdf5, checked_table
from varcli.emitters.tables.spool import Spool, SpoolField, as_is, in_pixels
from varcli.errors import VarError
from varcli.version import __version__

_HALF = 0.5  # from the centre of a pixel to its corner

_FIELDS: tuple[SpoolField, ...] = (
    ("frame", "<u4", as_is("frame")),
    ("x", "<f4", in_pixels("x_nm", _HALF)),
    ("y", "<f4", in_pixels("y_nm", _HALF)),
    ("photons", "<f4", as_is("photons")),
    ("sx", "<f4", in_pixels("psf_sigma_nm")),
    ("sy", "<f4", in_pixels("psf_sigma_nm")),
    ("bg", "<f4", as_is("background")),
    ("lpx", "<f4", in_pixels("sd_x_nm")),
    ("lpy", "<f4", in_pixels("sd_y_nm")),
    # Picasso's measure of contrast, which we have not: its filters know the column, so it is there, and 0.
    ("net_gradient", "<f4", lambda table, pixel_nm: np.zeros(len(table))),
    ("photons_sd", "<f4", as_is("sd_photons")),
    ("bg_sd", "<f4", as_is("sd_background")),
    ("crlb_xy", "<f4", in_pixels("crlb_xy_nm")),
    ("probability", "<f4", as_is("probability")),
)


class PicassoRows:
    """A Picasso table on its way into `paths`, HDF5 and YAML; the dataset is one contiguous block, as Picasso's is."""

    def __init__(self, paths: Sequence[Path], field: Field) -> None:
        self._table_path, self._yaml_path = paths
        self._field = field
        self._spool = Spool(self._table_path.parent, _FIELDS, field.pixel_size_nm)

    def append(self, table: EmitterTable) -> None:
        self._spool.append(table)

    def finish(self, meta: dict[str, Any]) -> None:
        import h5py
        import yaml

        with h5py.File(self._table_path, "w") as file:
            dataset = file.create_dataset("locs", (self._spool.rows,), self._spool.dtype)
            for start, block in self._spool.blocks():
                dataset[start : start + len(block)] = block
        text = yaml.safe_dump_all(_documents(self._field, meta), sort_keys=False, allow_unicode=True)
        self._yaml_path.write_text(text, encoding="utf-8")

    def close(self) -> None:
        self._spool.close()


class Picasso:
    """The format of Picasso's Localize, Render and their kin."""

    token = "picasso"
    summary = "Picasso HDF5 with its YAML"

    def file_name(self, stem: str) -> str:
        return f"{stem}_locs.hdf5"

    def companions(self, path: Path) -> list[Path]:
        return [path.with_suffix(".yaml")]

    def recognises(self, path: Path, head: bytes) -> bool:
        import h5py

        if not head.startswith(HDF5_HEAD):
            return False
        try:
            with h5py.File(path, "r") as file:
                return isinstance(file.get("locs"), h5py.Dataset)
        except OSError as error:
            raise broken_hdf5(path, error) from None

    def rows(self, paths: Sequence[Path], field: Field) -> PicassoRows:
        return PicassoRows(paths, field)

    def read(self, path: Path, pixel_size_nm: float | None) -> EmitterTable:
        import h5py

        try:
            with h5py.File(path, "r") as file:
                dataset = file["locs"]
                assert isinstance(dataset, h5py.Dataset)
                names = dataset.dtype.names or ()
                missing = [name for name in ("frame", "x", "y") if name not in names]
                if missing:
                    raise VarError(f"{path}: locs has no column {missing[0]!r}", "it needs frame, x and y")
                packed = dataset[:]
                documents = _information(path, file.get("metadata"))
        except OSError as error:
            raise broken_hdf5(path, error) from None
        said = [document["Pixelsize"] for document in documents if document.get("Pixelsize")]
        pixel_nm = said[-1] if said else pixel_size_nm
        if not isinstance(pixel_nm, int | float) or not pixel_nm > 0:
            hint = f"{path.with_suffix('.yaml').name} gives it as Pixelsize (nm); or say it with --pixel-size"
            raise VarError(f"{path}: its pixel size is not known", hint)
        return _unpacked(path, packed, float(pixel_nm), documents)


def _unpacked(path: Path, packed: np.ndarray, pixel_nm: float, documents: list[dict[str, Any]]) -> EmitterTable:
    names = packed.dtype.names or ()

    def column(name: str, unit: float = 1.0) -> np.ndarray | None:
        return packed[name].astype(np.float64) * unit if name in names else None

    width_x, width_y = column("sx", pixel_nm), column("sy", pixel_nm)
    known = {name for name, _, _ in _FIELDS} - {"net_gradient"}
    ours = next((document["Provenance"] for document in documents if "Provenance" in document), {})
    return checked_table(
        path,
        0,
        packed["frame"],
        x_nm=(packed["x"].astype(np.float64) + _HALF) * pixel_nm,
        y_nm=(packed["y"].astype(np.float64) + _HALF) * pixel_nm,
        photons=column("photons"),
        background=column("bg"),
        psf_sigma_nm=None if width_x is None or width_y is None else (width_x + width_y) / 2,
        sd_x_nm=column("lpx", pixel_nm),
        sd_y_nm=column("lpy", pixel_nm),
        sd_photons=column("photons_sd"),
        sd_background=column("bg_sd"),
        crlb_xy_nm=column("crlb_xy", pixel_nm),
        probability=column("probability"),
        meta={
            "format": Picasso.token,
            "columns": list(names),
            "ignored_columns": [name for name in names if name not in known],
            "pixel_size_nm": pixel_nm,
            **_movie(documents),
            **(ours if isinstance(ours, dict) else {}),
        },
    )


def _documents(field: Field, meta: dict[str, Any]) -> list[dict[str, Any]]:
    """The movie as Picasso describes it, and what was done to it."""
    movie = {
        "Generated by": f"varcli {__version__}",
        "Frames": field.frames,
        "Height": field.height,
        "Width": field.width,
        "Pixelsize": field.pixel_size_nm,
    }
    camera = {
        "Baseline": field.baseline_adu,
        "Sensitivity": field.e_per_adu,
        "Gain": field.em_gain,
        "Qe": field.qe,
    }
    step = {
        "Generated by": f"varcli {__version__}",
        "Pixelsize": field.pixel_size_nm,
        **{name: value for name, value in camera.items() if value is not None},
        "Provenance": field.provenance(meta),
    }
    return [movie, step]


def _information(path: Path, embedded: Any) -> list[dict[str, Any]]:
    """The YAML's documents, else those within the HDF5 file; [] where there are none."""
    import yaml

    beside = path.with_suffix(".yaml")
    try:
        if beside.is_file():
            documents = list(yaml.safe_load_all(beside.read_text(encoding="utf-8")))
        elif embedded is not None:
            documents = json.loads(embedded[()])
        else:
            return []
    except (yaml.YAMLError, ValueError, UnicodeDecodeError):
        raise VarError(f"{beside if beside.is_file() else path}: its description cannot be read") from None
    return [document for document in documents if isinstance(document, dict)]


def _movie(documents: list[dict[str, Any]]) -> dict[str, Any]:
    names = {"Frames": "frames", "Height": "height", "Width": "width"}
    return {ours: value for document in documents for theirs, ours in names.items() if (value := document.get(theirs))}
