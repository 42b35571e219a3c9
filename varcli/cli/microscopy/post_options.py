"""Options of the steps after localisation, which `var post` and `var super-resolve` share, and how they are read."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from varcli.errors import UsageError

if TYPE_CHECKING:
    from varcli.emitters.post.pipeline import Steps


Report = Annotated[bool, typer.Option("--report", help="A page with the image, every figure and its curves, as PNG.")]


@dataclass(frozen=True)
class StepOptions:
    """The steps that are asked for."""

    filter: Annotated[
        str | None,
        typer.Option("--filter", metavar="EXPR", help='Rows to keep: "uncertainty_xy_nm < 20 and photons > 300".'),
    ] = None
    drift: Annotated[
        Literal["rcc", "none"], typer.Option("--drift", help="Redundant cross-correlation, or no correction.")
    ] = "none"
    segments: Annotated[
        int | None,
        typer.Option(
            "--segments", metavar="N", min=2, help="Of the drift; by default one per 5,000 localisations, to 20."
        ),
    ] = None
    density: Annotated[
        str | None,
        typer.Option("--density", metavar="N:RADIUS", help="Keep what has N others within RADIUS nm, of all frames."),
    ] = None
    link: Annotated[bool, typer.Option("--link", help="Join the localisations of a blink over frames.")] = False
    gap: Annotated[
        int | None, typer.Option("--gap", metavar="N", min=0, help="Dark frames within a blink; by default 1.")
    ] = None
    radius: Annotated[
        float | None, typer.Option("--radius", metavar="NM", min=1e-3, help="How far a blink reaches; by default 75.")
    ] = None

    def read(self) -> "Steps":
        """The same; raises UsageError for a density that cannot be read, and for options whose step is not asked
        for."""
        from varcli.emitters.post.pipeline import Steps

        if not self.link and (self.gap is not None or self.radius is not None):
            raise UsageError("--gap and --radius belong to --link", "add --link")
        if self.segments is not None and self.drift == "none":
            raise UsageError("--segments belongs to --drift rcc", "add --drift rcc")
        neighbours, radius = (0, None) if self.density is None else _parse_density(self.density)
        return Steps(
            filter=self.filter,
            drift=self.drift == "rcc",
            segments=self.segments,
            least_neighbours=neighbours,
            neighbour_radius_nm=radius,
            link=self.link,
            gap_frames=1 if self.gap is None else self.gap,
            link_radius_nm=75.0 if self.radius is None else self.radius,
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
