"""Merging keeps every row and says what does not fit together; density counts neighbours as brute force does."""

from dataclasses import replace

import numpy as np
import pytest

from varcli.emitters.post.merge import density_mask, merge, neighbours, sort_by_frame
from varcli.emitters.table import EmitterTable
from varcli.errors import UsageError, VarError


def table(frame: list[int], x_nm: float = 0.0, **meta: float) -> EmitterTable:
    at = np.arange(len(frame), dtype=float)
    return EmitterTable(np.array(frame, np.int64), at + x_nm, at, at + 1, meta=dict(meta))


def test_frames_follow_each_other_or_stay() -> None:
    tables = [table([0, 2], pixel_size_nm=100), table([1, 1, 3], 10), table([], 20), table([0], 30, pixel_size_nm=100)]
    appended = merge(tables)
    assert appended.frame.tolist() == [0, 2, 4, 4, 6, 7] and appended.x_nm.tolist() == [0, 1, 10, 11, 12, 30]
    assert merge(tables, lengths=[10, None, 5, 1]).frame.tolist() == [0, 2, 11, 11, 13, 19]
    kept = merge(tables, "keep")
    assert kept.frame.tolist() == [0, 0, 1, 1, 2, 3] and kept.x_nm.tolist() == [0, 30, 10, 11, 1, 12]
    assert kept.photons is not None and kept.photons.sum() == sum(
        t.photons.sum() for t in tables if t.photons is not None
    )
    assert appended.meta == tables[0].meta


def test_tables_that_differ_are_refused() -> None:
    with pytest.raises(VarError, match="tables 1 and 2 differ in their columns: photons"):
        merge([table([0]), replace(table([0]), photons=None)])
    with pytest.raises(VarError, match="table 1 has pixels of 100 nm, table 3 of 65 nm"):
        merge([table([0], pixel_size_nm=100), table([0]), table([0], pixel_size_nm=65)])
    with pytest.raises(UsageError, match="no tables"):
        merge([])


def test_rows_can_be_sorted() -> None:
    assert sort_by_frame(table([3, 1, 3, 0])).x_nm.tolist() == [3, 1, 0, 2]


def test_neighbours_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.uniform(0, 300, (2, 400))
    rows = EmitterTable(np.arange(400), x, y)
    near = np.hypot(x[:, None] - x, y[:, None] - y) <= 30
    np.testing.assert_array_equal(neighbours(rows, 30), near.sum(1) - 1)
    np.testing.assert_array_equal(density_mask(rows, 12, 30), near.sum(1) - 1 >= 12)
    assert density_mask(rows, 0, 1).all() and not len(density_mask(rows.rows(x < 0), 3, 30))
    with pytest.raises(UsageError, match="radius of -1 nm"):
        neighbours(rows, -1)
    with pytest.raises(UsageError, match="at least -2 neighbours"):
        density_mask(rows, -2, 1)
    rows.x_nm[7] = np.inf
    with pytest.raises(VarError, match="density: row 8: x_nm is inf"):
        neighbours(rows, 30)
