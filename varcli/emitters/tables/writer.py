"""Tables written a few rows at a time, so that none has to fit in memory, and whole or not at all."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from varcli.emitters.table import EmitterTable
from varcli.emitters.tables.base import Field, Format
from varcli.errors import VarError
from varcli.files import atomic_write, explain_os_error


class RowWriter:
    """Writes one table to `path` and its companions; nothing is there before `finish`.

    Tables appended may have any number of rows, but must agree in their columns: the bytes depend on the rows alone,
    not on how they were shared out. Leaving a `with` block without `finish` leaves nothing behind.
    """

    def __init__(self, format: Format, path: Path, field: Field) -> None:
        self.paths = [path, *format.companions(path)]
        self._stack = ExitStack()
        try:
            # Left in the opposite order: the table itself appears last, when all that describes it is there.
            parts = [self._stack.enter_context(atomic_write(path)) for path in self.paths]
            self._rows = format.rows(parts, field)
        except OSError as error:
            raise explain_os_error(error, path) from error

    def append(self, table: EmitterTable) -> None:
        """Add all rows of `table`; raises VarError when the disk is full."""
        try:
            self._rows.append(table)
        except OSError as error:
            self.discard()
            raise explain_os_error(error, self.paths[0]) from error

    def finish(self, meta: dict[str, Any]) -> list[Path]:
        """Complete the table with its provenance and put every file in its place; returns their paths."""
        try:
            self._rows.finish(meta)
        except OSError as error:
            self.discard()
            raise explain_os_error(error, self.paths[0]) from error
        self._rows.close()
        self._stack.close()
        return self.paths

    def discard(self) -> None:
        """Leave nothing behind; after `finish`, do nothing."""
        self._rows.close()
        stopped = VarError(f"{self.paths[0]}: not finished")
        self._stack.__exit__(VarError, stopped, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()
