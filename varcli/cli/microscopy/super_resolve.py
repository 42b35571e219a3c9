"""`var super-resolve`: a camera stack becomes a table of emitters, a map and an image, whatever the microscope."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from varcli.cli.microscopy.microscope_options import MicroscopeOptions
from varcli.cli.microscopy.post import post_lines
from varcli.cli.microscopy.post_options import Report, StepOptions
from varcli.cli.microscopy.render_options import DrawnOptions
from varcli.cli.microscopy.resolve_options import (
    BatchSize,
    Channel,
    Checkpoint,
    FormatOption,
    Fps,
    GifOption,
    Images,
    MapOption,
    ModeOption,
    PolishOption,
    Threshold,
    To,
    read_scale,
)
from varcli.cli.options import DeviceOption, JsonOption, OutputDirOption, OverwriteOption, grouped, read_formats
from varcli.cli.output import emit, warn
from varcli.cli.progress import Display
from varcli.errors import VarError


@grouped
def super_resolve(
    images: Images,
    *,
    to: To = "80",
    mode: ModeOption = "super-resolution",
    checkpoint: Checkpoint = "emitter-2d",
    microscope: MicroscopeOptions,
    channel: Channel = None,
    threshold: Threshold = 0.5,
    polish: PolishOption = "mle",
    formats: FormatOption = "csv",
    map_kind: MapOption = "sum",
    rendering: DrawnOptions,
    gif: GifOption = False,
    fps: Fps = 2,
    steps: StepOptions,
    report: Report = False,
    device: DeviceOption = "auto",
    batch_size: BatchSize = None,
    output_dir: OutputDirOption = Path("outputs"),
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find the emitters in a camera stack and write STEM_emitters.csv, STEM_to80.tif and STEM_render.tif and .png.

    What is not said of the microscope is taken from the file, else estimated, else a stated default, and named as
    assumed. A run that was stopped goes on when the same call is given again. --filter, --drift rcc, --density, --link
    and --report carry on with the finished table as `var post` does, and write STEM_post's files beside it.
    JSON keys: input, tables, map, render {tif, png}, progressive, gif (paths, null for what was not asked for), frames,
    emitters, complete, resumed_at, seconds {look, frames, write, post}, frames_per_second (of the step "frames"),
    assumed, warnings, provenance (the same that stands beside the table) and post (what `var post` prints, or null).
    """
    _compile_beside(polish)
    from varcli.api.microscopy import localize_events
    from varcli.emitters.results.files import Outputs
    from varcli.emitters.results.localization import Localization

    drawn = rendering.read(report=report), map_kind, read_scale(to), mode != "super-resolution"
    events = localize_events(
        images,
        camera=microscope.given(),
        psf_sigma=microscope.sigma(),
        checkpoint=checkpoint,
        **microscope.window(),
        channel=channel,
        threshold=threshold,
        estimator=polish,
        batch_size=batch_size,
        device=device,
        outputs=Outputs(read_formats(formats), *drawn, gif, fps),
        output_dir=output_dir,
        steps=steps.read(),
        report=report,
        overwrite=overwrite,
        in_memory=False,
    )
    with Display() as display:
        done = display.result(events, Localization)
    emit(document := done.document(), _lines(document), as_json)
    _fail(done.failures)


def _compile_beside(polish: str) -> None:
    """Begin to compile the fit, if need be, before the rest is imported, which takes its time."""
    if polish == "mle":
        from varcli.compiled import compile_beside
        from varcli.emitters.fit.fit import example

        compile_beside(example)


def _fail(failures: tuple[VarError, ...]) -> None:
    """End with the first of what went wrong, if anything did; the others are warnings."""
    for failure in failures[1:]:
        warn(failure.message)
    if failures:
        raise failures[0]


def _lines(document: dict[str, Any]) -> Iterator[str]:
    files = [*document["tables"], document["map"], *(document["render"] or {}).values()]
    yield "  ".join(path for path in (*files, document["progressive"], document["gif"]) if path)
    rate = document["frames_per_second"]
    yield f"{document['emitters']} emitters in {document['frames']} frames ({rate:g} frames/s)"
    if document["post"]:
        yield from post_lines(document["post"])
