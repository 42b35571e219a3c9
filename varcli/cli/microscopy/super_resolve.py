"""`var super-resolve`: a camera stack becomes a table of emitters, a map and an image, whatever the microscope."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from varcli.cli.microscopy.emitter_outputs import (
    Outputs,
    field_of,
    read_formats,
    stem_of,
    write_map,
    write_progress,
    write_render,
    write_tables,
)
from varcli.cli.microscopy.microscope_options import (
    Baseline,
    CameraOption,
    ElectronsPerAdu,
    EmGain,
    FramesOption,
    PixelSize,
    PsfSigma,
    QuantumEfficiency,
    ReadNoise,
    RoiOption,
    SaidMicroscope,
    read_said,
    read_window,
)
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
from varcli.cli.microscopy.post_outputs import READING, PostOutputs, carry_out, planned, post_lines
from varcli.cli.microscopy.render_options import (
    ColormapOption,
    DepthOption,
    RenderOption,
    StyleOption,
    read_rendering,
)
from varcli.cli.microscopy.resolve_options import (
    BatchSize,
    Channel,
    Checkpoint,
    FormatOption,
    Fps,
    GifOption,
    Images,
    MapKind,
    MapOption,
    Mode,
    ModeOption,
    Polish,
    PolishOption,
    Threshold,
    To,
)
from varcli.cli.options import (
    Device,
    DeviceOption,
    JsonOption,
    OutputDirOption,
    OverwriteOption,
    pick_device,
)
from varcli.cli.output import emit, warn
from varcli.cli.progress import Display
from varcli.emitters.events import StepStarted
from varcli.errors import UsageError, VarError

if TYPE_CHECKING:
    from varcli.checkpoint import Header
    from varcli.emitters.pipeline.localize import Settings, Stopped
    from varcli.emitters.pipeline.resume import Partial
    from varcli.emitters.pipeline.survey import Microscope, Network
    from varcli.emitters.post.pipeline import Steps
    from varcli.emitters.stack.stack import Stack
    from varcli.emitters.tables import Field


@dataclass(frozen=True)
class Job:
    """Everything that was asked for, checked, with the stack opened and nothing heavy loaded yet.

    `after` is what follows on the table, None for nothing; it is no part of `call`, for no frame depends on it.
    """

    stack: "Stack"
    said: SaidMicroscope
    settings: "Settings"
    outputs: Outputs
    after: PostOutputs | None
    checkpoint: str
    header: "Header"
    device: Device
    call: dict[str, Any]

    def paths(self) -> list[Path]:
        """Every file that will be written."""
        return [*self.outputs.paths(), *(self.after.paths() if self.after else [])]


def super_resolve(
    images: Images,
    to: To = "80",
    mode: ModeOption = Mode.super_resolution,
    checkpoint: Checkpoint = "emitter-2d",
    camera: CameraOption = None,
    pixel_size: PixelSize = None,
    baseline: Baseline = None,
    e_per_adu: ElectronsPerAdu = None,
    em_gain: EmGain = None,
    qe: QuantumEfficiency = None,
    read_noise: ReadNoise = None,
    psf_sigma: PsfSigma = "auto",
    frames: FramesOption = None,
    roi: RoiOption = None,
    channel: Channel = None,
    threshold: Threshold = 0.5,
    polish: PolishOption = Polish.mle,
    formats: FormatOption = "csv",
    map_kind: MapOption = MapKind.sum,
    render: RenderOption = "10",
    render_style: StyleOption = None,
    render_depth: DepthOption = None,
    colormap: ColormapOption = None,
    gif: GifOption = False,
    fps: Fps = 2,
    filter: FilterOption = None,
    drift: Drift = DriftMethod.none,
    segments: Segments = None,
    density: Density = None,
    link: Link = False,
    gap: Gap = None,
    radius: Radius = None,
    report: Report = False,
    device: DeviceOption = Device.auto,
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
    from varcli.emitters.pipeline.localize import Settings
    from varcli.emitters.post.pipeline import Steps
    from varcli.emitters.stack.stack import Stack

    header, scales = _model(checkpoint)
    scale = _scale(to, scales)
    if not 0 < threshold < 1:
        raise UsageError(f"--threshold {threshold:g}: must be above 0 and below 1", "for example --threshold 0.5")
    said = read_said(
        camera,
        psf_sigma,
        pixel_size_nm=pixel_size,
        baseline_adu=baseline,
        e_per_adu=e_per_adu,
        em_gain=em_gain,
        qe=qe,
        read_noise_e=read_noise,
    )
    steps = read_steps(filter, drift, segments, density, link, gap, radius)
    progressive = mode is not Mode.super_resolution
    rendering = read_rendering(render, render_style, render_depth, colormap, report=report)
    drawn = (read_formats(formats), scale, map_kind.value, rendering, progressive, gif, fps)
    outputs = Outputs(output_dir, stem_of(images[0]), *drawn)
    stack = Stack.open(images, channel)
    window, to_end = read_window(stack, frames, roi)
    map_scale = None if map_kind is MapKind.none else scale
    settings = Settings(window, threshold, polish.value, batch_size, map_scale, to_end)
    after = None
    if report or steps != Steps():
        _check_steps(steps, settings)
        after = PostOutputs(output_dir, outputs.stem, steps, outputs.formats, rendering, report)
    call = _call(stack, said, settings, outputs, header, mode, device)
    job = Job(stack, said, settings, outputs, after, checkpoint, header, device, call)
    partial = _open_partial(job, overwrite)
    try:
        document, failures = _run(job, partial)
    except BaseException:
        # What was found stays for the same call to go on with; a run that found nothing leaves nothing.
        partial.close() if partial.state.frames else partial.remove()
        raise
    partial.remove()
    emit(document, _lines(document), as_json)
    for failure in failures[1:]:
        warn(failure.message)
    if failures:
        raise failures[0]


def _model(checkpoint: str) -> "tuple[Header, tuple[int, ...]]":
    """What the checkpoint says of itself, and its scales."""
    from varcli import loading

    _, header = loading.find_header(checkpoint, task="emitters")
    model = header.config["model"]
    if model.get("grid") == "absolute":
        hint = "its scales count cells of whole images: model.autoregressive_inference in Python serves them"
        raise UsageError(f"{checkpoint} has absolute grids, not cells per 40 camera pixels", hint)
    return header, tuple(int(scale) for scale in model["scales"])


def _scale(text: str, scales: tuple[int, ...]) -> int:
    """A scale of the model from "80" or "2x"; raises UsageError."""
    from varcli.emitters.config import FIELD_PX

    try:
        asked = float(text[:-1]) * FIELD_PX if text.lower().endswith("x") else float(text)
    except ValueError:
        raise UsageError(f"--to {text!r}: not a grid", "for example --to 80, or --to 2x") from None
    if asked not in scales:
        known = ", ".join(f"{scale} ({scale / FIELD_PX:g}x)" for scale in scales)
        raise UsageError(f"--to {text}: the model has no such scale", f"it has {known}")
    return int(asked)


def _check_steps(steps: "Steps", settings: "Settings") -> None:
    """Refuse steps that no table of this run could take, before it begins; raises UsageError."""
    from varcli.emitters.pipeline.chunk import no_emitters

    steps.check(no_emitters(settings.polish), settings.window.frames)


def _call(
    stack: "Stack",
    said: SaidMicroscope,
    settings: "Settings",
    outputs: Outputs,
    header: "Header",
    mode: Mode,
    device: Device,
) -> dict[str, Any]:
    """What makes two calls the same: input, checkpoint and every option that the results depend on."""
    from varcli.version import __version__

    drawn = asdict(outputs)
    for name in ("folder", "stem"):
        drawn.pop(name)
    return {
        "software": __version__,
        "input": [stack.fingerprint(), *(path.name for path in stack.paths)],
        "checkpoint": header.digest,
        "camera": said.document(),
        "psf_sigma": said.sigma_px,
        **asdict(settings),
        **{name: list(value) if isinstance(value, tuple) else value for name, value in drawn.items()},
        "mode": mode.value,
        "device": device.value,
    }


def _open_partial(job: Job, overwrite: bool) -> "Partial":
    """The state to begin with or to go on from; raises UsageError where outputs exist or it is of another call."""
    from varcli.emitters.figures.maps import refuse_huge
    from varcli.emitters.pipeline.localize import map_shape
    from varcli.emitters.pipeline.resume import Partial
    from varcli.files import ensure_output_dir, refuse_existing

    outputs, window = job.outputs, job.settings.window
    shape = map_shape(window, outputs.scale)
    refuse_huge(shape, "the map", "--roi takes a part, --map none leaves it out")
    kind = job.outputs.map_kind
    if outputs.partial.exists():
        partial = Partial(outputs.partial, job.call, kind, shape)  # type: ignore[arg-type]
        try:
            # An interrupted run that was writing may have left some of its outputs: they are its own.
            refuse_existing([path for path in job.paths() if path.name not in partial.state.writing], overwrite)
        except UsageError:
            partial.close()
            raise
        return partial
    refuse_existing(job.paths(), overwrite)
    ensure_output_dir(outputs.folder)
    return Partial(outputs.partial, job.call, kind, shape)  # type: ignore[arg-type]


def _run(job: Job, partial: "Partial") -> tuple[dict[str, Any], list[VarError]]:
    """Find, show, write and carry on; returns the document of --json, and what could not be done to its end."""
    from varcli import loading
    from varcli.emitters.network.predict import Predictor
    from varcli.emitters.pipeline.calibration import Calibration
    from varcli.emitters.pipeline.localize import ChunkDone, Given, Stopped, localize
    from varcli.emitters.pipeline.survey import Microscope
    from varcli.emitters.pipeline.trained_domain import TrainedDomain

    network = Predictor(loading.load_model(job.checkpoint, pick_device(job.device), task="emitters")[0])
    data = job.header.data
    calibration = Calibration.of(data, job.settings.polish)
    given = Given(job.said.camera, job.said.sigma_px, TrainedDomain.of(data), calibration)
    resumed_at, began = partial.state.frames, time.perf_counter()
    probed = began
    microscope, stopped = None, None
    with Display() as display:
        for event in display.follow(localize(job.stack, network, given, job.settings, done=resumed_at)):
            if isinstance(event, Microscope):
                microscope, probed = event, time.perf_counter()
                _tell(display, job.stack, microscope)
            elif isinstance(event, ChunkDone):
                partial.add(event)
            elif isinstance(event, Stopped):
                stopped = event
        assert microscope is not None
        found = time.perf_counter()
        partial.begin_writing(path.name for path in job.paths())
        document = _write(job, partial, network, microscope, stopped, display)
        written, failures = time.perf_counter(), []
        if stopped is not None:
            hint = f"the {document['frames']} frames before were analysed and written"
            failures.append(VarError(stopped.error.message, hint))
        try:
            field = field_of(microscope, job.stack, job.stack.frames)
            document["post"] = _carry_on(job.after, partial, field, document["provenance"], display)
        except VarError as error:
            document["post"] = None
            hint = f"{document['tables'][0]} is written: var post goes on from there"
            failures.append(VarError(error.message, f"{error.hint}; {hint}" if error.hint else hint))
    document["resumed_at"] = resumed_at
    steps = {"look": probed - began, "frames": found - probed, "write": written - found}
    steps["post"] = time.perf_counter() - written
    document["seconds"] = {name: round(seconds, 3) for name, seconds in steps.items()}
    document["frames_per_second"] = round((partial.state.frames - resumed_at) / max(steps["frames"], 1e-9), 1)
    return document, failures


def _tell(display: Display, stack: "Stack", microscope: "Microscope") -> None:
    """Say what is assumed and what lies outside of what the model knows."""
    for known in microscope.assumed:
        display.say(f"assumed: {known}")
    for sentence in stack.assumed:
        display.say(f"assumed: {sentence}")
    for outside in microscope.outside:
        display.warn(str(outside))


def _write(
    job: Job,
    partial: "Partial",
    network: "Network",
    microscope: "Microscope",
    stopped: "Stopped | None",
    display: Display,
) -> dict[str, Any]:
    """Write every output; returns the document of --json without its times."""
    from varcli.emitters.figures.maps import progress_of
    from varcli.emitters.pipeline.provenance import Source, provenance

    outputs, window, stack = job.outputs, job.settings.window, job.stack
    pixel_nm = microscope.camera.pixel_size_nm
    warnings = [str(outside) for outside in microscope.outside]
    health = partial.health()
    found = [*(health.warnings() if health else []), *([] if partial.state.rows else ["no emitter was found"])]
    left_out = write_render(outputs, partial, window, pixel_nm)
    if left_out:
        found.append(f"{left_out} emitters without a finite position or uncertainty are not in the rendered image")
    for warning in found:
        display.warn(warning)
    warnings += found
    source = Source(job.checkpoint, job.header)
    said = stopped.error.message if stopped else None
    meta = provenance(stack, job.settings, microscope, source, partial.state, outputs.scale, warnings, said)
    write_map(outputs, partial, window, pixel_nm)
    if outputs.picture or outputs.animation:
        scales = [scale for scale in _scales(job) if scale <= outputs.scale]
        progress = progress_of(stack, window, network, microscope, scales, job.settings.threshold)
        title = f"{outputs.stem} · frame {window.first}"
        write_progress(outputs, progress, title, display.show)
    # The table last: where it is, everything is.
    write_tables(outputs, partial, field_of(microscope, stack, stack.frames), meta)
    render = outputs.renders
    return {
        "input": [str(path) for path in stack.paths],
        "tables": [str(path) for path in outputs.tables()],
        "map": outputs.map and str(outputs.map),
        "render": render and {"tif": str(render[0]), "png": str(render[1])},
        "progressive": outputs.picture and str(outputs.picture),
        "gif": outputs.animation and str(outputs.animation),
        "frames": partial.state.frames,
        "emitters": partial.state.rows,
        "complete": stopped is None,
        "assumed": meta["assumed"],
        "warnings": warnings,
        "provenance": meta,
    }


def _carry_on(
    after: PostOutputs | None, partial: "Partial", field: "Field", meta: dict[str, Any], display: Display
) -> dict[str, Any] | None:
    """What follows on the table of the run, as `var post` does it; returns the figures, None if nothing does."""
    if after is None:
        return None
    from varcli.emitters.post.pipeline import process
    from varcli.emitters.tables import FORMATS

    source = after.folder / FORMATS[after.formats[0]].file_name(after.name)
    display.show(planned(after))
    display.show(StepStarted(READING, None))
    return carry_out(process(partial.table(meta), after.steps), after, field, [source], display)


def _scales(job: Job) -> list[int]:
    return [int(scale) for scale in job.header.config["model"]["scales"]]


def _lines(document: dict[str, Any]) -> Iterator[str]:
    files = [*document["tables"], document["map"], *(document["render"] or {}).values()]
    yield "  ".join(path for path in (*files, document["progressive"], document["gif"]) if path)
    rate = document["frames_per_second"]
    yield f"{document['emitters']} emitters in {document['frames']} frames ({rate:g} frames/s)"
    if document["post"]:
        yield from post_lines(document["post"])
