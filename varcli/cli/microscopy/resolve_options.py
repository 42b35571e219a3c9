"""Options of `var super-resolve` alone."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from varcli.cli.options import complete_emitters, complete_formats
from varcli.errors import UsageError

Images = Annotated[list[Path], typer.Argument(metavar="IMG.tif...", help="The stack; several files follow each other.")]
To = Annotated[
    str, typer.Option("--to", metavar="R|Kx", help="Grid of the map: cells per 40 camera pixels, or cells per pixel.")
]
ModeOption = Annotated[
    Literal["super-resolution", "progressive", "both"],
    typer.Option("--mode", help="progressive and both also draw the first frame at every scale."),
]
Checkpoint = Annotated[
    str, typer.Option("--checkpoint", help="A model's name, file or run folder.", autocompletion=complete_emitters)
]
Channel = Annotated[
    int | None, typer.Option("--channel", min=0, help="The channel to take, or the plane of a z-stack.")
]
Threshold = Annotated[float, typer.Option("--threshold", metavar="P", help="Least probability of an emitter.")]
PolishOption = Annotated[
    Literal["mle", "none"],
    typer.Option("--polish", help="Fit all emitters jointly by maximum likelihood, or keep the network's word."),
]
FormatOption = Annotated[
    str, typer.Option("--format", help="Formats of the table, separated by commas.", autocompletion=complete_formats)
]
MapOption = Annotated[
    Literal["sum", "frames", "none"],
    typer.Option("--map", help="Expected emitters per cell: summed over frames, of each frame, or not at all."),
]
GifOption = Annotated[bool, typer.Option("--gif/--no-gif", help="Animate the first frame, coarse to fine.")]
Fps = Annotated[float, typer.Option("--fps", min=0.1, max=100, help="Frames a second of the animation.")]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", min=1, help="Frames worked on together; by the size of a frame otherwise.")
]


def read_scale(text: str) -> int:
    """Cells per 40 camera pixels from "80" or "2x"; raises UsageError."""
    from varcli.emitters.config import FIELD_PX

    try:
        scale = float(text[:-1]) * FIELD_PX if text.lower().endswith("x") else float(text)
        if scale == int(scale):
            return int(scale)
    except (ValueError, OverflowError):
        pass
    raise UsageError(f"--to {text!r}: not a grid", "for example --to 80, or --to 2x")
