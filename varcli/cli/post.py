"""`var post`: what follows localisation, on tables of any format."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from varcli.cli.options import JsonOption, OutputDirOption, OverwriteOption, complete_formats
from varcli.cli.output import emit, table, warn
from varcli.errors import UsageError

if TYPE_CHECKING:
    from varcli.emitters.post.pipeline import Processed, Steps
    from varcli.emitters.post.quality import Quality
    from varcli.emitters.table import EmitterTable
    from varcli.emitters.tables import Field


class DriftMethod(StrEnum):
    """How the drift is estimated."""

    rcc = "rcc"
    none = "none"


class Frames(StrEnum):
    """Where the frames of further tables go."""

    append = "append"
    keep = "keep"


Tables = Annotated[
    list[Path], typer.Argument(metavar="TABLE...", help="Tables of emitters in any format that is read.")
]
FilterOption = Annotated[
    str | None,
    typer.Option("--filter", metavar="EXPR", help='Rows to keep: "uncertainty_xy_nm < 20 and photons > 300".'),
]
Drift = Annotated[DriftMethod, typer.Option("--drift", help="Redundant cross-correlation, or no correction.")]
Segments = Annotated[
    int | None,
    typer.Option("--segments", metavar="N", min=2, help="Of the drift; by default one per 5,000 localisations, to 20."),
]
Density = Annotated[
    str | None,
    typer.Option("--density", metavar="N:RADIUS", help="Keep what has N others within RADIUS nm, of all frames."),
]
Link = Annotated[bool, typer.Option("--link", help="Join the localisations of a blink over frames.")]
Gap = Annotated[int | None, typer.Option("--gap", metavar="N", min=0, help="Dark frames within a blink; by default 1.")]
Radius = Annotated[
    float | None, typer.Option("--radius", metavar="NM", min=1e-3, help="How far a blink reaches; by default 75.")
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
Render = Annotated[str, typer.Option("--render", metavar="NM|none", help="Pixel of a rendered image.")]
Report = Annotated[bool, typer.Option("--report", help="A page with the image, every figure and its curves, as PNG.")]
# Of a table's provenance: what reading it added, and what its field says anew.
_REPORT_NM = 10.0
_NOT_CARRIED = {"format", "columns", "ignored_columns", "pixel_size_nm", "frames", "height", "width", "camera"}


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
    render: Render = "none",
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
    from varcli.cli.emitter_outputs import read_formats, read_render
    from varcli.emitters.post.filter import parse_filter
    from varcli.emitters.post.pipeline import Steps, process
    from varcli.emitters.post.quality import measure
    from varcli.emitters.tables import file_names, read_table
    from varcli.files import ensure_output_dir, refuse_existing

    if not link and (gap is not None or radius is not None):
        raise UsageError("--gap and --radius belong to --link", "add --link")
    if segments is not None and drift is DriftMethod.none:
        raise UsageError("--segments belongs to --drift rcc", "add --drift rcc")
    neighbours, neighbour_radius = (0, None) if density is None else _parse_density(density)
    steps = Steps(
        filter=None if filter is None else parse_filter(filter),
        drift=drift is DriftMethod.rcc,
        segments=segments,
        least_neighbours=neighbours,
        neighbour_radius_nm=neighbour_radius,
        link=link,
        gap_frames=1 if gap is None else gap,
        link_radius_nm=75.0 if radius is None else radius,
    )
    formats, render_nm = read_formats(format), read_render(render)
    for path in tables:
        if not path.exists():
            raise UsageError(f"{path}: no such file", "give a table of emitters")
    stem = f"{_stem(tables[0])}_post"
    quality_path, drift_path = output_dir / f"{stem}_quality.json", output_dir / f"{stem}_drift.csv"
    written = [output_dir / name for token in formats for name in file_names(token, stem)]
    written += [quality_path, *([drift_path] if steps.drift else [])]
    images = [output_dir / f"{stem}_render{ending}" for ending in (".tif", ".png")] if render_nm else []
    page = output_dir / f"{stem}_report.png" if report else None
    written += [*images, *([page] if page else [])]
    if {path.resolve() for path in written} & {path.resolve() for path in tables}:
        raise UsageError("a table would be written over itself", "choose another --output-dir")
    refuse_existing(written, overwrite)

    read = [read_table(path, pixel_size) for path in tables]
    for path, one in zip(tables, read, strict=True):
        if one.meta["ignored_columns"]:
            warn(f"{path}: columns that are not carried over: {', '.join(one.meta['ignored_columns'])}")
    merged = _merged(tables, read, frames, sort)
    assumed: dict[str, str] = {}
    field = _field(merged, read, pixel_size, frames, assumed)
    ensure_output_dir(output_dir)
    done = process(merged, steps)
    quality = measure(done.table, unlinked=done.unlinked)
    _write(done, quality, steps, formats, field, output_dir, stem, [str(path) for path in tables])
    if render_nm or page:
        _draw(done, quality, steps, field, render_nm or _REPORT_NM, images, page, tables)
    document = {"tables": list(map(str, tables)), "outputs": list(map(str, written)), "assumed": assumed}
    document |= _document(done, quality)
    emit(document, _lines(document), as_json)


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


def _stem(path: Path) -> str:
    """The name of a table without what its format adds."""
    from varcli.emitters.tables import FORMATS

    for format in FORMATS.values():
        ending = format.file_name("")
        if path.name.endswith(ending) and path.name != ending:
            return path.name.removesuffix(ending)
    return path.stem


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
    merged: "EmitterTable",
    read: "list[EmitterTable]",
    pixel_size: float | None,
    frames: Frames,
    assumed: dict[str, str],
) -> "Field":
    """The field that the tables say they belong to; raises UsageError where no one knows the pixel size."""
    import math

    from varcli.emitters.tables import Field

    said = pixel_size or next((one.meta["pixel_size_nm"] for one in read if one.meta.get("pixel_size_nm")), None)
    if said is None:
        raise UsageError("the pixel size of the tables is not known", "say it with --pixel-size")
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
    return Field(float(said), total, *sides, **(camera if isinstance(camera, dict) else {}))


def _write(
    done: "Processed",
    quality: "Quality",
    steps: "Steps",
    formats: tuple[str, ...],
    field: "Field",
    folder: Path,
    stem: str,
    sources: list[str],
) -> None:
    """Write the table in every format, its quality and its drift."""
    import json
    from dataclasses import asdict

    from varcli.emitters.tables import TableWriter
    from varcli.files import write_text

    taken = asdict(steps) | {"filter": steps.filter.text if steps.filter else None}
    meta = {key: value for key, value in done.table.meta.items() if key not in _NOT_CARRIED}
    for format in formats:
        with TableWriter(format, folder, stem, field) as writer:
            writer.append(done.table)
            writer.finish(meta | {"post": {"tables": sources, "steps": taken, "rows": done.rows}})
    write_text(folder / f"{stem}_quality.json", json.dumps(quality.document(), indent=1, allow_nan=False) + "\n")
    if done.drift is not None:
        curve = zip(done.drift.frame, done.drift.x_nm, done.drift.y_nm, strict=True)
        rows = "".join(f"{frame},{x:.3f},{y:.3f}\n" for frame, x, y in curve)
        write_text(folder / f"{stem}_drift.csv", "frame,x_nm,y_nm\n" + rows)


def _draw(
    done: "Processed",
    quality: "Quality",
    steps: "Steps",
    field: "Field",
    pixel_nm: float,
    images: list[Path],
    page: Path | None,
    tables: list[Path],
) -> None:
    """Render the table, and write the image and the page where they are wanted."""
    from varcli.emitters.post.page import TableSummary, draw_page
    from varcli.emitters.render import Renderer

    renderer = Renderer(field.height * field.pixel_size_nm, field.width * field.pixel_size_nm, pixel_nm)
    if done.table.sd_x_nm is None or done.table.sd_y_nm is None:
        warn("the table says no uncertainties: every localisation counts in one pixel of the image")
        renderer.count(done.table)
    else:
        renderer.add(done.table)
    if renderer.left_out:
        warn(f"{renderer.left_out} emitters without a finite position or uncertainty are not in the image")
    for path in images:
        renderer.save_tiff(path) if path.suffix == ".tif" else renderer.save_png(path)
    if page:
        taken = [f"filter {steps.filter.text}"] if steps.filter else []
        taken += ["drift corrected"] if done.drift is not None else []
        if steps.least_neighbours:
            taken.append(f"{steps.least_neighbours} neighbours within {steps.neighbour_radius_nm:g} nm")
        taken += ["blinks linked"] if steps.link else []
        name = tables[0].name + (f" and {len(tables) - 1} more" if len(tables) > 1 else "")
        draw_page(quality, TableSummary(name, field.pixel_size_nm, tuple(taken)), renderer, done.drift, page)


def _document(done: "Processed", quality: "Quality") -> dict[str, Any]:
    """The figures that JSON and people get."""
    drift = None
    if done.drift is not None:
        drift = {
            "segments": len(done.drift.segment_frame),
            "pairs": done.drift.pairs,
            "pairs_left_out": done.drift.pairs_left_out,
            "residual_nm": done.drift.residual_nm,
            "span_x_nm": float(done.drift.x_nm.max() - done.drift.x_nm.min()),
            "span_y_nm": float(done.drift.y_nm.max() - done.drift.y_nm.min()),
        }
    histograms = {name: getattr(quality, name) for name in ("photons", "background", "uncertainty_xy_nm")}
    return {
        "rows": done.rows,
        "drift": drift,
        "localizations_per_blink": None if done.linked is None else float(done.linked.localizations_K.mean()),
        "localizations": quality.localizations,
        "frames": quality.last_frame - quality.first_frame + 1,
        "localizations_per_frame": quality.localizations_per_frame,
        **{name: None if shown is None else shown.median for name, shown in histograms.items()},
        "nena_nm": None if quality.nena is None else quality.nena.precision_nm,
        "frc_nm": None if quality.frc is None else quality.frc.resolution_nm,
        "missing": quality.missing | ({"frc": quality.frc.reason} if quality.frc and quality.frc.reason else {}),
    }


def _lines(document: dict[str, Any]) -> list[str]:
    """The figures for people; what is not measured is said last."""
    shown = [(key.replace("_", " "), value) for key, value in document.items() if key not in ("missing", "assumed")]
    missing = [(f"no {name.replace('_', ' ')}", why) for name, why in document["missing"].items()]
    return table([*shown, *((f"assumed {name}", why) for name, why in document["assumed"].items()), *missing])
