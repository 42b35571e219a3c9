"""Rows kept in a nameless file until their number is known, for formats that hold columns in one piece each."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from varcli.emitters.table import EmitterTable
from varcli.emitters.tables.base import Field, Rows

HALF = 0.5  # from the centre of a pixel to its corner
_ROWS = 65_536  # read back at a time


class SpoolRows(Rows):
    """Rows on their way into a file; what `finish` writes is each format's own."""

    def __init__(self, paths: Sequence[Path], field: Field) -> None:
        super().__init__(paths, field)
        # Closed by close(), which the writer calls whatever happens.
        self._file = tempfile.TemporaryFile(dir=paths[0].parent)  # noqa: SIM115

    @property
    def dtype(self) -> np.dtype:
        """The packed row: of all columns before any row came."""
        return np.dtype([(column.name, column.type) for column in self.columns])

    def write(self, table: EmitterTable) -> None:
        packed = np.empty(len(table), self.dtype)
        for column in self.columns:
            packed[column.name] = column.of_table(table, self.field.pixel_size_nm)
        self._file.write(packed.tobytes())

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """All rows in order, a block at a time, each with its place among them."""
        kind = self.dtype
        self._file.seek(0)
        for start in range(0, self.count, _ROWS):
            count = min(_ROWS, self.count - start)
            yield slice(start, start + count), np.frombuffer(self._file.read(count * kind.itemsize), kind)

    def close(self) -> None:
        self._file.close()
