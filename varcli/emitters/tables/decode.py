"""DECODE's HDF5: pixels from the CENTRE of pixel (0, 0), the first coordinate down the ROWS; frames from 0.

Source: decode.utils.emitter_io of DECODE 0.10 for the layout; its frames are transposed to be shown with x to the
right, and SMAP's loader of these files puts their x into its y. Cramér-Rao columns are variances. A dataset without
shape stands for a column that is not known.
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

# Each dataset of three columns: what stands in its first two, and in the third, which a 2D fit does not know.
_TRIPLES = {
    "xyz": ("down", "across", 0.0),
    "xyz_sig": ("sd_down", "sd_across", np.nan),
    "xyz_cr": ("crlb", "crlb", np.nan),
}
_SINGLES = ("phot", "phot_cr", "phot_sig", "frame_ix", "prob", "bg", "bg_cr", "bg_sig")


def _crlb_variance(table: EmitterTable, pixel_nm: float) -> np.ndarray | None:
    return None if table.crlb_xy_nm is None else (table.crlb_xy_nm / pixel_nm) ** 2


class DecodeRows(SpoolRows):
    """A DECODE table on its way into a file."""

    columns = (
        FileColumn("down", "<f4", "y_nm", in_pixels=True, offset=HALF),
        FileColumn("across", "<f4", "x_nm", in_pixels=True, offset=HALF),
        FileColumn("sd_down", "<f4", "sd_y_nm", in_pixels=True),
        FileColumn("sd_across", "<f4", "sd_x_nm", in_pixels=True),
        FileColumn("crlb", "<f4", _crlb_variance),
        FileColumn("phot", "<f4", "photons"),
        FileColumn("phot_sig", "<f4", "sd_photons"),
        FileColumn("bg", "<f4", "background"),
        FileColumn("bg_sig", "<f4", "sd_background"),
        FileColumn("prob", "<f4", "probability"),
        FileColumn("frame_ix", "<i8", "frame"),
    )

    def finish(self, meta: dict[str, Any]) -> None:
        import h5py

        kind, pixel_nm = self.dtype, self.field.pixel_size_nm
        names = kind.names or ()
        with h5py.File(self.paths[0], "w") as file:
            about = file.create_group("meta")
            about.attrs["xy_unit"] = "px"
            about.attrs["px_size"] = np.array([pixel_nm, pixel_nm], np.float32)
            file.create_group("decode").attrs["version"] = f"varcli {__version__}"
            file.create_group("varcli").attrs["provenance"] = json.dumps(self.field.provenance(meta))
            data: Any = file.create_group("data")
            triples = {name: parts for name, parts in _TRIPLES.items() if set(parts[:2]) <= set(names)}
            singles = [name for name in _SINGLES if name in names]
            for name in _TRIPLES:
                data.create_dataset(name, (self.count, 3) if name in triples else None, "<f4")
            for name in _SINGLES:
                known = name in singles
                data.create_dataset(name, (self.count,) if known else None, kind[name] if known else "<f4")
            # DECODE's own word for an emitter without identity.
            data.create_dataset("id", data=np.full(self.count, -1, np.int64))
            for place, block in self.blocks():
                for name, (first, second, third) in triples.items():
                    constant = np.full(len(block), third, np.float32)
                    data[name][place] = np.stack([block[first], block[second], constant], 1)
                for name in singles:
                    data[name][place] = block[name]


class Decode(Format):
    """The format of DECODE's emitter sets."""

    token = "decode"
    summary = "DECODE's HDF5"
    ending = "_decode.h5"

    def recognises(self, path: Path, head: bytes) -> bool:
        if not head.startswith(HDF5_HEAD):
            return False
        with open_hdf5(path) as file:
            return "data/xyz" in file

    def rows(self, paths: Sequence[Path], field: Field) -> DecodeRows:
        return DecodeRows(paths, field)

    def read(self, path: Path, pixel_size_nm: float | None) -> EmitterTable:
        with open_hdf5(path) as file:
            group: Any = file["data"]
            columns = {name: np.asarray(at[:]) for name, at in group.items() if getattr(at, "shape", None)}
            about = dict(file["meta"].attrs) if "meta" in file else {}
            ours = json.loads(str(file["varcli"].attrs["provenance"])) if "varcli" in file else {}
        for name in ("xyz", "frame_ix"):
            if name not in columns:
                raise VarError(f"{path}: has no data/{name}", "it needs data/xyz and data/frame_ix")
        across_nm, down_nm = _pixel_nm(path, about, pixel_size_nm)
        in_nm = about.get("xy_unit") in ("nm", b"nm")
        unit = np.array([1.0, 1.0] if in_nm else [down_nm, across_nm])
        xyz = columns["xyz"].astype(np.float64)
        found = columns_of_table(DecodeRows.columns, columns, across_nm)
        found["y_nm"], found["x_nm"] = (xyz[:, :2] * unit + HALF * np.array([down_nm, across_nm])).T
        if "xyz_sig" in columns:
            found["sd_y_nm"], found["sd_x_nm"] = (columns["xyz_sig"][:, :2] * unit).T
        if "xyz_cr" in columns:
            found["crlb_xy_nm"] = np.sqrt((columns["xyz_cr"][:, :2] * unit**2).mean(1))
        used = {*_TRIPLES, "id", *(column.name for column in DecodeRows.columns)}
        ignored = [name for name in columns if name not in used]
        meta = {
            "format": self.token,
            "columns": list(columns),
            "ignored_columns": ignored + (["z"] if xyz[:, 2:].any() else []),
            **ours,
        }
        return checked_table(path, 0, found.pop("frame"), meta, **found)


def _pixel_nm(path: Path, about: dict[str, Any], given: float | None) -> tuple[float, float]:
    """Size of a pixel across and down; the file gives it in its own order, down the rows first."""
    size = np.atleast_1d(about.get("px_size", given if given is not None else np.nan)).astype(np.float64)
    if not (np.isfinite(size).all() and (size > 0).all()):
        raise VarError(f"{path}: its pixel size is not known", "say it with --pixel-size")
    return float(size[-1]), float(size[0])
