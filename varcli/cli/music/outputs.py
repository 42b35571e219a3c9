"""Options that say what is written of a sample beside its MIDI file and its picture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer


@dataclass(frozen=True)
class OutputOptions:
    """To be listened to, looked at in a browser, and read."""

    audio: Annotated[
        Literal["wav", "flac", "ogg"] | None,
        typer.Option("--audio", help="Write each sample as sound as well, played by the piano that comes along."),
    ] = None
    soundfont: Annotated[
        Path | None,
        typer.Option("--soundfont", metavar="FILE", help="Other sounds than that piano: an .sf2 or .sf3 file."),
    ] = None
    html: Annotated[
        bool,
        typer.Option(
            "--html", help="Write a page for browsers as well: all samples, how they were written, and sound."
        ),
    ] = False
    score: Annotated[
        Literal["musicxml", "svg"] | None,
        typer.Option("--score", help="Write each sample as notation as well; svg needs the extra varcli[score]."),
    ] = None
