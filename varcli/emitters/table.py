"""Emitters by columns: as they are found in the frames of a camera, and as the table that every format holds.

Legend: E emitters.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from varcli.errors import VarError

if TYPE_CHECKING:
    from pandas import DataFrame  # pyright: ignore[reportMissingImports]


@dataclass(frozen=True)
class Record:
    """Columns of equal length [E] under the names of the fields; one is None where it is not known, `meta` is none."""

    frame: np.ndarray

    def __post_init__(self) -> None:
        for name in self.columns():
            column = getattr(self, name)
            assert column.shape == (len(self.frame),), f"{name}: {column.shape} against {len(self.frame)} rows"

    def __len__(self) -> int:
        return len(self.frame)

    def columns(self) -> tuple[str, ...]:
        """The names of the columns that are there, in the order of the fields."""
        return tuple(f.name for f in fields(self) if f.name != "meta" and getattr(self, f.name) is not None)

    def rows(self, chosen: np.ndarray) -> Self:
        """The rows of a boolean mask or of indices, in that order."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in self.columns()})


R = TypeVar("R", bound=Record)
_UNKNOWN: Any = None


@dataclass(frozen=True)
class Emitters(Record):
    """Emitters in frames of photoelectrons, from the network's candidates to the result of the fit.

    `frame` counts from the first of the frames they were found in, `x_px` and `y_px` from the top-left corner of pixel
    (0, 0); `electrons` are photoelectrons of that frame, `background` those per pixel. `sd_*` are standard deviations,
    given the prior where there was one, `crlb_*` Cramér-Rao bounds, `crlb_px` that of a coordinate, the root of the
    mean of both variances. `log_odds` is how much better the log evidence is with the emitter than without it, `chi2`
    the mean squared residual around it in units of its variance, `neighbour` the distance to the nearest other in
    sigmas (99: none near), `origin` the row of the candidate that it began as, or -1.
    """

    x_px: np.ndarray
    y_px: np.ndarray
    electrons: np.ndarray
    background: np.ndarray = _UNKNOWN
    sd_x_px: np.ndarray = _UNKNOWN
    sd_y_px: np.ndarray = _UNKNOWN
    sd_electrons: np.ndarray = _UNKNOWN
    sd_background: np.ndarray | None = None
    crlb_px: np.ndarray = _UNKNOWN
    crlb_x_px: np.ndarray = _UNKNOWN
    crlb_y_px: np.ndarray = _UNKNOWN
    crlb_electrons: np.ndarray = _UNKNOWN
    probability: np.ndarray = _UNKNOWN
    log_odds: np.ndarray = _UNKNOWN
    chi2: np.ndarray = _UNKNOWN
    neighbour: np.ndarray = _UNKNOWN
    origin: np.ndarray = _UNKNOWN


@dataclass(frozen=True)
class EmitterTable(Record):
    """One row per emitter and frame: columns of equal length [E], all float64 but `frame`, which is int64.

    `frame` counts from 0. `x_nm` (columns) and `y_nm` (rows) are measured from the top-left CORNER of pixel (0, 0), so
    its centre lies at half a pixel. `photons` are detected photons of that frame, `background` photons per pixel.
    `sd_*` are standard deviations of what stands in that column, `crlb_xy_nm` the square root of the mean of both
    Cramér-Rao variances, `psf_sigma_nm` the width of the PSF, `probability` that the emitter is there. A column is
    None where the file had none. `meta` holds provenance that JSON can hold.
    """

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

    def to_pandas(self) -> "DataFrame":
        """A data frame of the columns, its `attrs` the provenance; raises VarError where pandas is not installed."""
        try:
            from pandas import DataFrame  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise VarError("pandas is not installed", "pip install pandas") from None
        frame = DataFrame({name: getattr(self, name) for name in self.columns()})
        frame.attrs.update(self.meta)
        return frame


def refuse_rows(where: object, name: str, values: np.ndarray, bad: np.ndarray, hint: str) -> None:
    """Raise VarError, after `where`, that names the first row of a column [E] that is `bad`, and counts the others."""
    if bad.any():
        row, count = int(np.argmax(bad)), int(bad.sum())
        more = f" (and {count - 1} more rows)" if count > 1 else ""
        raise VarError(f"{where}: row {row + 1}: {name} is {values[row]:g}{more}", hint)


def concatenate(records: Iterable[R]) -> R:
    """All rows of records that have the same columns, in order; provenance is that of the first."""
    records = list(records)
    names = records[0].columns()
    assert all(record.columns() == names for record in records)
    columns = {name: np.concatenate([getattr(record, name) for record in records]) for name in names}
    return replace(records[0], **columns)
