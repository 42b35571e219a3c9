"""What every format of tables shares: the field a table belongs to, and what a format can do."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from varcli.emitters.camera.camera import Camera
from varcli.emitters.table import EmitterTable, refuse_rows
from varcli.errors import UsageError, VarError
from varcli.files import plain

if TYPE_CHECKING:
    import h5py

HDF5_HEAD = b"\x89HDF\r\n\x1a\n"
READ_META = frozenset(
    ("format", "columns", "ignored_columns", "pixel_size_nm", "frames", "height", "width", "camera"),
)
"""Of a table's provenance: what reading it added, and what its field adds anew when it is written again."""


@dataclass(frozen=True)
class Field:
    """The stack that a table belongs to: what formats in pixels need, and what every table's provenance holds.

    Numbers of the camera are None where they are not known; a map per pixel is given by its mean.
    """

    pixel_size_nm: float
    frames: int
    height: int
    width: int
    baseline_adu: float | None = None
    e_per_adu: float | None = None
    em_gain: float | None = None
    qe: float | None = None
    read_noise_e: float | None = None

    @classmethod
    def of(cls, camera: Camera, frames: int, height: int, width: int) -> "Field":
        """The field that a camera sees."""
        numbers = {name: getattr(camera, name) for name in ("baseline_adu", "e_per_adu", "read_noise_e")}
        means = {name: float(np.mean(number)) for name, number in numbers.items()}
        return cls(camera.pixel_size_nm, frames, height, width, em_gain=camera.em_gain, qe=camera.qe, **means)

    @classmethod
    def of_tables(
        cls, tables: Sequence[EmitterTable], pixel_size_nm: float | None = None, *, follow: bool = True
    ) -> tuple["Field", dict[str, str]]:
        """The field that tables belong to, and sentences about what of it is assumed, by name.

        With `follow`, the frames of each come after those of the table before. Raises UsageError where no one knows the
        pixel size.
        """
        metas = [table.meta for table in tables]
        pixel_nm = pixel_size_nm or next((meta["pixel_size_nm"] for meta in metas if meta.get("pixel_size_nm")), None)
        if pixel_nm is None:
            raise UsageError("the pixel size of the tables is not known", "say it with --pixel-size")
        assumed: dict[str, str] = {}
        sides = []
        for name, column in (("height", "y_nm"), ("width", "x_nm")):
            known = [side for meta in metas if (side := whole(meta, name))]
            if not known:
                assumed[name] = "the field ends at the furthest emitter"
                furthest = (float(getattr(table, column).max()) for table in tables if len(table))
                known = [max(1, math.ceil(max(furthest, default=0.0) / pixel_nm))]
            sides.append(max(known))
        if any(whole(meta, "frames") is None for meta in metas):
            assumed["frames"] = "the last frame is the last with an emitter"
        lengths = [whole(one.meta, "frames") or (int(one.frame.max()) + 1 if len(one) else 0) for one in tables]
        camera = metas[0].get("camera")
        total = sum(lengths) if follow else max(lengths)
        return cls(float(pixel_nm), total, *sides, **(camera if isinstance(camera, dict) else {})), assumed

    def provenance(self, meta: dict[str, Any]) -> dict[str, Any]:
        """This field and `meta`, of JSON's types alone; numbers that are not finite become null."""
        known = asdict(self)
        own = {name: known.pop(name) for name in ("pixel_size_nm", "frames", "height", "width")}
        camera = {name: value for name, value in known.items() if value is not None}
        return plain({**own, "camera": camera, **meta})


@dataclass(frozen=True)
class FileColumn:
    """A column of a file: its name, the type of its numbers or how they are printed, and where it comes from.

    `ours` is the name of a column of `EmitterTable`, in nm where the file holds it `in_pixels`, from which `offset` is
    then taken; or a function of a table and nm per pixel. It is left out where that is None.
    """

    name: str
    type: str
    ours: str | Callable[[EmitterTable, float], np.ndarray | None]
    in_pixels: bool = False
    offset: float = 0

    def of_table(self, table: EmitterTable, pixel_nm: float) -> np.ndarray | None:
        """The file's numbers [E]."""
        if not isinstance(self.ours, str):
            return self.ours(table, pixel_nm)
        column = getattr(table, self.ours)
        return None if column is None else (column / pixel_nm if self.in_pixels else column) - self.offset


def columns_of_table(
    columns: Sequence[FileColumn], values: Mapping[str, np.ndarray], pixel_nm: float = 1.0
) -> dict[str, np.ndarray]:
    """The columns of a table that a file's `values` hold, float64 [E] in nm; of several for one, the last."""
    return {
        column.ours: (values[column.name].astype(np.float64) + column.offset) * (pixel_nm if column.in_pixels else 1)
        for column in columns
        if isinstance(column.ours, str) and column.name in values
    }


class Rows(ABC):
    """A table that is being written, row by row, to temporary files `paths`; the bytes do not depend on how rows came.

    The first rows decide which of the `columns` are there; `count` rows are written so far.
    """

    columns: tuple[FileColumn, ...]

    def __init__(self, paths: Sequence[Path], field: Field) -> None:
        self.paths, self.field, self.count = paths, field, 0
        self._names: tuple[str, ...] | None = None

    def append(self, table: EmitterTable) -> None:
        """Add all rows of `table`; its columns must be those of the tables before it."""
        if not len(table):
            return
        if self._names is None:
            self._names = table.columns()
            given = [column.of_table(table, self.field.pixel_size_nm) is not None for column in self.columns]
            self.columns = tuple(compress(self.columns, given))
        assert table.columns() == self._names, f"columns {table.columns()} after {self._names}"
        self.write(table)
        self.count += len(table)

    @abstractmethod
    def write(self, table: EmitterTable) -> None:
        """Write some rows, at least one."""

    @abstractmethod
    def finish(self, meta: dict[str, Any]) -> None:
        """Complete every file of the table with its provenance."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the files, finished or not; may be called twice."""


class Format(ABC):
    """A kind of file that holds emitters, called `token`; a table of a stack is named by the stack's stem and `ending`.

    Where it has no place for provenance, a file of the suffix `beside` may lie beside the table.
    """

    token: str
    summary: str
    ending: str
    beside: str | None = None

    def file_name(self, stem: str) -> str:
        """Name of the table that belongs to a stack."""
        return stem + self.ending

    def companions(self, path: Path) -> list[Path]:
        """Files that are written beside a table at `path`."""
        return [path.with_suffix(self.beside)] if self.beside else []

    @abstractmethod
    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether a file that begins with `head` is of this format."""

    @abstractmethod
    def read(self, path: Path, pixel_size_nm: float | None) -> EmitterTable:
        """Read a table; `pixel_size_nm` serves formats in pixels whose files do not give it."""

    @abstractmethod
    def rows(self, paths: Sequence[Path], field: Field) -> Rows:
        """Begin a table in the files `paths`: the table itself, then its companions."""


def checked_table(
    path: Path, first_frame: int, frame: np.ndarray, meta: dict[str, Any], **columns: np.ndarray | None
) -> EmitterTable:
    """A table from columns of a file whose frames count from `first_frame`; refuses what cannot be a position.

    Raises VarError for frames that are no whole numbers from `first_frame` on, and for positions that are not finite.
    """
    frame = np.asarray(frame, np.float64)
    whole = np.isfinite(frame) & (frame == np.round(frame)) & (frame >= first_frame)
    refuse_rows(path, "frame", frame, ~whole, f"frames of this format count from {first_frame}")
    given = {name: np.asarray(column, np.float64) for name, column in columns.items() if column is not None}
    for name in ("x_nm", "y_nm"):
        refuse_rows(path, name, given[name], ~np.isfinite(given[name]), "every row needs a position")
    return EmitterTable(frame=frame.astype(np.int64) - first_frame, meta=meta, **given)


def whole(meta: dict[str, Any], key: str) -> int | None:
    """The whole number that provenance gives for `key`, None where it gives none."""
    value = meta.get(key)
    return int(value) if isinstance(value, int | float) and value == value else None


def spread_xy_nm(table: EmitterTable) -> np.ndarray | None:
    """One uncertainty for both axes [E]: the root of the mean of both variances."""
    if table.sd_x_nm is None or table.sd_y_nm is None:
        return None
    return np.sqrt((table.sd_x_nm**2 + table.sd_y_nm**2) / 2)


@contextmanager
def open_hdf5(path: Path) -> "Iterator[h5py.File]":
    """An HDF5 file to read from; raises VarError, in one line, for one that h5py cannot open or read."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except OSError as error:
        what = "truncated HDF5 file" if "truncated" in str(error) else "HDF5 file that cannot be read"
        raise VarError(f"{path}: a {what}", "copy it again") from None
