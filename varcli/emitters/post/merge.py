"""Several tables as one, and localisations that stand alone left out."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from varcli.compiled import kernel
from varcli.emitters.post.checks import check_positions
from varcli.emitters.table import EmitterTable, concatenate
from varcli.errors import UsageError, VarError


def merge(
    tables: Sequence[EmitterTable],
    frames: Literal["append", "keep"] = "append",
    lengths: Sequence[int | None] | None = None,
) -> EmitterTable:
    """All rows of tables of the same field in the same coordinates, by frame.

    With "append", every table's frames follow those of the table before: after its `lengths` frames where that is
    known, else after its last one that holds a localisation. With "keep", frames stay and rows of equal frames stand in
    the order of the tables. Provenance is that of the first. Raises UsageError for no tables, VarError where their
    columns or pixel sizes differ: nothing is dropped or made up.
    """
    if not tables:
        raise UsageError("merging: no tables", "give one or more")
    _check_alike(tables)
    if len(tables) == 1:
        return tables[0]
    if frames == "append":
        start, moved = 0, []
        for table, length in zip(tables, lengths or [None] * len(tables), strict=True):
            moved.append(replace(table, frame=table.frame + start))
            seen = int(table.frame.max()) + 1 if len(table) else 0
            start += max(seen, length or 0)
        return concatenate(moved)
    return sort_by_frame(concatenate(tables))


def sort_by_frame(table: EmitterTable) -> EmitterTable:
    """The rows by frame; those of one frame stay in their order."""
    return table.rows(np.argsort(table.frame, kind="stable"))


def neighbours(table: EmitterTable, radius_nm: float, most: int | None = None) -> np.ndarray:
    """How many other localisations of any frame lie within `radius_nm` of each [E]; counting stops at `most`.

    Raises UsageError for a radius that makes no sense, VarError for positions that are not finite.
    """
    if not 0 < radius_nm < np.inf:
        raise UsageError(f"density: a radius of {radius_nm:g} nm", "give one above 0, for example 50")
    if not len(table):
        return np.empty(0, np.int64)
    check_positions(table, "density")
    strip_E = np.floor((table.y_nm - table.y_nm.min()) / radius_nm).astype(np.int64)
    order_E = np.lexsort((table.x_nm, strip_E))
    x_E, y_E, strip_E = (np.ascontiguousarray(column[order_E]) for column in (table.x_nm, table.y_nm, strip_E))
    count_E = np.empty(len(table), np.int64)
    count_E[order_E] = _near(x_E, y_E, strip_E, radius_nm, len(table) if most is None else most)
    return count_E


@kernel()
def _near(x, y, strip, radius, most):  # pyright: ignore
    """Neighbours of every localisation; they stand by strips of the radius' height, within these by x.

    For a million localisations in 40 x 40 µm this takes 3 s within 50 nm, scipy's KDTree 21 s; within 200 nm, where
    counting may stop at two, 3 s and 49 s.
    """
    rows = len(x)
    count = np.zeros(rows, np.int64)
    # Places from which the strips below, at and above are read move on with the localisations of a strip.
    for beside in range(-1, 2):
        start = 0
        for row in range(rows):
            wanted = strip[row] + beside
            while start < rows and (strip[start] < wanted or (strip[start] == wanted and x[start] < x[row] - radius)):
                start += 1
            other = start
            while other < rows and strip[other] == wanted and x[other] <= x[row] + radius and count[row] < most:
                if other != row and (x[other] - x[row]) ** 2 + (y[other] - y[row]) ** 2 <= radius**2:
                    count[row] += 1
                other += 1
    return count


def density_mask(table: EmitterTable, least: int, radius_nm: float) -> np.ndarray:
    """Mask [E] of the rows that have at least `least` others within `radius_nm`; raises as `neighbours` does."""
    if least < 0:
        raise UsageError(f"density: at least {least} neighbours", "give 0 or more")
    return neighbours(table, radius_nm, least) >= least


def _check_alike(tables: Sequence[EmitterTable]) -> None:
    """Refuse tables that cannot stand in one."""
    names, pixel = tables[0].columns(), tables[0].meta.get("pixel_size_nm")
    for number, table in enumerate(tables[1:], 2):
        if table.columns() != names:
            odd = sorted(set(names) ^ set(table.columns()))
            message = f"merging: tables 1 and {number} differ in their columns: {', '.join(odd)}"
            raise VarError(message, "give tables of the same kind")
        other = table.meta.get("pixel_size_nm")
        if pixel is not None and other is not None and not np.isclose(pixel, other, rtol=1e-6):
            message = f"merging: table 1 has pixels of {pixel:g} nm, table {number} of {other:g} nm"
            raise VarError(message, "they are not of the same field")
