"""The steps after localisation in their order: filter, drift, density, linking."""

from collections.abc import Iterator
from dataclasses import dataclass

from varcli.emitters.events import PairsCorrelated, StepStarted
from varcli.emitters.post.drift import Drift, drift_events
from varcli.emitters.post.filter import parse_filter
from varcli.emitters.post.link import Linked, link
from varcli.emitters.post.merge import density_mask
from varcli.emitters.table import EmitterTable
from varcli.errors import UsageError, VarError


@dataclass(frozen=True)
class Steps:
    """What to do: a filter such as "photons > 300", drift correction by redundant cross-correlation with so many
    segments (None: as the rows allow), keeping what has so many neighbours within a radius, linking blinks.

    Filters come first, so that what they leave out moves nothing; density needs the drift taken off; linking comes
    last, and its gap is in frames. Raises UsageError for a filter that cannot be read.
    """

    filter: str | None = None
    drift: bool = False
    segments: int | None = None
    least_neighbours: int = 0
    neighbour_radius_nm: float | None = None
    link: bool = False
    gap_frames: int = 1
    link_radius_nm: float = 75.0

    def __post_init__(self) -> None:
        if self.filter is not None:
            parse_filter(self.filter)

    def check(self, empty: EmitterTable, frames: int) -> None:
        """Refuse what no table with the columns of `empty` and so many frames could take; raises UsageError."""
        if self.filter is not None:
            parse_filter(self.filter).apply(empty)
        if self.segments is not None and self.segments > frames:
            raise UsageError(f"--segments {self.segments}: there are {frames} frames", "ask for fewer")

    @property
    def names(self) -> tuple[str, ...]:
        """The steps that are asked for, in their order."""
        asked = {
            "filter": self.filter is not None,
            "drift": self.drift,
            "density": self.neighbour_radius_nm is not None,
            "link": self.link,
        }
        return tuple(name for name, wanted in asked.items() if wanted)


@dataclass(frozen=True)
class Processed:
    """The table that is left, the same before linking, what the steps found, and how many rows each of them left."""

    table: EmitterTable
    unlinked: EmitterTable
    drift: Drift | None
    linked: Linked | None
    rows: dict[str, int]


def process(table: EmitterTable, steps: Steps) -> Iterator[StepStarted | PairsCorrelated | Processed]:
    """Carry out `steps`: an event as each of `steps.names` begins and for each pair of the drift, the result last.

    Raises what they raise, and VarError where one of them leaves nothing.
    """
    rows = {"read": len(table)}
    drift = linked = None
    if steps.filter is not None:
        yield StepStarted("filter", len(table))
        table = table.rows(parse_filter(steps.filter).apply(table))
        rows["filtered"] = _some(len(table), rows, f"filter {steps.filter!r}")
    if steps.drift:
        yield StepStarted("drift", len(table))
        for event in drift_events(table, steps.segments):
            if isinstance(event, Drift):
                drift = event
            else:
                yield event
        assert drift is not None
        table = drift.apply(table)
    if steps.neighbour_radius_nm is not None:
        yield StepStarted("density", len(table))
        table = table.rows(density_mask(table, steps.least_neighbours, steps.neighbour_radius_nm))
        wanted = f"density: {steps.least_neighbours} neighbours within {steps.neighbour_radius_nm:g} nm"
        rows["dense"] = _some(len(table), rows, wanted)
    unlinked = table
    if steps.link:
        yield StepStarted("link", len(table))
        linked = link(table, steps.gap_frames, steps.link_radius_nm)
        table = linked.table
        rows["linked"] = len(table)
    yield Processed(table, unlinked, drift, linked, rows)


def _some(left: int, rows: dict[str, int], step: str) -> int:
    """`left`, if a step left anything."""
    before = list(rows.values())[-1]
    if not left and before:
        raise VarError(f"{step}: none of {before} localisations is left", "ask for less")
    return left
