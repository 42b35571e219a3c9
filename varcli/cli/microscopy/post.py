"""`var post`: what follows localisation, on tables of any format."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from varcli.cli.microscopy.post_options import Report, StepOptions
from varcli.cli.microscopy.render_options import RenderOptions
from varcli.cli.options import JsonOption, OutputDirOption, OverwriteOption, complete_formats, grouped, read_formats
from varcli.cli.output import emit, table
from varcli.cli.progress import Display

Tables = Annotated[
    list[Path], typer.Argument(metavar="TABLE...", help="Tables of emitters in any format that is read.")
]
MergeFrames = Annotated[
    Literal["append", "keep"],
    typer.Option("--frames", help="Of further tables: after those before, or as they are."),
]
Sort = Annotated[bool, typer.Option("--sort", help="Sort rows whose frames are out of order.")]
Format = Annotated[
    str,
    typer.Option("--format", metavar="LIST", help="Formats of the table written.", autocompletion=complete_formats),
]
PixelSize = Annotated[
    float | None,
    typer.Option("--pixel-size", metavar="NM", min=1e-3, help="Camera pixel, for tables that do not say it."),
]


@grouped
def post(
    tables: Tables,
    *,
    steps: StepOptions,
    frames: MergeFrames = "append",
    sort: Sort = False,
    rendering: RenderOptions,
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
    from varcli.api.microscopy import postprocess_events
    from varcli.emitters.results.files import Outputs
    from varcli.emitters.results.post import Postprocessed

    events = postprocess_events(
        tables,
        steps.read(),
        frames=frames,
        sort=sort,
        pixel_size_nm=pixel_size,
        outputs=Outputs(read_formats(format), rendering.read(report=report)),
        output_dir=output_dir,
        report=report,
        overwrite=overwrite,
    )
    with Display() as display:
        document = display.result(events, Postprocessed).document()
    emit(document, post_lines(document), as_json)


def post_lines(document: dict[str, Any]) -> list[str]:
    """The figures for people; what is not measured is said last."""
    shown = [(key.replace("_", " "), value) for key, value in document.items() if key not in ("missing", "assumed")]
    missing = [(f"no {name.replace('_', ' ')}", why) for name, why in document["missing"].items()]
    return table([*shown, *((f"assumed {name}", why) for name, why in document["assumed"].items()), *missing])
