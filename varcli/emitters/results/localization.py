"""A stack localised from the first look to the last file; a run that was stopped goes on, to the same bytes."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from varcli.emitters.camera.values import values_document
from varcli.emitters.config import FIELD_PX
from varcli.emitters.events import Assumed
from varcli.emitters.figures.maps import progress_frames, progress_of, refuse_huge, save_map, save_progress
from varcli.emitters.figures.render import Renderer
from varcli.emitters.pipeline.chunk import ChunkDone, Settings, map_shape
from varcli.emitters.pipeline.localize import Given, Stopped, localize
from varcli.emitters.pipeline.provenance import Source, provenance
from varcli.emitters.pipeline.resume import Partial
from varcli.emitters.pipeline.survey import Microscope, Network
from varcli.emitters.post.pipeline import Steps
from varcli.emitters.results.files import Files, Outputs
from varcli.emitters.results.post import Merged, Postprocessed, carry_out
from varcli.emitters.stack.stack import Stack
from varcli.emitters.table import EmitterTable
from varcli.emitters.tables import Field, read_table, table_writer
from varcli.errors import VarError
from varcli.events import Event, Warned
from varcli.files import ensure_output_dir, refuse_existing
from varcli.version import __version__


class Animate(Protocol):
    """What makes an animation of frames u8 [n, H, W] and their labels."""

    def __call__(
        self, path: Path, frames: np.ndarray, labels: tuple[str, ...], title: str, fps: float
    ) -> Iterator[Event]: ...


@dataclass(frozen=True)
class Job:
    """All that is asked for, checked, with the stack opened and nothing heavy loaded yet: `load` does that.

    `files` is None where nothing is written, `after` are the steps that follow on the table; `in_memory` says whether
    the result holds the table and the map.
    """

    stack: Stack
    source: Source
    known: Given
    settings: Settings
    outputs: Outputs
    files: Files | None
    device: str
    load: Callable[[], Network]
    animate: Animate
    after: tuple[Steps, Files] | None = None
    in_memory: bool = True

    def paths(self) -> list[Path]:
        """Every file that will be written."""
        return [path for files in (self.files, self.after and self.after[1]) if files for path in files.paths()]

    def call(self) -> dict[str, Any]:
        """What makes two calls the same: input, checkpoint and every option that what is found depends on."""
        return {
            "software": __version__,
            "input": [self.stack.fingerprint(), *(path.name for path in self.stack.paths)],
            "checkpoint": self.source.header.digest,
            "camera": values_document(self.known.camera),
            "psf_sigma": self.known.sigma_px,
            **asdict(self.settings),
            **self.outputs.document(),
            "device": self.device,
        }


@dataclass(frozen=True)
class Localization:
    """What was found in a stack, and what it rests on; with `failures` it is what could be done before them."""

    stack: Stack
    microscope: Microscope
    provenance: dict[str, Any]
    files: Files | None
    post: Postprocessed | None
    failures: tuple[VarError, ...]
    resumed_at: int
    seconds: dict[str, float]
    map: np.ndarray | None = field(repr=False)
    held: EmitterTable | None = field(repr=False)

    @property
    def table(self) -> EmitterTable:
        """The emitters; where they are not held in memory, they are read from the first file written."""
        if self.held is not None:
            return self.held
        assert self.files is not None
        return read_table(self.files.tables[0], self.microscope.camera.pixel_size_nm)

    @property
    def complete(self) -> bool:
        """Whether the stack could be read to its end."""
        return self.provenance["complete"]

    @property
    def warnings(self) -> list[str]:
        """Sentences about what is doubtful."""
        return self.provenance["warnings"]

    def document(self) -> dict[str, Any]:
        """The same for JSON, without the rows."""
        files, frames, render = self.files, self.provenance["frames_done"], None
        if files is not None and files.renders:
            render = {"tif": str(files.renders[0]), "png": str(files.renders[1])}
        one = {name: files.find(ending) if files else None for name, ending in self._endings().items()}
        return {
            "input": [str(path) for path in self.stack.paths],
            "tables": [str(path) for path in files.tables] if files else [],
            "map": one["map"] and str(one["map"]),
            "render": render,
            "progressive": one["progressive"] and str(one["progressive"]),
            "gif": one["gif"] and str(one["gif"]),
            "frames": frames,
            "emitters": self.provenance["emitters"],
            "complete": self.complete,
            "assumed": self.provenance["assumed"],
            "warnings": self.warnings,
            "provenance": self.provenance,
            "post": self.post and self.post.document(),
            "resumed_at": self.resumed_at,
            "seconds": {name: round(seconds, 3) for name, seconds in self.seconds.items()},
            "frames_per_second": round((frames - self.resumed_at) / max(self.seconds["frames"], 1e-9), 1),
        }

    def _endings(self) -> dict[str, str]:
        scale = self.provenance["options"]["to"]
        return {"map": f"_to{scale}.tif", "progressive": "_progressive.png", "gif": "_progressive.gif"}


def run(job: Job, *, overwrite: bool = False) -> Iterator[Event | Localization]:
    """Localise a stack and write what is asked for: events, then the result.

    Raises UsageError where outputs exist or an unfinished run of another call is in the way, and what the pipeline
    raises; what cannot be done to its end once emitters are found is among the result's `failures`.
    """
    with _state(job, overwrite) as state:
        yield from _run(job, state)


@contextmanager
def _state(job: Job, overwrite: bool) -> Iterator[Partial]:
    """The state to begin with or to go on from, removed when all is done; one without files is never kept."""
    kind, shape = job.outputs.map, map_shape(job.settings.window, job.outputs.scale)
    if job.files is None:
        with tempfile.TemporaryDirectory(prefix="varcli-") as folder:
            state = Partial(Path(folder) / "state", {}, kind, shape)
            try:
                yield state
            finally:
                state.close()
        return
    refuse_huge(shape, "the map", "--roi takes a part, --map none leaves it out")
    going_on = job.files.partial.exists()
    if not going_on:
        refuse_existing(job.paths(), overwrite)
        ensure_output_dir(job.files.folder)
    state = Partial(job.files.partial, job.call(), kind, shape)
    keep = going_on
    try:
        # An interrupted run that was writing may have left some of its outputs: they are its own.
        refuse_existing([path for path in job.paths() if path.name not in state.state.writing], overwrite)
        keep = False
        yield state
    except BaseException:
        # What was found stays for the same call to go on with; a run that found nothing leaves nothing.
        state.close() if keep or state.state.frames else state.remove()
        raise
    state.remove()


def _run(job: Job, state: Partial) -> Iterator[Event | Localization]:
    network = job.load()
    resumed_at, began = state.state.frames, time.perf_counter()
    surveyed, microscope, stopped = began, None, None
    for event in localize(job.stack, network, job.known, job.settings, done=resumed_at):
        if isinstance(event, Stopped):
            stopped = event
        elif isinstance(event, Microscope):
            microscope, surveyed = event, time.perf_counter()
            yield from map(Assumed, (*map(str, microscope.assumed), *job.stack.assumed))
            yield from (Warned(str(outside)) for outside in microscope.outside)
        else:
            if isinstance(event, ChunkDone):
                state.add(event)
            yield event
    assert microscope is not None
    found = time.perf_counter()
    state.begin_writing(path.name for path in job.paths())
    doubts = _doubts(job, state, microscope)
    yield from map(Warned, doubts)
    meta = _provenance(job, state, microscope, stopped, doubts)
    yield from _write(job, state, network, microscope, meta)
    written, failures, post = time.perf_counter(), [], None
    if stopped is not None:
        hint = f"the {state.state.frames} frames before were analysed{' and written' if job.files else ''}"
        failures.append(VarError(stopped.error.message, hint))
    try:
        for event in _follow(job, state, microscope, meta):
            if isinstance(event, Postprocessed):
                post = event
            else:
                yield event
    except VarError as error:
        failures.append(error)
    seconds = {"look": surveyed - began, "frames": found - surveyed, "write": written - found}
    seconds["post"] = time.perf_counter() - written
    held, drawn = None, None
    if job.in_memory:
        held = state.table(_field(job, microscope).provenance(meta))
        drawn = None if job.outputs.map == "none" else np.stack(list(state.maps()))
        drawn = drawn[0] if drawn is not None and job.outputs.map == "sum" else drawn
    yield Localization(job.stack, microscope, meta, job.files, post, tuple(failures), resumed_at, seconds, drawn, held)


def _provenance(
    job: Job, state: Partial, microscope: Microscope, stopped: Stopped | None, doubts: list[str]
) -> dict[str, Any]:
    warnings = [*(str(outside) for outside in microscope.outside), *doubts]
    why = stopped.error.message if stopped else None
    return provenance(job.stack, job.settings, microscope, job.source, state.state, job.outputs.scale, warnings, why)


def _field(job: Job, microscope: Microscope) -> Field:
    """The field that tables say they belong to."""
    return Field.of(microscope.camera, job.stack.frames, job.stack.height, job.stack.width)


def _doubts(job: Job, state: Partial, microscope: Microscope) -> list[str]:
    """What is to be warned of once all frames are done; the image is rendered on the way, for it leaves some out."""
    health = state.health()
    doubts = [*(health.warnings() if health else []), *([] if state.state.rows else ["no emitter was found"])]
    left_out = _render(job, state, microscope.camera.pixel_size_nm)
    if left_out:
        doubts.append(f"{left_out} emitters without a finite position or uncertainty are not in the rendered image")
    return doubts


def _render(job: Job, state: Partial, pixel_nm: float) -> int:
    """Render the emitters of the window, if wanted; returns how many could not be drawn."""
    rendering, window = job.outputs.rendering, job.settings.window
    if job.files is None or job.files.renders is None or rendering.pixel_nm is None:
        return 0
    renderer = Renderer(window.height * pixel_nm, window.width * pixel_nm, rendering.pixel_nm)
    for table in state.tables():
        moved = replace(table, x_nm=table.x_nm - window.left * pixel_nm, y_nm=table.y_nm - window.top * pixel_nm)
        renderer.draw(moved, rendering.style)
    renderer.save(*job.files.renders, rendering)
    return renderer.left_out


def _write(job: Job, state: Partial, network: Network, microscope: Microscope, meta: dict[str, Any]) -> Iterator[Event]:
    """Write the map, the pictures, and the table last: where it is, everything is."""
    files, outputs, window = job.files, job.outputs, job.settings.window
    if files is None:
        return
    if (path := files.find(f"_to{outputs.scale}.tif")) is not None:
        frames = state.state.frames if outputs.map == "frames" else 1
        unit = "expected emitters per cell" + (", all frames" if outputs.map == "sum" else " and frame")
        cell_nm = microscope.camera.pixel_size_nm * FIELD_PX / outputs.scale
        save_map(path, state.maps(), frames, map_shape(window, outputs.scale), cell_nm, unit)
    picture, animation = files.find("_progressive.png"), files.find("_progressive.gif")
    if picture or animation:
        scales = [scale for scale in job.source.scales if scale <= outputs.scale]
        progress = progress_of(job.stack, window, network, microscope, scales, job.settings.threshold)
        title = f"{files.stem} · frame {window.first}"
        if picture:
            save_progress(picture, progress, title)
        if animation:
            yield from job.animate(animation, *progress_frames(progress), title, outputs.fps)
    for format in files.formats:
        with table_writer(format, files.folder, files.stem, _field(job, microscope), meta) as append:
            for table in state.tables():
                append(table)


def _follow(job: Job, state: Partial, microscope: Microscope, meta: dict[str, Any]) -> Iterator[Event | Postprocessed]:
    """What follows on the table, if anything; raises VarError with what is there nevertheless."""
    if job.after is None:
        return
    assert job.files is not None
    steps, files = job.after
    source = job.files.tables[0]
    field = _field(job, microscope)

    def load() -> Merged:
        return Merged(state.table(meta), (str(source),), field, {})

    try:
        yield from carry_out(load, steps, job.outputs.rendering, files)
    except VarError as error:
        hint = f"{source} is written: var post goes on from there"
        raise VarError(error.message, f"{error.hint}; {hint}" if error.hint else hint) from error
