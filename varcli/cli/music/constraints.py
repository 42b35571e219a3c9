"""Options that say what may sound at all, shared by sampling and likelihood."""

from dataclasses import dataclass
from typing import Annotated

import typer


def complete_scale(incomplete: str) -> list[str]:
    """Scales of the tonic that is there, or of C."""
    from varcli.pianoroll.score.scales import SCALES

    tonic = incomplete.partition(":")[0] or "C"
    return [f"{tonic}:{name}" for name in SCALES if f"{tonic}:{name}".startswith(incomplete or "C")]


@dataclass(frozen=True)
class ConstraintOptions:
    """A scale, a pitch range and a limit on polyphony; None limits nothing."""

    scale: Annotated[
        str | None,
        typer.Option(
            "--scale",
            metavar="TONIC:NAME",
            autocompletion=complete_scale,
            help="Only pitches of a scale sound, such as C:major or F#:dorian.",
        ),
    ] = None
    pitch_range: Annotated[
        str | None,
        typer.Option("--pitch-range", metavar="LOW:HIGH", help="Only these pitches sound, such as 36:84 or C2:C6."),
    ] = None
    max_polyphony: Annotated[
        int | None, typer.Option("--max-polyphony", min=1, metavar="N", help="At most so many notes sound at a time.")
    ] = None
