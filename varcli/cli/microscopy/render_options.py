"""Options of rendered images, which `var post` and `var super-resolve` share, and how they are read."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from varcli.errors import UsageError

if TYPE_CHECKING:
    from varcli.emitters.figures.render import Rendering


@dataclass(frozen=True)
class RenderOptions:
    """How emitters are drawn."""

    render: Annotated[str, typer.Option("--render", metavar="NM|none", help="Pixel of the rendered image.")] = "none"
    render_style: Annotated[
        Literal["gaussian", "histogram"] | None,
        typer.Option(
            "--render-style",
            help="Gaussians of the uncertainties, by default where there are any, or counts per pixel.",
        ),
    ] = None
    render_depth: Annotated[
        Literal["float", "16"] | None,
        typer.Option("--render-depth", help="Of the TIFF: emitters per pixel, or 16 bits up to the brightest pixel."),
    ] = None
    colormap: Annotated[
        Literal["inferno", "magma", "hot", "viridis", "ice", "gray"] | None,
        typer.Option("--colormap", help="Colours of the rendered PNG; by default inferno."),
    ] = None

    def read(self, *, report: bool) -> "Rendering":
        """How to draw; its pixel is None for "none".

        Raises UsageError for what is no size, and for options of an image that is not asked for; a `report` has one.
        """
        from varcli.emitters.figures.render import Rendering

        pixel_nm = _pixel_nm(self.render)
        style, depth, colormap = self.render_style, self.render_depth, self.colormap
        if pixel_nm is None:
            drawn = {"--render-depth": depth} | ({} if report else {"--render-style": style, "--colormap": colormap})
            for option, given in drawn.items():
                if given is not None:
                    raise UsageError(f"{option} belongs to a rendered image", "for example --render 10")
        return Rendering(pixel_nm, style, sixteen_bit=depth == "16", colormap=colormap or "inferno")


@dataclass(frozen=True)
class DrawnOptions(RenderOptions):
    """The same, drawn by default."""

    render: Annotated[str, typer.Option("--render", metavar="NM|none", help="Pixel of the rendered image.")] = "10"


def _pixel_nm(text: str) -> float | None:
    """A pixel in nm, or None for "none"; raises UsageError."""
    if text == "none":
        return None
    try:
        pixel_nm = float(text)
    except ValueError:
        pixel_nm = 0.0
    if not 0 < pixel_nm < 1e6:
        raise UsageError(f"--render {text!r}: not a pixel size in nm", "for example --render 10, or none")
    return pixel_nm
