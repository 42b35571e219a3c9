"""What a table must be before it is worked on: every refusal names the row or the column, and drops nothing."""

import numpy as np

from varcli.emitters.table import EmitterTable, refuse_rows
from varcli.errors import VarError


def check_positions(table: EmitterTable, doing: str) -> None:
    """Refuse an empty table, and rows whose position is not a finite number; raises VarError."""
    if not len(table):
        raise VarError(f"{doing}: the table is empty", "give one that has localisations, or a milder filter")
    for name in ("x_nm", "y_nm"):
        values = getattr(table, name)
        refuse_rows(doing, name, values, ~np.isfinite(values), "every row needs a position")


def check_frames(table: EmitterTable, doing: str) -> None:
    """Refuse frames that go back; raises VarError."""
    back = np.flatnonzero(np.diff(table.frame) < 0)
    if len(back):
        row = int(back[0])
        places = f" (and {len(back) - 1} more places)" if len(back) > 1 else ""
        before, after = int(table.frame[row]), int(table.frame[row + 1])
        message = f"{doing}: frames out of order: row {row + 2} is of frame {after}, the one before of {before}{places}"
        raise VarError(message, "sort the rows by frame first")


def check_spreads(table: EmitterTable, names: tuple[str, ...], doing: str) -> None:
    """Refuse standard deviations, of columns that are there, that are no finite numbers above 0; raises VarError."""
    for name in names:
        values = getattr(table, name)
        if values is not None:
            bad = ~(np.isfinite(values) & (values > 0))
            refuse_rows(doing, name, values, bad, "leave such rows out: a filter such as uncertainty_xy_nm > 0 does")
