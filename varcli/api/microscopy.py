"""The functions of `varcli` for microscopy; the commands of `var` call the same ones."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from varcli import loading
from varcli.compiled import compile_beside
from varcli.config import load_simulation
from varcli.emitters.camera.camera import Camera
from varcli.emitters.camera.file import complete_camera
from varcli.emitters.camera.values import QUANTITIES, Provenanced, Values, given_values
from varcli.emitters.config import FIELD_PX
from varcli.emitters.evaluation.metrics import Evaluation, evaluate
from varcli.emitters.figures.render import Renderer, Rendering
from varcli.emitters.fit.fit import example
from varcli.emitters.pipeline.chunk import Settings, no_emitters
from varcli.emitters.pipeline.estimator import Calibration
from varcli.emitters.pipeline.localize import Given
from varcli.emitters.pipeline.provenance import Source
from varcli.emitters.pipeline.trained_domain import TrainedDomain
from varcli.emitters.post.pipeline import Steps
from varcli.emitters.results.files import Files, Outputs, stem_of_stack, stem_of_table
from varcli.emitters.results.localization import Job, Localization, run
from varcli.emitters.results.post import Postprocessed, carry_out, merged
from varcli.emitters.results.simulation import Simulation, SimulationFiles
from varcli.emitters.results.simulation import simulate as simulate_acquisition
from varcli.emitters.simulation.config import StackConfig
from varcli.emitters.stack.array import ArrayStack, Frames
from varcli.emitters.stack.stack import Stack
from varcli.emitters.stack.window import Span, window_of
from varcli.emitters.table import EmitterTable
from varcli.emitters.tables import Field, read_table
from varcli.errors import UsageError
from varcli.events import Event, result_of
from varcli.files import ensure_output_dir, refuse_existing

StackLike = Frames | str | Path | Sequence[str | Path]
CameraLike = Camera | Mapping[str, Any] | str | Path
TableLike = EmitterTable | str | Path


def localize_events(
    stack: StackLike,
    *,
    camera: CameraLike | None = None,
    psf_sigma: float | None = None,
    checkpoint: str | Path = "emitter-2d",
    frames: Span | None = None,
    roi: tuple[Span, Span] | None = None,
    channel: int | None = None,
    threshold: float = 0.5,
    estimator: Literal["mle", "none"] = "mle",
    batch_size: int | None = None,
    device: str = "auto",
    outputs: Outputs | None = None,
    output_dir: str | Path | None = None,
    steps: Steps | None = None,
    report: bool = False,
    overwrite: bool = False,
    in_memory: bool = True,
) -> Iterator[Event | Localization]:
    """Find the emitters in a camera stack; what is not given of the microscope is read from the file or estimated.

    `stack` is a path, several that follow each other, or an array of frames [n, Y, X] in ADU: in memory, or any that
    has a shape and a dtype and can be sliced. `camera` is a camera.toml, a `Camera`, or a dictionary of some of its
    fields; `psf_sigma` the width of the PSF in pixels. `frames` (first, last) and `roi` ((left, right), (top, bottom))
    are half-open. `estimator` "mle" fits all emitters jointly, "none" keeps the network's answer. With `output_dir` the
    files of `outputs` are written there as `var super-resolve` writes them, and a call that was stopped goes on when it
    is made again; `steps` and `report` carry on with the table as `postprocess` does. With `in_memory` False the table
    stays on disk. Raises UsageError for what cannot be asked for, VarError for a stack that cannot be read.
    """
    outputs = outputs or Outputs()
    source = _source(str(checkpoint), outputs)
    if not 0 < threshold < 1:
        raise UsageError(f"--threshold {threshold:g}: must be above 0 and below 1", "for example --threshold 0.5")
    if psf_sigma is not None and not 0.1 <= psf_sigma <= 20:
        hint = "for example --psf-sigma 1.3, or auto"
        raise UsageError(f"--psf-sigma {psf_sigma:g}: not a width from 0.1 to 20 pixels", hint)
    given = _given(camera)
    opened = _opened(stack, channel)
    window, to_end = window_of(opened, frames, roi)
    settings = Settings(window, threshold, estimator, batch_size, outputs.map_scale, to_end)
    stem = stem_of_stack(opened.paths[0]) if opened.paths else "stack"
    files = after = None
    if output_dir is not None:
        files = Files.of_stack(Path(output_dir), stem, outputs)
        if report or steps not in (None, Steps()):
            steps = steps or Steps()
            steps.check(no_emitters(estimator), window.frames)
            after = steps, Files.of_steps(Path(output_dir), stem, outputs, steps, report=report)
    data = source.header.data
    known = Given(given, psf_sigma, TrainedDomain.of(data), Calibration.of(data, estimator))
    device, load = str(device), lambda: _network(str(checkpoint), str(device), estimator)
    yield from run(
        Job(opened, source, known, settings, outputs, files, device, load, _animate, after, in_memory),
        overwrite=overwrite,
    )


localize = result_of(localize_events)


def _network(checkpoint: str, device: str, estimator: str) -> Any:
    if estimator == "mle":
        compile_beside(example)  # while the network is loaded and the stack surveyed
    from varcli.emitters.network import predict

    return predict.Predictor(loading.load_model(checkpoint, loading.pick_device(device), task="emitters")[0])


def _source(checkpoint: str, outputs: Outputs) -> Source:
    """What a checkpoint says of itself; raises UsageError where it has not the scale of the outputs."""
    source = Source(checkpoint, loading.find_header(checkpoint, task="emitters")[1])
    if source.header.config["model"].get("grid") == "absolute":
        hint = "its scales count cells of whole images: model.autoregressive_inference in Python serves them"
        raise UsageError(f"{checkpoint} has absolute grids, not cells per 40 camera pixels", hint)
    if outputs.scale not in source.scales:
        there = ", ".join(f"{scale} ({scale / FIELD_PX:g}x)" for scale in source.scales)
        raise UsageError(f"--to {outputs.scale:g}: the model has no such scale", f"it has {there}")
    return source


def _given(camera: CameraLike | None) -> Values:
    """What is given of a camera, checked."""
    if isinstance(camera, str | Path):
        return complete_camera(Path(camera))
    if isinstance(camera, Camera):
        return given_values(**vars(camera) | {"em_gain": camera.em_gain or 0.0})
    if unknown := [name for name in camera or {} if name not in QUANTITIES]:
        raise UsageError(f"camera: no field {unknown[0]!r}", f"fields: {', '.join(QUANTITIES)}")
    checked = {name: value for name, value in (camera or {}).items() if isinstance(value, Provenanced)}
    return checked | given_values("camera: ", **{n: v for n, v in (camera or {}).items() if n not in checked})


def _opened(stack: StackLike, channel: int | None) -> Stack:
    if isinstance(stack, str | Path):
        return Stack.open([Path(stack)], channel)
    if isinstance(stack, list | tuple):
        return Stack.open([Path(path) for path in stack], channel)
    return ArrayStack.of(stack)  # pyright: ignore[reportArgumentType]


def _animate(path: Path, frames: np.ndarray, labels: tuple[str, ...], title: str, fps: float) -> Iterator[Event]:
    from varcli.animation.draw import AnimationOptions
    from varcli.animation.encode import animate
    from varcli.animation.frames import FramesMeta, Recording

    seconds = np.zeros(len(frames))
    zeros, level = seconds.astype(np.int32), np.arange(-1, len(frames) - 1, dtype=np.int32)
    recording = Recording(frames, labels, level, zeros, zeros, seconds, FramesMeta(kind="image", title=title))
    # Counts of drawn cells would say nothing of emitters: every cell of a coarse scale expects a little.
    for event in animate([recording], path, fps, AnimationOptions(colormap="inferno", stats=False)):
        if isinstance(event, Event):
            yield event


def postprocess_events(
    tables: TableLike | Sequence[TableLike],
    steps: Steps | None = None,
    *,
    frames: Literal["append", "keep"] = "append",
    sort: bool = False,
    pixel_size_nm: float | None = None,
    outputs: Outputs | None = None,
    output_dir: str | Path | None = None,
    report: bool = False,
    overwrite: bool = False,
) -> Iterator[Event | Postprocessed]:
    """Merge tables, take the steps after localisation (filter, drift, density, linking), and measure what is left.

    `frames` of each table come after those before, or stay as they are; `sort` sorts frames that are out of order. With
    `output_dir` the formats and the rendering of `outputs` and a `report` are written there as `var post` writes them.
    Raises UsageError for what cannot be asked for, VarError for tables that cannot be read or steps that leave nothing.
    """
    steps = steps or Steps()
    outputs = outputs or Outputs(rendering=Rendering(None))
    several = [tables] if isinstance(tables, EmitterTable | str | Path) else tables
    sources = [source if isinstance(source, EmitterTable) else Path(source) for source in several]
    paths = [source for source in sources if isinstance(source, Path)]
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: no such file", "give a table of emitters")
    files = None
    if output_dir is not None:
        name = stem_of_table(paths[0]) if paths else "table"
        files = Files.of_steps(Path(output_dir), name, outputs, steps, report=report)
        if {path.resolve() for path in files.paths()} & {path.resolve() for path in paths}:
            raise UsageError("a table would be written over itself", "choose another --output-dir")
        refuse_existing(files.paths(), overwrite)
    yield from carry_out(lambda: merged(sources, pixel_size_nm, frames, sort), steps, outputs.rendering, files)


postprocess = result_of(postprocess_events)


def evaluate_emitters(
    found: TableLike,
    truth: TableLike,
    *,
    radius_nm: float = 250.0,
    border_nm: float = 450.0,
    size_nm: tuple[float, float] | None = None,
    pixel_size_nm: float | None = None,
    least_photons: float = 0.0,
) -> Evaluation:
    """Score emitters against the true ones of the same frames: as many pairs as possible within `radius_nm`.

    `size_nm` is the width and height of the field, by default what the tables say of it; `border_nm` at its edge is
    left unscored, and true emitters below `least_photons` count neither for nor against. Raises UsageError where there
    are no such tables or nothing of the field is left.
    """
    ours, real = (
        table if isinstance(table, EmitterTable) else read_table(table, pixel_size_nm) for table in (found, truth)
    )
    return evaluate(ours, real, radius_nm, border_nm, size_nm, pixel_size_nm, least_photons)


def simulate_events(
    source: StackConfig | str | Path = "blinking",
    settings: Mapping[str, Any] | Sequence[str] = (),
    *,
    seed: int = 0,
    device: str = "cpu",
    output: str | Path | None = None,
    overwrite: bool = False,
) -> Iterator[Event | Simulation]:
    """Simulate a camera stack of blinking molecules, with the truth: every molecule in every frame.

    `source` is a preset's name, a TOML file or a config; `settings` change single values of it, by their names, such as
    {"frames": 100, "molecules.density_per_um2": 0.2}. With `output`, a .tif, the stack is written there, the truth and
    the camera beside it, as `var simulate emitters` writes them; without it all is held in memory. Equal seeds give
    equal frames. Raises UsageError for what cannot be simulated.
    """
    if isinstance(settings, Mapping):
        settings = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
    files = None if output is None else SimulationFiles(Path(output))
    if files is not None and files.stack.suffix.lower() not in {".tif", ".tiff"}:
        raise UsageError(f"--output {output}: not a .tif", "for example --output stack.tif")
    config = source if isinstance(source, StackConfig) else load_simulation(source, settings)
    if files is not None:
        refuse_existing(files.paths(), overwrite)
        ensure_output_dir(files.stack.parent)
    folder = Path(source).parent if isinstance(source, str | Path) and Path(source).is_file() else Path()
    yield from simulate_acquisition(config, seed, loading.pick_device(device), folder, files)


simulate = result_of(simulate_events)


def render(
    table: TableLike, pixel_nm: float = 10.0, *, style: Literal["gaussian", "histogram"] | None = None
) -> np.ndarray:
    """The image of a table, float32 [H, W] with pixels of `pixel_nm`, whose sum is the number of emitters drawn.

    An emitter is the Gaussian of its uncertainty, where the table says them, or a count in its pixel ("histogram").
    """
    table = table if isinstance(table, EmitterTable) else read_table(table)
    field, _ = Field.of_tables([table])
    renderer = Renderer(field.height * field.pixel_size_nm, field.width * field.pixel_size_nm, pixel_nm)
    renderer.draw(table, style)
    return renderer.image_HW
