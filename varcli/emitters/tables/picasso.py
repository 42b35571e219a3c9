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
from varcli.emitters.tables.base import HDF5_HEAD, Field, FileColumn, Format, checked_table, columns_of_table, open_hdf5
from varcli.emitters.tables.spool import HALF, SpoolRows
from varcli.errors import VarError
from varcli.version import __version__


class PicassoRows(SpoolRows):
    """A Picasso table on its way into `paths`, HDF5 and YAML; the dataset is one contiguous block, as Picasso's is."""

    columns = (
        FileColumn("frame", "<u4", "frame"),
        FileColumn("x", "<f4", "x_nm", in_pixels=True, offset=HALF),
        FileColumn("y", "<f4", "y_nm", in_pixels=True, offset=HALF),
        FileColumn("photons", "<f4", "photons"),
        FileColumn("sx", "<f4", "psf_sigma_nm", in_pixels=True),
        FileColumn("sy", "<f4", "psf_sigma_nm", in_pixels=True),
        FileColumn("bg", "<f4", "background"),
        FileColumn("lpx", "<f4", "sd_x_nm", in_pixels=True),
        FileColumn("lpy", "<f4", "sd_y_nm", in_pixels=True),
        # Picasso's measure of contrast, which we have not: its filters know the column, so it is there, and 0.
        FileColumn("net_gradient", "<f4", lambda table, pixel_nm: np.zeros(len(table))),
        FileColumn("photons_sd", "<f4", "sd_photons"),
        FileColumn("bg_sd", "<f4", "sd_background"),
        FileColumn("crlb_xy", "<f4", "crlb_xy_nm", in_pixels=True),
        FileColumn("probability", "<f4", "probability"),
    )

    def finish(self, meta: dict[str, Any]) -> None:
        import h5py
        import yaml

        table_path, yaml_path = self.paths
        with h5py.File(table_path, "w") as file:
            dataset = file.create_dataset("locs", (self.count,), self.dtype)
            for place, block in self.blocks():
                dataset[place] = block
        text = yaml.safe_dump_all(_documents(self.field, meta), sort_keys=False, allow_unicode=True)
        yaml_path.write_text(text, encoding="utf-8")


class Picasso(Format):
    """The format of Picasso's Localize, Render and their kin."""

    token = "picasso"
    summary = "Picasso HDF5 with its YAML"
    ending = "_locs.hdf5"
    beside = ".yaml"

    def recognises(self, path: Path, head: bytes) -> bool:
        import h5py

        if not head.startswith(HDF5_HEAD):
            return False
        with open_hdf5(path) as file:
            return isinstance(file.get("locs"), h5py.Dataset)

    def rows(self, paths: Sequence[Path], field: Field) -> PicassoRows:
        return PicassoRows(paths, field)

    def read(self, path: Path, pixel_size_nm: float | None) -> EmitterTable:
        with open_hdf5(path) as file:
            dataset: Any = file["locs"]
            names = dataset.dtype.names or ()
            missing = [name for name in ("frame", "x", "y") if name not in names]
            if missing:
                raise VarError(f"{path}: locs has no column {missing[0]!r}", "it needs frame, x and y")
            packed = dataset[:]
            documents = _information(path, file.get("metadata"))
        given = [document["Pixelsize"] for document in documents if document.get("Pixelsize")]
        pixel_nm = given[-1] if given else pixel_size_nm
        if not isinstance(pixel_nm, int | float) or not pixel_nm > 0:
            hint = f"{path.with_suffix('.yaml').name} gives it as Pixelsize (nm); or say it with --pixel-size"
            raise VarError(f"{path}: its pixel size is not known", hint)
        found = columns_of_table(PicassoRows.columns, {name: packed[name] for name in names}, float(pixel_nm))
        if found.pop("psf_sigma_nm", None) is not None and {"sx", "sy"} <= set(names):
            width_x, width_y = (packed[name].astype(np.float64) * pixel_nm for name in ("sx", "sy"))
            found["psf_sigma_nm"] = (width_x + width_y) / 2
        known = {column.name for column in PicassoRows.columns} - {"net_gradient"}
        ours = next((document["Provenance"] for document in documents if "Provenance" in document), {})
        meta = {
            "format": self.token,
            "columns": list(names),
            "ignored_columns": [name for name in names if name not in known],
            "pixel_size_nm": float(pixel_nm),
            **_movie(documents),
            **(ours if isinstance(ours, dict) else {}),
        }
        return checked_table(path, 0, found.pop("frame"), meta, **found)


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
