"""Tables written a few rows at a time, so that none has to fit in memory, and whole or not at all."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from varcli.emitters.table import EmitterTable
from varcli.emitters.tables.base import Field, Format
from varcli.files import atomic_write, explain_os_error

Append = Callable[[EmitterTable], None]
"""Adds all rows of a table to the one that is being written."""


@contextmanager
def row_writer(format: Format, path: Path, field: Field, meta: dict[str, Any]) -> Iterator[Append]:
    """Write one table to `path` and its companions, which hold `meta`; all is there when the `with` block ends.

    Tables appended may have any number of rows, but must agree in their columns: the bytes depend on the rows alone,
    not on how they were shared out. An error in the block leaves nothing behind. Raises VarError when the disk is full.
    """
    with ExitStack() as stack:
        with _explained(path):
            # Left in the opposite order: the table itself appears last, when all that describes it is there.
            parts = [stack.enter_context(atomic_write(one)) for one in (path, *format.companions(path))]
            rows = stack.enter_context(closing(format.rows(parts, field)))

        def append(table: EmitterTable) -> None:
            with _explained(path):
                rows.append(table)

        yield append
        with _explained(path):
            rows.finish(meta)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Name the table, not a companion or a temporary file, where the disk is full or may not be written."""
    try:
        yield
    except OSError as error:
        raise explain_os_error(error, path) from error
