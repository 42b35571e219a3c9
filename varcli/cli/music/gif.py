"""`var gif`: recordings of a model at work become an animation."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from varcli.cli.options import JsonOption, OverwriteOption, parse_levels
from varcli.cli.output import emit
from varcli.cli.progress import Display
from varcli.errors import UsageError

if TYPE_CHECKING:
    from varcli.animation.draw import AnimationOptions
    from varcli.animation.frames import Recording


def complete_colormap(incomplete: str) -> list[str]:
    """Names of the colormaps."""
    from varcli.colours import COLORMAPS

    return [name for name in COLORMAPS if name.startswith(incomplete)]


Frames = Annotated[
    list[Path], typer.Argument(metavar="FRAMES.npz...", help="Recordings; several are set side by side, in step.")
]
Fps = Annotated[float, typer.Option("--fps", help="Frames a second.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", help="The animation, .gif or .webp; FRAMES.gif beside the first input by default."),
]
Every = Annotated[
    int, typer.Option("--every", min=1, metavar="N", help="Show each N-th frame; the first and last always.")
]
Levels = Annotated[
    str | None, typer.Option("--levels", help='Levels to show, such as "0,1"; all that were recorded by default.')
]
PixelScale = Annotated[
    int | None,
    typer.Option("--pixel-scale", metavar="K", help="Pixels per step of a roll, or per pixel of an image, 1 to 64."),
]
Bar = Annotated[bool, typer.Option("--bar/--no-bar", help="Draw how far the model was.")]
Stats = Annotated[bool, typer.Option("--stats/--no-stats", help="Draw notes, cells and polyphony so far.")]
FontFile = Annotated[Path | None, typer.Option("--font", help="A .ttf or .otf file to write with.")]
FontSize = Annotated[float, typer.Option("--font-size", metavar="PT", help="Size of the labels, 6 to 96.")]
Background = Annotated[
    str, typer.Option("--background", metavar="COLOR", help="A name or a code, such as white or #12141c.")
]
Colormap = Annotated[
    str | None,
    typer.Option(
        "--colormap",
        metavar="NAME",
        autocompletion=complete_colormap,
        help="Colours of soft to loud: velocity, magma, inferno, viridis, ice or gray.",
    ),
]
Colors = Annotated[int, typer.Option("--colors", metavar="N", help="Most colours that all frames share, 2 to 256.")]
PngDir = Annotated[
    Path | None, typer.Option("--png-dir", metavar="DIR", help="Also write frame_0000.png and so on there.")
]


def gif(
    frames: Frames,
    fps: Fps = 5,
    output: Output = None,
    every: Every = 1,
    levels: Levels = None,
    pixel_scale: PixelScale = None,
    bar: Bar = True,
    stats: Stats = True,
    font: FontFile = None,
    font_size: FontSize = 15,
    background: Background = "#12141c",
    colormap: Colormap = None,
    colors: Colors = 255,
    png_dir: PngDir = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Animate how a model wrote a roll, from the frames.npz that `var sample --save-frames` keeps.

    JSON keys: output, fps, frames, pictures (distinct ones in the file), seconds, width, height, inputs [{path, frames,
    shown}] and png, the list of PNG files or null.
    """
    output = output or frames[0].with_suffix(".gif")
    missing = [path for path in frames if not path.exists()]
    if missing:
        raise UsageError(f"{missing[0]} does not exist", "`var sample --save-frames` writes such a file")
    wanted = None if levels is None else parse_levels(levels, "--levels")

    from varcli.animation.draw import AnimationOptions
    from varcli.animation.encode import check_output, refuse_existing_frames
    from varcli.files import ensure_output_dir, refuse_existing

    check_output(output, fps)
    options = AnimationOptions(pixel_scale, bar, stats, font, font_size, background, colormap, colors)
    refuse_existing([output], overwrite)
    if png_dir is not None:
        refuse_existing_frames(png_dir, overwrite)
    recordings, inputs = _read(frames, every, wanted)
    ensure_output_dir(output.parent)
    document = _write(recordings, output, fps, options, png_dir) | {"inputs": inputs}
    lines = [f"{output}  ({document['frames']} frames, {document['seconds']:g} s)"]
    if document["png"]:
        lines.append(f"{png_dir}  ({len(document['png'])} PNG files)")
    emit(document, lines, as_json)


def _read(
    paths: list[Path], every: int, levels: frozenset[int] | None
) -> "tuple[list[Recording], list[dict[str, Any]]]":
    """The recordings, thinned as asked and titled so that they can be told apart, and what was read of each."""
    from dataclasses import replace

    from varcli.animation.frames import load_frames, select_frames

    recordings, inputs = [], []
    for path in paths:
        whole = load_frames(path)
        try:
            chosen = select_frames(whole, every=every, levels=levels)
        except UsageError as error:
            raise UsageError(f"{path}: {error.message}", error.hint) from None
        recordings.append(chosen)
        inputs.append({"path": str(path), "frames": len(whole), "shown": len(chosen)})
    titles = [recording.meta.title or path.stem for recording, path in zip(recordings, paths, strict=True)]
    if len(set(titles)) < len(titles):
        titles = [str(path.with_suffix("")) for path in paths]
    named = [
        replace(recording, meta=recording.meta.model_copy(update={"title": title}))
        for recording, title in zip(recordings, titles, strict=True)
    ]
    return named, inputs


def _write(
    recordings: "list[Recording]", output: Path, fps: float, options: "AnimationOptions", png_dir: Path | None
) -> dict[str, Any]:
    from varcli.animation.encode import Animation, animate, draw_png_frames

    animation, files = None, None
    with Display() as display:
        for event in display.follow(animate(recordings, output, fps, options)):
            animation = event if isinstance(event, Animation) else animation
        for event in display.follow(draw_png_frames(recordings, png_dir, options)) if png_dir else ():
            files = event if isinstance(event, list) else files
    assert animation is not None
    return {
        "output": str(output),
        "fps": fps,
        "frames": animation.frames,
        "pictures": animation.pictures,
        "seconds": animation.seconds,
        "width": animation.width,
        "height": animation.height,
        "png": None if files is None else [str(path) for path in files],
    }
