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
from varcli.emitters.tables.base import HDF5_HEAD, Field, broken_hdf5, checked_table
from varcli.emitters.tables.spool import Spool, SpoolField, as_is, in_pixels
from varcli.errors import VarError
from varcli.version import __version__

_HALF = 0.5  # from the centre of a pixel to its corner


def _crlb_variance(table: EmitterTable, pixel_nm: float) -> np.ndarray | None:
    return None if table.crlb_xy_nm is None else (table.crlb_xy_nm / pixel_nm) ** 2


_FIELDS: tuple[SpoolField, ...] = (
    ("down", "<f4", in_pixels("y_nm", _HALF)),
    ("across", "<f4", in_pixels("x_nm", _HALF)),
    ("sd_down", "<f4", in_pixels("sd_y_nm")),
    ("sd_across", "<f4", in_pixels("sd_x_nm")),
    ("crlb", "<f4", _crlb_variance),
    ("phot", "<f4", as_is("photons")),
    ("phot_sig", "<f4", as_is("sd_photons")),
    ("bg", "<f4", as_is("background")),
    ("bg_sig", "<f4", as_is("sd_background")),
    ("prob", "<f4", as_is("probability")),
    ("frame_ix", "<i8", as_is("frame")),
)
# Each dataset of three columns: what stands in its first two, and in the third, which a 2D fit does not know.
_TRIPLES = {
    "xyz": ("down", "across", 0.0),
    "xyz_sig": ("sd_down", "sd_across", np.nan),
    "xyz_cr": ("crlb", "crlb", np.nan),
}
_SINGLES = ("phot", "phot_cr", "phot_sig", "frame_ix", "prob", "bg", "bg_cr", "bg_sig")


class DecodeRows:
    """A DECODE table on its way into a file."""

    def __init__(self, path: Path, field: Field) -> None:
        self._path = path
        self._field = field
        self._spool = Spool(path.parent, _FIELDS, field.pixel_size_nm)

    def append(self, table: EmitterTable) -> None:
        self._spool.append(table)

    def finish(self, meta: dict[str, Any]) -> None:
        import h5py

        spool, pixel_nm = self._spool, self._field.pixel_size_nm
        names = spool.dtype.names or ()
        with h5py.File(self._path, "w") as file:
            about = file.create_group("meta")
            about.attrs["xy_unit"] = "px"
            about.attrs["px_size"] = np.array([pixel_nm, pixel_nm], np.float32)
            file.create_group("decode").attrs["version"] = f"varcli {__version__}"
            file.create_group("varcli").attrs["provenance"] = json.dumps(self._field.provenance(meta))
            data = file.create_group("data")
            for name, (first, second, _) in _TRIPLES.items():
                known = first in names and second in names
                data.create_dataset(name, (spool.rows, 3), "<f4") if known else data.create_dataset(name, dtype="f")
            for name in _SINGLES:
                known = name in names
                data.create_dataset(name, (spool.rows,), spool.dtype[name]) if known else data.create_dataset(
                    name, dtype="f"
                )
            # DECODE's own word for an emitter without identity.
            data.create_dataset("id", data=np.full(spool.rows, -1, np.int64))
            for start, block in spool.blocks():
                self._write(data, start, block)

    def _write(self, data: Any, start: int, block: np.ndarray) -> None:
        names, stop = block.dtype.names or (), start + len(block)
        for name, (first, second, third) in _TRIPLES.items():
            if first in names and second in names:
                constant = np.full(len(block), third, np.float32)
                data[name][start:stop] = np.stack([block[first], block[second], constant], 1)
        for name in _SINGLES:
            if name in names:
                data[name][start:stop] = block[name]

    def close(self) -> None:
        self._spool.close()


class Decode:
    """The format of DECODE's emitter sets."""

    token = "decode"
    summary = "DECODE's HDF5"

    def file_name(self, stem: str) -> str:
        return f"{stem}_decode.h5"

    def companions(self, path: Path) -> list[Path]:
        return []

    def recognises(self, path: Path, head: bytes) -> bool:
        import h5py

        if not head.startswith(HDF5_HEAD):
            return False
        try:
            with h5py.File(path, "r") as file:
                return "data/xyz" in file
        except OSError as error:
            raise broken_hdf5(path, error) from None

    def rows(self, paths: Sequence[Path], field: Field) -> DecodeRows:
        return DecodeRows(paths[0], field)

    def read(self, path: Path, pixel_size_nm: float | None) -> EmitterTable:
        import h5py

        try:
            with h5py.File(path, "r") as file:
                group = file["data"]
                assert isinstance(group, h5py.Group)
                columns = {name: np.asarray(at[:]) for name, at in group.items() if getattr(at, "shape", None)}
                about = dict(file["meta"].attrs) if "meta" in file else {}
                ours = json.loads(str(file["varcli"].attrs["provenance"])) if "varcli" in file else {}
        except OSError as error:
            raise broken_hdf5(path, error) from None
        for name in ("xyz", "frame_ix"):
            if name not in columns:
                raise VarError(f"{path}: has no data/{name}", "it needs data/xyz and data/frame_ix")
        across_nm, down_nm = _pixel_nm(path, about, pixel_size_nm)
        in_nm = about.get("xy_unit") in ("nm", b"nm")
        unit = np.array([1.0, 1.0] if in_nm else [down_nm, across_nm])
        xyz = columns["xyz"].astype(np.float64)
        place = xyz[:, :2] * unit + _HALF * np.array([down_nm, across_nm])
        sd = columns["xyz_sig"][:, :2] * unit if "xyz_sig" in columns else None
        variance = columns["xyz_cr"][:, :2] * unit**2 if "xyz_cr" in columns else None
        used = {"xyz", "xyz_sig", "xyz_cr", "phot", "phot_sig", "bg", "bg_sig", "prob", "frame_ix", "id"}
        ignored = [name for name in columns if name not in used]
        return checked_table(
            path,
            0,
            columns["frame_ix"],
            x_nm=place[:, 1],
            y_nm=place[:, 0],
            photons=columns.get("phot"),
            background=columns.get("bg"),
            sd_x_nm=None if sd is None else sd[:, 1],
            sd_y_nm=None if sd is None else sd[:, 0],
            sd_photons=columns.get("phot_sig"),
            sd_background=columns.get("bg_sig"),
            crlb_xy_nm=None if variance is None else np.sqrt(variance.mean(1)),
            probability=columns.get("prob"),
            meta={
                "format": self.token,
                "columns": list(columns),
                "ignored_columns": ignored + (["z"] if xyz[:, 2:].any() else []),
                **ours,
            },
        )


def _pixel_nm(path: Path, about: dict[str, Any], told: float | None) -> tuple[float, float]:
    """Size of a pixel across and down; the file gives it in its own order, down the rows first."""
    size = np.atleast_1d(about.get("px_size", told if told is not None else np.nan)).astype(np.float64)
    if not (np.isfinite(size).all() and (size > 0).all()):
        raise VarError(f"{path}: its pixel size is not known", "say it with --pixel-size")
    return float(size[-1]), float(size[0])
