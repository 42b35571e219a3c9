"""Comma-separated tables: columns with a header, written row by row and read at once."""

import csv
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from varcli.emitters.table import EmitterTable
from varcli.emitters.tables.base import Field, FileColumn, Format, Rows, checked_table, columns_of_table
from varcli.errors import VarError

_ROWS = 10_000  # formatted at a time, so that a large table takes no more memory than a small one


class TextRows(Rows):
    """Rows of a text file, numbered from 1 in a column `id_header` where it has one; provenance has no place in it."""

    id_header: str | None = None

    def __init__(self, paths: Sequence[Path], columns: tuple[FileColumn, ...], field: Field) -> None:
        super().__init__(paths, field)
        self.columns = columns
        self._file: IO[str] = paths[0].open("w", encoding="ascii", newline="\n")

    def write(self, table: EmitterTable) -> None:
        if not self.count:
            self._write_header()
        for start in range(0, len(table), _ROWS):
            some = table.rows(np.arange(start, min(start + _ROWS, len(table))))
            self._write(some, self.count + start + 1)

    def finish(self, meta: dict[str, Any]) -> None:
        """Write the header of a table without rows, and close."""
        if not self.count:
            self._write_header()
        self.close()

    def close(self) -> None:
        self._file.close()

    def _write_header(self) -> None:
        headers = [column.name for column in self.columns]
        headers = [self.id_header, *headers] if self.id_header else headers
        self._file.write(",".join(f'"{header}"' if self.id_header else header for header in headers) + "\n")

    def _write(self, table: EmitterTable, first: int) -> None:
        values = [column.of_table(table, self.field.pixel_size_nm) for column in self.columns]
        formats = [column.type for column in self.columns]
        if self.id_header:
            values, formats = [np.arange(first, first + len(table)), *values], ["%d", *formats]
        row = ",".join(formats) + "\n"
        # One formatting of many rows is several times as fast as a row at a time.
        self._file.write((row * len(table)) % tuple(number for row in zip(*values, strict=True) for number in row))


class TextFormat(Format):
    """A CSV file with positions in nm.

    `columns` are those that are written; the headers `place` hold frames (from `first_frame` on), x and y, and what it
    has of the others is read, as is `also`, which `derived` makes something of.
    """

    columns: tuple[FileColumn, ...]
    place: tuple[str, str, str]
    first_frame: int
    also: tuple[str, ...] = ()
    hint: str

    def recognises(self, path: Path, head: bytes) -> bool:
        return set(self.place[1:]) <= set(header_of(head))

    def rows(self, paths: Sequence[Path], field: Field) -> TextRows:
        return TextRows(paths, self.columns, field)

    def read(self, path: Path, pixel_size_nm: float | None) -> EmitterTable:
        with path.open("rb") as file:
            header = header_of(file.read(1 << 16))
        for name in self.place:
            if name not in header:
                raise VarError(f"{path}: {self.lacks(name, header)}", self.hint)
        names = [column.name for column in self.columns if isinstance(column.ours, str)]
        columns = read_columns(path, [*self.place, *names, *self.also])
        found = columns_of_table(self.columns, columns)
        found |= {ours: columns[theirs] for ours, theirs in zip(("frame", "x_nm", "y_nm"), self.place, strict=True)}
        meta: dict[str, Any] = {"format": self.token, "columns": header}
        meta["ignored_columns"] = [name for name in header if name not in columns]
        self.derive(path, columns, found, meta)
        return checked_table(path, self.first_frame, found.pop("frame"), meta, **found)

    def lacks(self, name: str, header: Sequence[str]) -> str:
        """What is wrong with a header in which a name of `place` is missing."""
        return f"has no column {name!r}"

    def derive(
        self, path: Path, columns: dict[str, np.ndarray], found: dict[str, np.ndarray], meta: dict[str, Any]
    ) -> None:
        """Add to the columns `found` for a table, and to its `meta`, what follows from others."""


def header_of(head: bytes) -> list[str]:
    """The names in the first line of a text file that is no comment; empty where it is not text."""
    try:
        text = head.decode("utf-8-sig", errors="strict" if head.isascii() else "ignore")
    except UnicodeDecodeError:
        return []
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    line = next(lines, "")
    return [] if "\0" in line else [name.strip() for name in next(csv.reader([line]), [])]


def read_columns(path: Path, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    """The columns among `wanted` that a text file has, each float64 [E], in the file's order.

    Raises VarError for what is no number, rows of different length, or a file that is no text.
    """
    try:
        with path.open(encoding="utf-8-sig") as file, warnings.catch_warnings():
            names, places = _places(path, file, wanted)
            warnings.filterwarnings("ignore", "loadtxt: input contained no data")
            values = np.loadtxt(file, delimiter=",", usecols=places, ndmin=2, quotechar='"', comments="#")
    except UnicodeDecodeError:
        raise VarError(f"{path}: not a text file", "a table is a CSV file in UTF-8") from None
    except ValueError as error:
        raise VarError(f"{path}: {_explain(str(error))}", "every cell must be a number") from None
    values = values.reshape(-1, len(names))
    return {name: values[:, place] for place, name in enumerate(names)}


def _places(path: Path, file: IO[str], wanted: Sequence[str]) -> tuple[list[str], list[int]]:
    """The names among `wanted` in the header of an open file, and where they stand; leaves it at the first row."""
    header: list[str] = []
    for line in file:
        if line.strip() and not line.startswith("#"):
            header = [name.strip() for name in next(csv.reader([line]))]
            break
    names = [name for name in header if name in wanted]
    doubled = [name for name in names if names.count(name) > 1]
    if doubled:
        raise VarError(f"{path}: two columns are called {doubled[0]!r}", "keep one of them")
    return names, [header.index(name) for name in names]


def _explain(message: str) -> str:
    """NumPy's complaint about a row, with rows counted from 1 like everywhere else."""
    found = re.match(r"could not convert string (.*) to float64 at row (\d+), column", message)
    return f"row {int(found[2]) + 1}: {found[1]} is no number" if found else message.split(";")[0].rstrip(".")
