"""Figures of quality of a table: counts, histograms, precision and resolution, and what could not be measured.

Legend: E localisations, B bins, F stretches of frames.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from varcli.emitters.post.checks import check_frames, check_positions
from varcli.emitters.post.frc import Frc, frc
from varcli.emitters.post.nena import Nena, nena
from varcli.emitters.table import EmitterTable
from varcli.emitters.tables.base import spread_xy_nm
from varcli.errors import VarError
from varcli.files import plain

_BINS = 60
_TAIL = 0.995  # of the values, that a histogram shows
_STRETCHES = 200  # at most, that localisations are counted in over time


@dataclass(frozen=True)
class Histogram:
    """Counts of a column [B] between `edges` [B + 1], its median, and how many values lie beyond or are no number."""

    edges: np.ndarray
    counts: np.ndarray
    median: float
    beyond: int
    not_finite: int


@dataclass(frozen=True)
class Quality:
    """The quality of a table; None where it lacks the column or the measure failed, then `missing` has the reason.

    `localizations_per_frame` is the mean over all frames from the first to the last; `over_time` [F] the same in the
    equal stretches that begin at `stretch_frame` [F].
    """

    localizations: int
    first_frame: int
    last_frame: int
    localizations_per_frame: float
    stretch_frame: np.ndarray
    over_time: np.ndarray
    photons: Histogram | None
    background: Histogram | None
    uncertainty_xy_nm: Histogram | None
    nena: Nena | None
    frc: Frc | None
    missing: dict[str, str]

    def document(self) -> dict[str, Any]:
        """Everything as JSON's types; numbers that are not finite become null."""
        return plain(asdict(self))


def measure(table: EmitterTable, *, unlinked: EmitterTable | None = None) -> Quality:
    """Measure a table; NeNA is read from `unlinked`, the same table before its blinks were joined, where it is given.

    A measure that the localisations do not allow is named in `missing`. Raises VarError for a table that is empty, has
    frames out of order or positions that are not finite.
    """
    check_positions(table, "quality")
    check_frames(table, "quality")
    missing: dict[str, str] = {}
    precision = resolution = None
    try:
        precision = nena(table if unlinked is None else unlinked)
    except VarError as error:
        missing["nena"] = error.message
    try:
        resolution = frc(table)
    except VarError as error:
        missing["frc"] = error.message
    columns = {"photons": table.photons, "background": table.background, "uncertainty_xy_nm": spread_xy_nm(table)}
    histograms = {name: None if column is None else histogram(column) for name, column in columns.items()}
    missing |= {name: "the table has no such column" for name, column in columns.items() if column is None}
    none_finite = {name: "no finite number" for name, column in columns.items() if column is not None}
    missing |= {name: why for name, why in none_finite.items() if histograms[name] is None}
    first, last = int(table.frame[0]), int(table.frame[-1])
    edges_F = first + np.linspace(0, last - first + 1, min(last - first + 1, _STRETCHES) + 1).round().astype(np.int64)
    return Quality(
        localizations=len(table),
        first_frame=first,
        last_frame=last,
        localizations_per_frame=len(table) / (last - first + 1),
        stretch_frame=edges_F[:-1],
        over_time=np.diff(np.searchsorted(table.frame, edges_F)) / np.diff(edges_F),
        photons=histograms["photons"],
        background=histograms["background"],
        uncertainty_xy_nm=histograms["uncertainty_xy_nm"],
        nena=precision,
        frc=resolution,
        missing=missing,
    )


def histogram(values_E: np.ndarray) -> Histogram | None:
    """Sixty equal bins from the least value, or 0 if that is above, to the 99.5th percentile; None without a number."""
    finite_E = values_E[np.isfinite(values_E)]
    if not len(finite_E):
        return None
    low, high = min(0.0, float(finite_E.min())), float(np.quantile(finite_E, _TAIL))
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    counts, _ = np.histogram(finite_E, edges)
    return Histogram(
        edges,
        counts,
        float(np.median(finite_E)),
        int(len(finite_E) - counts.sum()),
        int(len(values_E) - len(finite_E)),
    )
