"""Options that say what took a stack, and which part of it to analyse; read without loading anything heavy."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from varcli.errors import UsageError

if TYPE_CHECKING:
    from varcli.emitters.camera.values import Values
    from varcli.emitters.stack.window import Span

CameraOption = Annotated[
    Path | None,
    typer.Option("--camera", metavar="camera.toml", help="The camera: pixel size, baseline, e-/ADU, read noise, ..."),
]
PixelSize = Annotated[
    float | None, typer.Option("--pixel-size", metavar="NM", help="Side of a camera pixel in the sample.")
]
Baseline = Annotated[
    float | None, typer.Option("--baseline", metavar="ADU", help="What the camera reads without light.")
]
ElectronsPerAdu = Annotated[
    float | None, typer.Option("--e-per-adu", metavar="E", help="Electrons per step of the camera's numbers.")
]
EmGain = Annotated[float | None, typer.Option("--em-gain", metavar="G", help="EM gain; 0 for a camera without.")]
QuantumEfficiency = Annotated[
    float | None, typer.Option("--qe", metavar="Q", help="Share of photons that become electrons; 1 by default.")
]
ReadNoise = Annotated[
    float | None, typer.Option("--read-noise", metavar="E", help="Read noise, rms electrons at the output.")
]
PsfSigma = Annotated[
    str, typer.Option("--psf-sigma", metavar="auto|PX", help="Width of the PSF in pixels; auto measures it.")
]
FramesOption = Annotated[
    str | None, typer.Option("--frames", metavar="A:B", help="Frames A to B - 1 alone, counted from 0.")
]
RoiOption = Annotated[
    str | None, typer.Option("--roi", metavar="X0:X1,Y0:Y1", help="These columns and rows alone, ends excluded.")
]

_OPTIONS = {
    "pixel_size_nm": "--pixel-size",
    "baseline_adu": "--baseline",
    "e_per_adu": "--e-per-adu",
    "em_gain": "--em-gain",
    "qe": "--qe",
    "read_noise_e": "--read-noise",
}


def read_given(camera: Path | None, **options: float | None) -> "Values":
    """What is given of a camera: an option before the camera file.

    Raises UsageError for a missing file, a missing or an impossible value, VarError for a file that is no TOML.
    """
    from varcli.emitters.camera.file import complete_camera
    from varcli.emitters.camera.values import given_values

    given = given_values("", _OPTIONS, **options)
    return given if camera is None else complete_camera(camera, given)


def read_sigma(text: str) -> float | None:
    """A width of the PSF in pixels; None for "auto"; raises UsageError for what is no number."""
    try:
        return None if text == "auto" else float(text)
    except ValueError:
        hint = "for example --psf-sigma 1.3, or auto"
        raise UsageError(f"--psf-sigma {text}: not a width from 0.1 to 20 pixels", hint) from None


def read_roi(text: str | None) -> "tuple[Span, Span] | None":
    """Columns and rows of "X0:X1,Y0:Y1"; raises UsageError."""
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 2:
        raise UsageError(f"--roi {text!r}: not X0:X1,Y0:Y1", "for example --roi 0:128,64:192")
    return read_span(parts[0], "--roi"), read_span(parts[1], "--roi")


def read_span(text: str, option: str) -> "Span":
    """Numbers A and B of "A:B", None for one that is left out; raises UsageError."""
    low, colon, high = (part.strip() for part in text.partition(":"))
    if not colon or not all(part.isdecimal() or not part for part in (low, high)):
        raise UsageError(f"{option} {text!r}: not A:B", "whole numbers from 0, the end excluded, for example 0:100")
    return int(low) if low else None, int(high) if high else None
