"""Rows kept in a nameless file until their number is known, for formats that hold columns in one piece each."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from varcli.emitters.table import EmitterTable
from varcli.emitters.tables.base import Columns

_ROWS = 65_536  # read back at a time

# A column in the file's own units and origin, given the table and nm per pixel; None where the table has none.
Values = Callable[[EmitterTable, float], np.ndarray | None]
SpoolField = tuple[str, str, Values]  # name, type of numbers, values


def in_pixels(name: str, offset_px: float = 0.0) -> Values:
    """A column in nm as pixels, less an offset."""

    def values(table: EmitterTable, pixel_nm: float) -> np.ndarray | None:
        column = getattr(table, name)
        return None if column is None else column / pixel_nm - offset_px

    return values


def as_is(name: str, offset: float = 0) -> Values:
    """A column as the table has it, plus an offset."""

    def values(table: EmitterTable, pixel_nm: float) -> np.ndarray | None:
        column = getattr(table, name)
        return None if column is None else column + offset

    return values


class Spool:
    """Rows of `fields`, a column left out where the first rows have none; the bytes do not depend on how rows came."""

    def __init__(self, folder: Path, fields: Sequence[SpoolField], pixel_nm: float) -> None:
        # Closed by close(), which the writer calls whatever happens.
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._fields = list(fields)
        self._pixel_nm = pixel_nm
        self._seen = Columns()
        self.rows = 0

    @property
    def dtype(self) -> np.dtype:
        """The packed row: of all fields before any row came."""
        return np.dtype([(name, kind) for name, kind, _ in self._fields])

    def append(self, table: EmitterTable) -> None:
        if not len(table):
            return
        if self._seen.names is None:
            self._fields = [entry for entry in self._fields if entry[2](table, self._pixel_nm) is not None]
        self._seen.check(table)
        packed = np.empty(len(table), self.dtype)
        for name, _, values in self._fields:
            packed[name] = values(table, self._pixel_nm)
        self._file.write(packed.tobytes())
        self.rows += len(table)

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """All rows in order, a block at a time, each with the number of its first row."""
        kind = self.dtype
        self._file.seek(0)
        for start in range(0, self.rows, _ROWS):
            count = min(_ROWS, self.rows - start)
            yield start, np.frombuffer(self._file.read(count * kind.itemsize), kind)

    def close(self) -> None:
        self._file.close()
