"""Tables of emitters as other tools write and read them; one module per format, chosen by token or recognised.

Positions in every file have their own unit and origin; an `EmitterTable` is always in nm from the corner of pixel
(0, 0), frames from 0.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from varcli.emitters.table import EmitterTable
from varcli.emitters.tables.base import READ_META, Field, Format
from varcli.emitters.tables.bench import Bench
from varcli.emitters.tables.challenge import Challenge
from varcli.emitters.tables.decode import Decode
from varcli.emitters.tables.picasso import Picasso
from varcli.emitters.tables.smap import Smap
from varcli.emitters.tables.thunderstorm import ThunderStorm
from varcli.emitters.tables.writer import Append, row_writer
from varcli.errors import UsageError, VarError

__all__ = ["FORMATS", "READ_META", "Field", "file_names", "read_table", "table_writer", "write_table"]

FORMATS: dict[str, Format] = {
    format.token: format for format in (ThunderStorm(), Picasso(), Bench(), Smap(), Decode(), Challenge())
}
"""Where a format is registered: writers, readers, `var inspect` and completions find it here."""
_HEAD_BYTES = 1 << 16


def file_names(format: str, stem: str) -> list[str]:
    """Names of the files that `table_writer(format, ..., stem, ...)` leaves: the table, then what lies beside it."""
    name = Path(FORMATS[format].file_name(stem))
    return [str(path) for path in (name, *FORMATS[format].companions(name))]


def table_writer(
    format: str, folder: Path, stem: str, field: Field, meta: dict[str, Any]
) -> AbstractContextManager[Append]:
    """Write a table of `format` (a token of FORMATS) under its own name in `folder`; see `row_writer`."""
    chosen = FORMATS[format]
    return row_writer(chosen, folder / chosen.file_name(stem), field, meta)


def write_table(
    table: EmitterTable,
    path: Path | str,
    format: str = "csv",
    field: Field | None = None,
    meta: dict[str, Any] | None = None,
) -> list[Path]:
    """Write a table to `path` in a format ("csv", "picasso", "smap", ...); returns all files written.

    The field that it belongs to and its provenance are, where they are not given, those that `table.meta` holds.
    Raises UsageError for an unknown format and where no one knows the pixel size, VarError when the disk is full or the
    place cannot be written.
    """
    if format not in FORMATS:
        raise UsageError(f"no format {format!r}", f"formats: {', '.join(FORMATS)}")
    field = field or Field.of_tables([table])[0]
    meta = {key: value for key, value in table.meta.items() if key not in READ_META} if meta is None else meta
    chosen, path = FORMATS[format], Path(path)
    with row_writer(chosen, path, field, meta) as append:
        append(table)
    return [path, *chosen.companions(path)]


def read_table(path: Path | str, pixel_size_nm: float | None = None) -> EmitterTable:
    """Read a table of any format; `pixel_size_nm` serves those in pixels whose files do not give it.

    `meta` holds at least "format", "columns" as the file names them and "ignored_columns", those that an EmitterTable
    has no place for. Raises UsageError where there is no file, VarError where it is none or a broken one.
    """
    path = Path(path)
    format = _format_of(path)
    if format is None:
        known = "; ".join(format.summary for format in FORMATS.values())
        raise VarError(f"{path}: not a table of emitters that is known", f"known are: {known}")
    return format.read(path, pixel_size_nm)


def _format_of(path: Path) -> Format | None:
    if not path.is_file():
        raise UsageError(
            f"{path}: {'a folder, not a table' if path.is_dir() else 'no such file'}", "give a table of emitters"
        )
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise VarError(f"{path}: cannot be read: {error.strerror}") from None
    if not head:
        raise VarError(f"{path}: an empty file")
    return next((format for format in FORMATS.values() if format.recognises(path, head)), None)
