"""`var post`: what follows localisation, on tables of any format."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from varcli.cli.microscopy.post_options import (
    Density,
    Drift,
    DriftMethod,
    FilterOption,
    Gap,
    Link,
    Radius,
    Report,
    Segments,
    read_steps,
)
from varcli.cli.microscopy.post_outputs import READING, PostOutputs, carry_out, planned, post_lines, stem_of_table
from varcli.cli.microscopy.render_options import (
    ColormapOption,
    DepthOption,
    RenderOption,
    StyleOption,
    read_rendering,
)
from varcli.cli.options import JsonOption, OutputDirOption, OverwriteOption, complete_formats
from varcli.cli.output import emit
from varcli.cli.progress import Display
from varcli.emitters.events import StepStarted
from varcli.errors import UsageError

if TYPE_CHECKING:
    from varcli.emitters.table import EmitterTable
    from varcli.emitters.tables import Field


class Frames(StrEnum):
    """Where the frames of further tables go."""

    append = "append"
    keep = "keep"


Tables = Annotated[
    list[Path], typer.Argument(metavar="TABLE...", help="Tables of emitters in any format that is read.")
]
MergeFrames = Annotated[Frames, typer.Option("--frames", help="Of further tables: after those before, or as they are.")]
Sort = Annotated[bool, typer.Option("--sort", help="Sort rows whose frames are out of order.")]
Format = Annotated[
    str,
    typer.Option("--format", metavar="LIST", help="Formats of the table written.", autocompletion=complete_formats),
]
PixelSize = Annotated[
    float | None,
    typer.Option("--pixel-size", metavar="NM", min=1e-3, help="Camera pixel, for tables that do not say it."),
]


def post(
    tables: Tables,
    filter: FilterOption = None,
    drift: Drift = DriftMethod.none,
    segments: Segments = None,
    density: Density = None,
    link: Link = False,
    gap: Gap = None,
    radius: Radius = None,
    frames: MergeFrames = Frames.append,
    sort: Sort = False,
    render: RenderOption = "none",
    render_style: StyleOption = None,
    render_depth: DepthOption = None,
    colormap: ColormapOption = None,
    report: Report = False,
    format: Format = "csv",
    pixel_size: PixelSize = None,
    output_dir: OutputDirOption = Path("outputs"),
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Merge tables, filter them, take the drift off, link blinks, and measure precision (NeNA) and resolution (FRC).

    Steps come in that order. Writes STEM_post's table, STEM_post_quality.json (every figure, histogram and curve) and,
    with --drift rcc, STEM_post_drift.csv; with --render, STEM_post_render.tif and .png; with --report,
    STEM_post_report.png; STEM is that of the first table. JSON keys: tables, outputs, assumed, rows
    {read, filtered, dense, linked}, drift {segments, pairs, pairs_left_out, residual_nm, span_x_nm, span_y_nm},
    localizations_per_blink, localizations, frames, localizations_per_frame, photons, background, uncertainty_xy_nm
    (medians), nena_nm, frc_nm, missing {measure: why}. Null stands for what was not asked for or not measured.
    """
    from varcli.cli.microscopy.emitter_outputs import read_formats
    from varcli.emitters.post.pipeline import process
    from varcli.files import ensure_output_dir, refuse_existing

    steps = read_steps(filter, drift, segments, density, link, gap, radius)
    formats = read_formats(format)
    rendering = read_rendering(render, render_style, render_depth, colormap, report=report)
    for path in tables:
        if not path.exists():
            raise UsageError(f"{path}: no such file", "give a table of emitters")
    outputs = PostOutputs(output_dir, stem_of_table(tables[0]), steps, formats, rendering, report)
    if {path.resolve() for path in outputs.paths()} & {path.resolve() for path in tables}:
        raise UsageError("a table would be written over itself", "choose another --output-dir")
    refuse_existing(outputs.paths(), overwrite)
    with Display() as display:
        display.show(planned(outputs))
        display.show(StepStarted(READING, None))
        merged, field, assumed = _read(tables, pixel_size, frames, sort, display)
        if rendering.style == "gaussian" and (merged.sd_x_nm is None or merged.sd_y_nm is None):
            message = "--render-style gaussian: the table says no uncertainties"
            raise UsageError(message, "--render-style histogram counts localisations")
        ensure_output_dir(output_dir)
        taken = process(merged, steps)
        del merged  # a filter's table takes its place
        document = carry_out(taken, outputs, field, tables, display) | {"assumed": assumed}
    emit(document, post_lines(document), as_json)


def _read(
    paths: list[Path], pixel_size: float | None, frames: Frames, sort: bool, display: Display
) -> "tuple[EmitterTable, Field, dict[str, str]]":
    """All tables as one, their field, and what of it is assumed."""
    from varcli.emitters.tables import read_table

    read = [read_table(path, pixel_size) for path in paths]
    for path, one in zip(paths, read, strict=True):
        if one.meta["ignored_columns"]:
            display.warn(f"{path}: columns that are not carried over: {', '.join(one.meta['ignored_columns'])}")
    merged = _merged(paths, read, frames, sort)
    return merged, *_field(merged, read, pixel_size, frames)


def _merged(paths: list[Path], read: "list[EmitterTable]", frames: Frames, sort: bool) -> "EmitterTable":
    """One table of all, every one with its frames in order; raises UsageError where they are not."""
    import numpy as np

    from varcli.emitters.post.merge import merge, sort_by_frame

    for path, one in zip(paths, read, strict=True):
        back = np.flatnonzero(np.diff(one.frame) < 0)
        if len(back) and not sort:
            row = int(back[0]) + 1
            message = f"{path}: frames out of order: row {row + 1} is of frame {one.frame[row]}, counted from 0"
            raise UsageError(f"{message}, the row before of {one.frame[row - 1]}", "--sort sorts them")
    read = [sort_by_frame(one) for one in read] if sort else read
    return merge(read, frames.value, [_whole(one, "frames") for one in read])


def _whole(one: "EmitterTable", key: str) -> int | None:
    said = one.meta.get(key)
    return int(said) if isinstance(said, int | float) and said == said else None


def _field(
    merged: "EmitterTable", read: "list[EmitterTable]", pixel_size: float | None, frames: Frames
) -> "tuple[Field, dict[str, str]]":
    """The field that the tables say they belong to, and what of it is assumed.

    Raises UsageError where no one knows the pixel size.
    """
    import math

    from varcli.emitters.tables import Field

    said = pixel_size or next((one.meta["pixel_size_nm"] for one in read if one.meta.get("pixel_size_nm")), None)
    if said is None:
        raise UsageError("the pixel size of the tables is not known", "say it with --pixel-size")
    assumed: dict[str, str] = {}
    lengths = [_whole(one, "frames") or (int(one.frame.max()) + 1 if len(one) else 0) for one in read]
    sides = []
    for name, column in (("height", merged.y_nm), ("width", merged.x_nm)):
        known = [side for one in read if (side := _whole(one, name))]
        if not known:
            assumed[name] = "the field ends at the furthest emitter"
            known = [max(1, math.ceil(float(column.max()) / said)) if len(merged) else 1]
        sides.append(max(known))
    if any(_whole(one, "frames") is None for one in read):
        assumed["frames"] = "the last frame is the last with an emitter"
    camera = read[0].meta.get("camera")
    total = max(lengths) if frames is Frames.keep else sum(lengths)
    return Field(float(said), total, *sides, **(camera if isinstance(camera, dict) else {})), assumed
