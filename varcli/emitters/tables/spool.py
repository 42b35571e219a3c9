"""Rows kept in a nameless file until their number is known, for formats that hold columns in one piece each."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from varcli.emitters.table import EmitterTable
from varcli.emitters.tables.base import Columns, Field, FileColumn

HALF = 0.5  # from the centre of a pixel to its corner
_ROWS = 65_536  # read back at a time


class SpoolRows:
    """Rows of `columns` on their way into `paths`; the bytes do not depend on how rows came.

    A column is left out where the first rows have none. What `finish` writes is each format's own.
    """

    columns: tuple[FileColumn, ...]

    def __init__(self, paths: Sequence[Path], field: Field) -> None:
        self.paths, self.field = paths, field
        self.count = 0
        # Closed by close(), which the writer calls whatever happens.
        self._file = tempfile.TemporaryFile(dir=paths[0].parent)  # noqa: SIM115
        self._seen = Columns()

    @property
    def dtype(self) -> np.dtype:
        """The packed row: of all columns before any row came."""
        return np.dtype([(column.name, column.type) for column in self.columns])

    def append(self, table: EmitterTable) -> None:
        if not len(table):
            return
        pixel_nm = self.field.pixel_size_nm
        if self._seen.names is None:
            self.columns = tuple(column for column in self.columns if column.of_table(table, pixel_nm) is not None)
        self._seen.check(table)
        packed = np.empty(len(table), self.dtype)
        for column in self.columns:
            packed[column.name] = column.of_table(table, pixel_nm)
        self._file.write(packed.tobytes())
        self.count += len(table)

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """All rows in order, a block at a time, each with its place among them."""
        kind = self.dtype
        self._file.seek(0)
        for start in range(0, self.count, _ROWS):
            count = min(_ROWS, self.count - start)
            yield slice(start, start + count), np.frombuffer(self._file.read(count * kind.itemsize), kind)

    def close(self) -> None:
        self._file.close()
