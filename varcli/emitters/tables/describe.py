"""What a table of emitters is, its numbers and its health: a plain dict that `var inspect` prints."""

from pathlib import Path
from typing import Any

import numpy as np

from varcli.emitters.tables import FORMATS, read_table


def table_suffixes() -> set[str]:
    """Endings of files that may be tables."""
    return {".txt", *(Path(format.file_name("")).suffix for format in FORMATS.values())}


def describe_table(path: Path) -> dict[str, Any]:
    """A table of emitters: rows, frames, columns, the median of each, provenance where the file has it, health.

    Raises VarError where it is no table of a known format.
    """
    table = read_table(path)
    meta = dict(table.meta)
    columns = table.columns()
    numbers = {name: getattr(table, name) for name in columns if name != "frame"}
    finite = {name: column[np.isfinite(column)] for name, column in numbers.items()}
    medians = {name: float(np.median(column)) for name, column in finite.items() if len(column)}
    problems = _table_problems(table.frame, numbers)
    if meta.get("complete") is False:
        problems.append("the stack was truncated: later frames are missing")
    format = meta.pop("format")
    return {
        "kind": "table",
        "path": str(path),
        "format": format,
        "format_name": FORMATS[format].summary,
        "rows": len(table),
        "first_frame": int(table.frame.min()) if len(table) else None,
        "last_frame": int(table.frame.max()) if len(table) else None,
        "frames_with_emitters": len(np.unique(table.frame)),
        "columns": list(columns),
        "ignored_columns": meta.pop("ignored_columns"),
        "medians": medians,
        "provenance": {key: value for key, value in meta.items() if key != "columns"},
        "health": {"ok": not problems, "problems": problems},
    }


def _table_problems(frame: np.ndarray, numbers: dict[str, np.ndarray]) -> list[str]:
    """Rows whose numbers cannot be; positions and frames are checked where tables are read."""
    if not len(frame):
        return ["the table has no rows"]
    problems = [] if (np.diff(frame) >= 0).all() else ["its frames are out of order"]
    for name, column in numbers.items():
        bad = {"not finite": int((~np.isfinite(column)).sum())}
        if name not in ("x_nm", "y_nm", "background"):
            bad["negative"] = int((column < 0).sum())
        if name == "probability":
            bad["above 1"] = int((column > 1).sum())
        problems += [f"{name}: {count} rows are {what}" for what, count in bad.items() if count]
    return problems
