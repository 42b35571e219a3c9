"""The benchmark's plain CSV: nm from the corner of pixel (0, 0), frames from 0, no units in the headers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from varcli.emitters.table import EmitterTable
from varcli.emitters.tables.base import Field, checked_table
from varcli.emitters.tables.text import TextColumn, TextRows, header_of, read_columns
from varcli.errors import VarError

_COLUMNS = (
    TextColumn("frame", "%d", lambda table: table.frame),
    TextColumn("x_nm", "%.4f", lambda table: table.x_nm),
    TextColumn("y_nm", "%.4f", lambda table: table.y_nm),
    TextColumn("photons", "%.4f", lambda table: table.photons),
    TextColumn("sigma_x_nm", "%.4f", lambda table: table.sd_x_nm),
    TextColumn("sigma_y_nm", "%.4f", lambda table: table.sd_y_nm),
    TextColumn("prob", "%.6f", lambda table: table.probability),
)
_READ = {"photons": "photons", "sigma_x_nm": "sd_x_nm", "sigma_y_nm": "sd_y_nm", "prob": "probability"}
_PLACE = ("frame", "x_nm", "y_nm")


class BenchRows(TextRows):
    """A benchmark table on its way into a file; the format has no place for provenance."""

    def finish(self, meta: dict[str, Any]) -> None:
        self.end()


class Bench:
    """The table that the benchmark scores."""

    token = "bench"
    summary = "the benchmark's CSV: frame,x_nm,y_nm,photons,sigma_x_nm,sigma_y_nm,prob"

    def file_name(self, stem: str) -> str:
        return f"{stem}_bench.csv"

    def companions(self, path: Path) -> list[Path]:
        return []

    def recognises(self, path: Path, head: bytes) -> bool:
        return {"x_nm", "y_nm"} <= set(header_of(head))

    def rows(self, paths: Sequence[Path], field: Field) -> BenchRows:
        return BenchRows(paths[0], _COLUMNS, quoted=False, id_header=None)

    def read(self, path: Path, pixel_size_nm: float | None) -> EmitterTable:
        columns = read_columns(path, [*_PLACE, *_READ])
        for name in _PLACE:
            if name not in columns:
                raise VarError(f"{path}: has no column {name!r}", "the benchmark's tables have frame, x_nm and y_nm")
        found = {ours: columns[theirs] for theirs, ours in _READ.items() if theirs in columns}
        frame, x_nm, y_nm = (columns[name] for name in _PLACE)
        meta = {"format": self.token, "columns": list(columns), "ignored_columns": []}
        return checked_table(path, 0, frame, x_nm=x_nm, y_nm=y_nm, meta=meta, **found)
