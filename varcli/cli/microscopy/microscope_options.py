"""Options that say what took a stack, and which part of it to analyse; read without loading anything heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from varcli.errors import UsageError

if TYPE_CHECKING:
    from varcli.emitters.camera.values import Values
    from varcli.emitters.stack.window import Span

_OPTIONS = {
    "pixel_size_nm": "--pixel-size",
    "baseline_adu": "--baseline",
    "e_per_adu": "--e-per-adu",
    "em_gain": "--em-gain",
    "qe": "--qe",
    "read_noise_e": "--read-noise",
}


@dataclass(frozen=True)
class MicroscopeOptions:
    """What took a stack, and which part of it to analyse."""

    camera: Annotated[
        Path | None,
        typer.Option(
            "--camera", metavar="camera.toml", help="The camera: pixel size, baseline, e-/ADU, read noise, ..."
        ),
    ] = None
    pixel_size: Annotated[
        float | None, typer.Option("--pixel-size", metavar="NM", help="Side of a camera pixel in the sample.")
    ] = None
    baseline: Annotated[
        float | None, typer.Option("--baseline", metavar="ADU", help="What the camera reads without light.")
    ] = None
    e_per_adu: Annotated[
        float | None, typer.Option("--e-per-adu", metavar="E", help="Electrons per step of the camera's numbers.")
    ] = None
    em_gain: Annotated[
        float | None, typer.Option("--em-gain", metavar="G", help="EM gain; 0 for a camera without.")
    ] = None
    qe: Annotated[
        float | None, typer.Option("--qe", metavar="Q", help="Share of photons that become electrons; 1 by default.")
    ] = None
    read_noise: Annotated[
        float | None, typer.Option("--read-noise", metavar="E", help="Read noise, rms electrons at the output.")
    ] = None
    psf_sigma: Annotated[
        str, typer.Option("--psf-sigma", metavar="auto|PX", help="Width of the PSF in pixels; auto measures it.")
    ] = "auto"
    frames: Annotated[
        str | None, typer.Option("--frames", metavar="A:B", help="Frames A to B - 1 alone, counted from 0.")
    ] = None
    roi: Annotated[
        str | None, typer.Option("--roi", metavar="X0:X1,Y0:Y1", help="These columns and rows alone, ends excluded.")
    ] = None

    def given(self) -> "Values":
        """What is given of the camera: an option before the camera file.

        Raises UsageError for a missing file, a missing or an impossible value, VarError for a file that is no TOML.
        """
        from varcli.emitters.camera.file import complete_camera
        from varcli.emitters.camera.values import given_values

        options = {name: getattr(self, option[2:].replace("-", "_")) for name, option in _OPTIONS.items()}
        given = given_values("", _OPTIONS, **options)
        return given if self.camera is None else complete_camera(self.camera, given)

    def sigma(self) -> float | None:
        """The width of the PSF in pixels; None for "auto"; raises UsageError for what is no number."""
        try:
            return None if self.psf_sigma == "auto" else float(self.psf_sigma)
        except ValueError:
            hint = "for example --psf-sigma 1.3, or auto"
            raise UsageError(f"--psf-sigma {self.psf_sigma}: not a width from 0.1 to 20 pixels", hint) from None

    def window(self) -> "dict[str, Any]":
        """Frames, columns and rows, None for all; raises UsageError."""
        parts = [] if self.roi is None else self.roi.split(",")
        if len(parts) not in (0, 2):
            raise UsageError(f"--roi {self.roi!r}: not X0:X1,Y0:Y1", "for example --roi 0:128,64:192")
        roi = tuple(read_span(part, "--roi") for part in parts) or None
        return {"frames": None if self.frames is None else read_span(self.frames, "--frames"), "roi": roi}


def read_span(text: str, option: str) -> "Span":
    """Numbers A and B of "A:B", None for one that is left out; raises UsageError."""
    low, colon, high = (part.strip() for part in text.partition(":"))
    if not colon or not all(part.isdecimal() or not part for part in (low, high)):
        raise UsageError(f"{option} {text!r}: not A:B", "whole numbers from 0, the end excluded, for example 0:100")
    return int(low) if low else None, int(high) if high else None
