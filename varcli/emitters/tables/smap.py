"""SMAP's `_sml.mat`: nm from the CENTRE of pixel (0, 0), frames from 1, in the struct saveloc.loc.

Source: https://github.com/jries/SMAP, whose exporter to Picasso and loader of DECODE's files, both with centres of
pixels, shift nothing. Read from MATLAB 5 to 7 and 7.3 files; written as 7.3, which is HDF5 with MATLAB's attributes.
"""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from varcli.emitters.table import EmitterTable
from varcli.emitters.tables.base import (
    HDF5_HEAD,
    Field,
    FileColumn,
    Format,
    checked_table,
    columns_of_table,
    open_hdf5,
    spread_xy_nm,
)
from varcli.emitters.tables.spool import SpoolRows
from varcli.errors import VarError

_USER_BLOCK = 512  # bytes before the HDF5 part of a MATLAB 7.3 file
_NO_DATE = "MATLAB 7.3 MAT-file, Platform: varcli, Created on: Thu Jan  1 00:00:00 1970 HDF5 schema 1.00 ."


def _from_centre(name: str) -> Any:
    return lambda table, pixel_nm: getattr(table, name) - pixel_nm / 2


# Uncertainties of x and y by the names of several versions of SMAP; the first pair that is there counts.
_UNCERTAINTIES = (("xnmerr", "ynmerr"), ("locprecxnm", "locprecynm"), ("xerrnm", "yerrnm"), ("locprecnm", "locprecnm"))


class SmapRows(SpoolRows):
    """A SMAP table on its way into a file."""

    columns = (
        FileColumn("frame", "<f8", "frame", offset=-1),
        FileColumn("xnm", "<f4", _from_centre("x_nm")),
        FileColumn("ynm", "<f4", _from_centre("y_nm")),
        FileColumn("phot", "<f4", "photons"),
        FileColumn("bg", "<f4", "background"),
        FileColumn("locprecnm", "<f4", lambda table, pixel_nm: spread_xy_nm(table)),
        FileColumn("xnmerr", "<f4", "sd_x_nm"),
        FileColumn("ynmerr", "<f4", "sd_y_nm"),
        FileColumn("PSFxnm", "<f4", "psf_sigma_nm"),
        FileColumn("PSFynm", "<f4", "psf_sigma_nm"),
        FileColumn("prob", "<f4", "probability"),
        # Our own: SMAP has no names for them, and keeps what it does not know.
        FileColumn("phot_err", "<f4", "sd_photons"),
        FileColumn("bg_err", "<f4", "sd_background"),
        FileColumn("bg_std", "<f4", "background_std"),
        FileColumn("crlb_xynm", "<f4", "crlb_xy_nm"),
        FileColumn("channel", "<f4", lambda table, pixel_nm: np.zeros(len(table))),
        FileColumn("filenumber", "<f4", lambda table, pixel_nm: np.ones(len(table))),
    )

    def finish(self, meta: dict[str, Any]) -> None:
        import h5py

        field, names = self.field, list(self.dtype.names or ())
        info = {
            "Width": field.width,
            "Height": field.height,
            "roi": [0, 0, field.width, field.height],
            "cam_pixelsize_um": [field.pixel_size_nm / 1000] * 2,
            "numberOfFrames": field.frames,
        }
        with h5py.File(self.paths[0], "w", userblock_size=_USER_BLOCK) as file:
            _struct(file.create_group("saveloc"), ["info", "loc"])
            _struct(file.create_group("saveloc/info"), list(info))
            for name, value in info.items():
                _matrix(file, f"saveloc/info/{name}", np.atleast_1d(np.asarray(value, np.float64))[:, None])
            _struct(file.create_group("fileformat"), ["name"])
            _text(file, "fileformat/name", "sml")
            _text(file, "provenance", json.dumps(field.provenance(meta)))
            _struct(file.create_group("saveloc/loc"), names)
            for name in names:
                _matrix(file, f"saveloc/loc/{name}", np.empty((1, self.count), self.dtype[name]))
            for place, block in self.blocks():
                for name in names:
                    column: Any = file[f"saveloc/loc/{name}"]
                    column[0, place] = block[name]
        with self.paths[0].open("r+b") as handle:
            handle.write(_NO_DATE.ljust(116).encode() + bytes(8) + b"\x00\x02IM")


def _struct(group: Any, names: list[str]) -> None:
    """Mark a group as a struct of MATLAB's, with its fields in order."""
    import h5py

    letters = np.empty(len(names), object)
    for place, name in enumerate(names):
        letters[place] = np.frombuffer(name.encode(), "S1")
    group.attrs["MATLAB_class"] = np.bytes_("struct")
    group.attrs.create("MATLAB_fields", letters, dtype=h5py.vlen_dtype(np.dtype("S1")))


def _matrix(file: Any, path: str, values: np.ndarray) -> None:
    """A matrix of MATLAB's, whose axes HDF5 holds in opposite order; what has no elements is written as its shape."""
    empty = not values.size
    shape = np.array(values.shape[::-1], np.uint64)
    dataset = file.create_dataset(path, data=shape) if empty else file.create_dataset(path, data=values)
    dataset.attrs["MATLAB_class"] = np.bytes_("double" if values.dtype.itemsize == 8 else "single")
    if empty:
        dataset.attrs["MATLAB_empty"] = np.uint8(1)


def _text(file: Any, path: str, text: str) -> None:
    dataset = file.create_dataset(path, data=np.frombuffer(text.encode("utf-16-le"), np.uint16)[:, None])
    dataset.attrs["MATLAB_class"] = np.bytes_("char")
    dataset.attrs["MATLAB_int_decode"] = np.int32(2)


class Smap(Format):
    """The format of SMAP, the platform of the Ries lab."""

    token = "smap"
    summary = "SMAP's _sml.mat"
    ending = "_sml.mat"

    def recognises(self, path: Path, head: bytes) -> bool:
        if not head.startswith(b"MATLAB "):
            return False
        return "saveloc" in (_names_73(path) if HDF5_HEAD in head else _names_5(path))

    def rows(self, paths: Sequence[Path], field: Field) -> SmapRows:
        return SmapRows(paths, field)

    def read(self, path: Path, pixel_size_nm: float | None) -> EmitterTable:
        with path.open("rb") as file:
            newer = HDF5_HEAD in file.read(1 << 16)
        columns, size_um, ours = _read_73(path) if newer else _read_5(path)
        for name in ("xnm", "ynm", "frame"):
            if name not in columns:
                raise VarError(f"{path}: saveloc.loc has no {name!r}", "it needs xnm, ynm and frame")
        pixel_nm = np.resize(size_um, 2) * 1000 if size_um is not None else np.array([pixel_size_nm or np.nan] * 2)
        if not (np.isfinite(pixel_nm).all() and (pixel_nm > 0).all()):
            raise VarError(f"{path}: its pixel size is not known", "say it with --pixel-size")
        found = columns_of_table(SmapRows.columns, columns, float(pixel_nm[0]))
        found |= {"frame": columns["frame"], "x_nm": columns["xnm"] + pixel_nm[0] / 2}
        found |= {"y_nm": columns["ynm"] + pixel_nm[1] / 2}
        found = {name: column for name, column in found.items() if name not in ("sd_x_nm", "sd_y_nm")}
        for pair in reversed(_UNCERTAINTIES):
            if set(pair) <= columns.keys():
                found["sd_x_nm"], found["sd_y_nm"] = (columns[name] for name in pair)
        widths = [columns[name] for name in ("PSFxnm", "PSFynm") if name in columns]
        if widths:
            found["psf_sigma_nm"] = np.mean(widths, axis=0)
        used = {column.name for column in SmapRows.columns} | {name for pair in _UNCERTAINTIES for name in pair}
        meta = {
            "format": self.token,
            "columns": list(columns),
            "ignored_columns": [name for name in columns if name not in used],
            "pixel_size_nm": float(pixel_nm[0]),
            **ours,
        }
        return checked_table(path, 1, found.pop("frame"), meta, **found)


_Contents = tuple[dict[str, np.ndarray], np.ndarray | None, dict[str, Any]]  # columns, pixel size in µm, provenance


def _names_73(path: Path) -> list[str]:
    with open_hdf5(path) as file:
        return list(file)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the many ways in which scipy fails on a broken file into one line."""
    from scipy.io.matlab import MatReadError

    try:
        yield
    except (MatReadError, ValueError, TypeError, KeyError, NotImplementedError, OSError, zlib.error) as error:
        what = (str(error).splitlines() or [type(error).__name__])[0]
        raise VarError(f"{path}: a MATLAB file that cannot be read: {what}", "copy it again") from None


def _names_5(path: Path) -> list[str]:
    from scipy.io import whosmat

    with _explained(path):
        found = whosmat(path)
    return [name for name, _, _ in found]


def _read_73(path: Path) -> _Contents:
    import h5py

    with open_hdf5(path) as file:
        group = file.get("saveloc/loc")
        if not isinstance(group, h5py.Group):
            raise VarError(f"{path}: has no saveloc.loc", "save the localisations in SMAP as one file")
        columns = {}
        for name, column in group.items():
            if isinstance(column, h5py.Dataset) and column.dtype.kind in "fiu":
                empty = "MATLAB_empty" in column.attrs
                columns[name] = np.zeros(0) if empty else np.asarray(column[()], np.float64).ravel()
        size = None
        for place in ("saveloc/info/cam_pixelsize_um", "saveloc/file/info/cam_pixelsize_um"):
            found = file.get(place)
            if isinstance(found, h5py.Dataset) and found.dtype.kind == "f":
                size = np.asarray(found[()]).ravel()
        text = file.get("provenance")
        letters = np.asarray(text[()], "<u2").ravel() if isinstance(text, h5py.Dataset) else None
    return columns, size, {} if letters is None else json.loads(letters.tobytes().decode("utf-16-le"))


def _read_5(path: Path) -> _Contents:
    from scipy.io import loadmat

    with _explained(path):
        saved = loadmat(path, simplify_cells=True)["saveloc"]
    if not isinstance(saved, Mapping) or not isinstance(saved.get("loc"), Mapping):
        raise VarError(f"{path}: has no saveloc.loc", "save the localisations in SMAP as one file")
    columns = {
        name: np.atleast_1d(np.asarray(column, np.float64)).ravel()
        for name, column in saved["loc"].items()
        if np.asarray(column).dtype.kind in "fiu"
    }
    info = saved.get("info") or (saved.get("file") or {})
    info = info.get("info", info) if isinstance(info, Mapping) else {}
    size = info.get("cam_pixelsize_um") if isinstance(info, Mapping) else None
    return columns, None if size is None else np.atleast_1d(np.asarray(size, np.float64)).ravel(), {}
