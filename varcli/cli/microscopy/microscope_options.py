"""Options that say what took a stack, and which part of it to analyse; read without loading anything heavy."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from varcli.errors import UsageError

if TYPE_CHECKING:
    from varcli.emitters.camera.file import GivenCamera
    from varcli.emitters.stack.stack import Stack
    from varcli.emitters.stack.window import Window

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


@dataclass(frozen=True)
class SaidMicroscope:
    """What options and camera file say, checked; `sigma_px` is None where the stack itself is asked."""

    camera: "GivenCamera"
    sigma_px: float | None

    def document(self) -> dict[str, Any]:
        """For JSON; maps by their digest."""
        import hashlib
        from dataclasses import fields

        import numpy as np

        values = {field.name: getattr(self.camera, field.name) for field in fields(self.camera)}
        return {
            name: hashlib.sha256(value.tobytes()).hexdigest() if isinstance(value, np.ndarray) else value
            for name, value in values.items()
        }


def read_said(camera: Path | None, psf_sigma: str, **options: float | None) -> SaidMicroscope:
    """What is said: an option before the camera file.

    Raises UsageError for a missing file, a missing or an impossible value, VarError for a file that is no TOML.
    """
    from varcli.emitters.camera.file import GivenCamera, read_camera, refuse_incomplete

    said = GivenCamera(**options).check("", _OPTIONS)
    if camera is not None:
        # A camera file that says nothing of EM or QE describes a camera without, as docs/formats.md has it.
        said = said.or_else(read_camera(camera)).or_else(GivenCamera(em_gain=0.0, qe=1.0))
        refuse_incomplete(said, camera)
    return SaidMicroscope(said, _sigma(psf_sigma))


def _sigma(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        sigma_px = float(text)
    except ValueError:
        sigma_px = math.nan
    if not 0.1 <= sigma_px <= 20:
        raise UsageError(
            f"--psf-sigma {text}: not a width from 0.1 to 20 pixels", "for example --psf-sigma 1.3, or auto"
        )
    return sigma_px


def read_window(stack: "Stack", frames: str | None, roi: str | None) -> "tuple[Window, bool]":
    """The part of a stack that is asked for, and whether it is meant to reach the stack's end; raises UsageError."""
    from varcli.emitters.stack.window import Window

    left, right, top, bottom = 0, stack.width, 0, stack.height
    if roi is not None:
        parts = roi.split(",")
        if len(parts) != 2:
            raise UsageError(f"--roi {roi!r}: not X0:X1,Y0:Y1", "for example --roi 0:128,64:192")
        left, right = _span(parts[0], stack.width, f"--roi {roi!r}: columns")
        top, bottom = _span(parts[1], stack.height, f"--roi {roi!r}: rows")
    if frames is None:
        return Window(left, right, top, bottom, 0, stack.frames), True
    missing = stack.truncated is not None
    first, last = _span(frames, stack.frames, f"--frames {frames!r}: frames", beyond=missing)
    if first >= stack.frames:
        raise stack.truncated or UsageError(f"--frames {frames!r}: beyond the stack")
    to_end = last > stack.frames or not frames.partition(":")[2]
    return Window(left, right, top, bottom, first, min(last, stack.frames)), to_end


def _span(text: str, size: int, where: str, *, beyond: bool = False) -> tuple[int, int]:
    """Numbers A and B of "A:B", either of which may be left out, within 0 and `size` (or beyond it)."""
    low, colon, high = text.strip().partition(":")
    if not colon or not all(part.strip().isdecimal() or not part.strip() for part in (low, high)):
        raise UsageError(f"{where} {text!r} are not A:B", "whole numbers from 0, the end excluded, for example 0:100")
    first, last = int(low or 0), int(high) if high.strip() else size
    if not first < last or (last > size and not beyond):
        raise UsageError(f"{where} {first}:{last} are not within 0:{size}", "the end is excluded")
    return first, last
