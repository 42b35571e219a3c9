"""Options of the steps after localisation, which `var post` and `var super-resolve` share, and how they are read."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from varcli.errors import UsageError

if TYPE_CHECKING:
    from varcli.emitters.post.pipeline import Steps


class DriftMethod(StrEnum):
    """How the drift is estimated."""

    rcc = "rcc"
    none = "none"


FilterOption = Annotated[
    str | None,
    typer.Option("--filter", metavar="EXPR", help='Rows to keep: "uncertainty_xy_nm < 20 and photons > 300".'),
]
Drift = Annotated[DriftMethod, typer.Option("--drift", help="Redundant cross-correlation, or no correction.")]
Segments = Annotated[
    int | None,
    typer.Option("--segments", metavar="N", min=2, help="Of the drift; by default one per 5,000 localisations, to 20."),
]
Density = Annotated[
    str | None,
    typer.Option("--density", metavar="N:RADIUS", help="Keep what has N others within RADIUS nm, of all frames."),
]
Link = Annotated[bool, typer.Option("--link", help="Join the localisations of a blink over frames.")]
Gap = Annotated[int | None, typer.Option("--gap", metavar="N", min=0, help="Dark frames within a blink; by default 1.")]
Radius = Annotated[
    float | None, typer.Option("--radius", metavar="NM", min=1e-3, help="How far a blink reaches; by default 75.")
]
Report = Annotated[bool, typer.Option("--report", help="A page with the image, every figure and its curves, as PNG.")]


def read_steps(
    filter: str | None,
    drift: DriftMethod,
    segments: int | None,
    density: str | None,
    link: bool,
    gap: int | None,
    radius: float | None,
) -> "Steps":
    """The steps that are asked for; raises UsageError for a filter or density that cannot be read, and for options
    whose step is not asked for."""
    from varcli.emitters.post.pipeline import Steps

    if not link and (gap is not None or radius is not None):
        raise UsageError("--gap and --radius belong to --link", "add --link")
    if segments is not None and drift is DriftMethod.none:
        raise UsageError("--segments belongs to --drift rcc", "add --drift rcc")
    neighbours, neighbour_radius = (0, None) if density is None else _parse_density(density)
    return Steps(
        filter=filter,
        drift=drift is DriftMethod.rcc,
        segments=segments,
        least_neighbours=neighbours,
        neighbour_radius_nm=neighbour_radius,
        link=link,
        gap_frames=1 if gap is None else gap,
        link_radius_nm=75.0 if radius is None else radius,
    )


def _parse_density(text: str) -> tuple[int, float]:
    """Read "N:RADIUS"; raises UsageError."""
    least, _, radius = text.partition(":")
    try:
        count, radius_nm = int(least), float(radius)
    except ValueError:
        count, radius_nm = 0, 0.0
    if count < 1 or not 0 < radius_nm < float("inf"):
        raise UsageError(f"--density {text!r}: not a number of neighbours and a radius", "for example --density 5:50")
    return count, radius_nm
