"""The table of emitters that every format is written from and read into."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from varcli.errors import VarError

if TYPE_CHECKING:
    from pandas import DataFrame  # pyright: ignore[reportMissingImports]


@dataclass(frozen=True)
class EmitterTable:
    """One row per emitter and frame: columns of equal length [E], all float64 but `frame`, which is int64.

    `frame` counts from 0. `x_nm` (columns) and `y_nm` (rows) are measured from the top-left CORNER of pixel (0, 0), so
    its centre lies at half a pixel. `photons` are detected photons of that frame, `background` photons per pixel.
    `sd_*` are standard deviations of what stands in that column, `crlb_xy_nm` the square root of the mean of both
    Cramér-Rao variances, `psf_sigma_nm` the width of the PSF, `probability` that the emitter is there. A column is
    None where the file had none. `meta` holds provenance that JSON can hold.
    """

    frame: np.ndarray
    x_nm: np.ndarray
    y_nm: np.ndarray
    photons: np.ndarray | None = None
    background: np.ndarray | None = None
    background_std: np.ndarray | None = None
    psf_sigma_nm: np.ndarray | None = None
    sd_x_nm: np.ndarray | None = None
    sd_y_nm: np.ndarray | None = None
    sd_photons: np.ndarray | None = None
    sd_background: np.ndarray | None = None
    crlb_xy_nm: np.ndarray | None = None
    probability: np.ndarray | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.columns():
            column = getattr(self, name)
            assert column.shape == (len(self.frame),), f"{name}: {column.shape} against {len(self.frame)} rows"

    def __len__(self) -> int:
        return len(self.frame)

    def columns(self) -> tuple[str, ...]:
        """The names of the columns that are there, in the order of the fields."""
        return tuple(f.name for f in fields(self) if f.name != "meta" and getattr(self, f.name) is not None)

    def rows(self, chosen: np.ndarray) -> "EmitterTable":
        """The rows of a boolean mask or of indices, in that order."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in self.columns()})

    def to_pandas(self) -> "DataFrame":
        """A data frame of the columns, its `attrs` the provenance; raises VarError where pandas is not installed."""
        try:
            from pandas import DataFrame  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise VarError("pandas is not installed", "pip install pandas") from None
        frame = DataFrame({name: getattr(self, name) for name in self.columns()})
        frame.attrs.update(self.meta)
        return frame


def concatenate(tables: Iterable[EmitterTable]) -> EmitterTable:
    """All rows of tables that have the same columns, in order; provenance is that of the first."""
    tables = list(tables)
    names = tables[0].columns()
    assert all(table.columns() == names for table in tables)
    return replace(tables[0], **{name: np.concatenate([getattr(table, name) for table in tables]) for name in names})
