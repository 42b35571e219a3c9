"""The CSV of the SMLM challenges of 2013 and 2016: nm from the corner of pixel (0, 0), frames from 1.

Source: http://bigwww.epfl.ch/smlm. Ground truth names its columns Ground-truth, frame, xnano, ynano, znano and
"intensity ", with a space behind; headers are read without such spaces.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from varcli.emitters.table import EmitterTable
from varcli.emitters.tables.base import Field, checked_table
from varcli.emitters.tables.text import TextColumn, TextRows, header_of, read_columns
from varcli.errors import VarError

_COLUMNS = (
    TextColumn("frame", "%d", lambda table: table.frame + 1),
    TextColumn("xnano", "%.4f", lambda table: table.x_nm),
    TextColumn("ynano", "%.4f", lambda table: table.y_nm),
    # Readers of the format need the column; a fit in two dimensions lies in the plane of focus.
    TextColumn("znano", "%d", lambda table: np.zeros(len(table))),
    TextColumn("intensity", "%.4f", lambda table: table.photons),
)
_PLACE = ("frame", "xnano", "ynano")


class ChallengeRows(TextRows):
    """A challenge table on its way into a file; the format has no place for provenance."""

    def finish(self, meta: dict[str, Any]) -> None:
        self.end()


class Challenge:
    """The table that the challenges' tools compare."""

    token = "challenge"
    summary = "the SMLM challenge's CSV: frame,xnano,ynano,znano,intensity"

    def file_name(self, stem: str) -> str:
        return f"{stem}_challenge.csv"

    def companions(self, path: Path) -> list[Path]:
        return []

    def recognises(self, path: Path, head: bytes) -> bool:
        return {"xnano", "ynano"} <= set(header_of(head))

    def rows(self, paths: Sequence[Path], field: Field) -> ChallengeRows:
        return ChallengeRows(paths[0], _COLUMNS, quoted=False, id_header=None)

    def read(self, path: Path, pixel_size_nm: float | None) -> EmitterTable:
        columns = read_columns(path, [*_PLACE, "znano", "intensity"])
        for name in _PLACE:
            if name not in columns:
                raise VarError(f"{path}: has no column {name!r}", "a challenge table has frame, xnano and ynano")
        frame, x_nm, y_nm = (columns[name] for name in _PLACE)
        with path.open("rb") as file:
            header = header_of(file.read(1 << 16))
        flat = not columns.get("znano", np.zeros(1)).any()
        kept = {*_PLACE, "intensity", *(["znano"] if flat else [])}
        meta = {"format": self.token, "columns": header, "ignored_columns": [at for at in header if at not in kept]}
        return checked_table(path, 1, frame, x_nm=x_nm, y_nm=y_nm, photons=columns.get("intensity"), meta=meta)
