"""The pipeline: from a camera stack to emitters, a chunk of frames at a time, in constant memory and always in order.

Legend: n frames of a chunk, E emitters, Y X camera pixels.
"""

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from varcli.emitters.calibration import Calibration
from varcli.emitters.domain import TrainedDomain
from varcli.emitters.hot import filled
from varcli.emitters.model_config import FIELD_PX
from varcli.emitters.polish import Found, Polish, polish_of
from varcli.emitters.predict import Prediction
from varcli.emitters.probe import Microscope, Network, Window, look
from varcli.emitters.said_camera import SaidCamera
from varcli.emitters.stack import Stack, StackHealth
from varcli.emitters.table import EmitterTable
from varcli.errors import VarError
from varcli.events import FramesDone, ScaleDone, StackOpened, StackProbed

T = TypeVar("T")

_CHUNK_PIXELS = 1 << 21
_CHUNK_FRAMES = 256
_CANDIDATES = 0.5  # probability from which on a candidate is looked at


@dataclass(frozen=True)
class Settings:
    """What to do with a stack.

    `window` is the part to analyse, `to_end` whether it is meant to reach the stack's end, `polish` "mle" or "none",
    `batch_size` the frames at a time (None: by their size), `map_scale` the scale whose expected counts are wanted.
    """

    window: Window
    threshold: float = 0.5
    polish: str = "mle"
    batch_size: int | None = None
    map_scale: int | None = None
    to_end: bool = True

    @property
    def chunk(self) -> int:
        """Frames at a time."""
        pixels = self.window.height * self.window.width
        return self.batch_size or max(1, min(_CHUNK_FRAMES, _CHUNK_PIXELS // pixels))


@dataclass(frozen=True)
class Knowledge:
    """What the user says of the microscope (None: nothing), and what the checkpoint says of the model."""

    camera: SaidCamera
    sigma_px: float | None = None
    domain: TrainedDomain = field(default_factory=TrainedDomain)
    calibration: Calibration = field(default_factory=Calibration)


@dataclass(frozen=True)
class ChunkDone:
    """Emitters of frames `start` to `stop` - 1 of the stack, sorted by frame, then y, then x.

    `counts` are expected emitters per cell of the map's scale [n, rows, columns], if wanted; `cells` those worked out
    and in all, by scale; `health` what was seen of the frames.
    """

    start: int
    stop: int
    table: EmitterTable
    counts: np.ndarray | None
    cells: dict[int, tuple[int, int]]
    health: StackHealth


@dataclass(frozen=True)
class Stopped:
    """The stack cannot be read beyond frame `frame` - 1, for this reason."""

    frame: int
    error: VarError


@dataclass(frozen=True)
class _Read:
    start: int
    frames_e: np.ndarray
    prediction: Prediction
    unusable: np.ndarray | None
    health: StackHealth


Event = StackOpened | StackProbed | ScaleDone | FramesDone | ChunkDone | Stopped


def localize(
    stack: Stack, network: Network, knowledge: Knowledge, settings: Settings, *, done: int = 0
) -> Iterator[Event]:
    """Find the emitters of a stack; `done` frames of the window were finished before and are left out.

    Yields StackOpened and StackProbed first, then for each chunk ScaleDone (per scale), ChunkDone and FramesDone, and
    Stopped where the stack cannot be read to its end. Raises VarError where not even its first frame can.
    """
    polish = polish_of(settings.polish)
    window = settings.window
    yield StackOpened(window.frames, window.height, window.width)
    microscope = look(stack, window, network, polish, knowledge.camera, knowledge.sigma_px, knowledge.domain)
    yield StackProbed(window.frames, window.height, window.width, microscope)
    emitters, began = 0, time.perf_counter()
    last = window.first + done
    predicted = ahead(_predicted(stack, network, microscope, settings, window.first + done))
    for item in predicted:
        if isinstance(item, VarError):
            if last == window.first:
                raise item
            yield Stopped(last, item)
            return
        chunk = _finished(item, microscope, polish, knowledge.calibration, settings)
        last, emitters = chunk.stop, emitters + len(chunk.table)
        for scale, (active, total) in chunk.cells.items():
            yield ScaleDone((chunk.start, chunk.stop), scale, active, total)
        yield chunk
        finished = chunk.stop - window.first
        rate = (finished - done) / max(time.perf_counter() - began, 1e-9)
        yield FramesDone(finished, window.frames, emitters, rate)


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items in the same order, the next one always in the making in another thread."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]


def _predicted(
    stack: Stack, network: Network, microscope: Microscope, settings: Settings, first: int
) -> Iterator[_Read | VarError]:
    """Chunks read and predicted; the last item is the error where the stack cannot be read further."""
    window = settings.window
    scales = () if settings.map_scale is None else (settings.map_scale,)
    # Chunks begin at the same frames whether a run was interrupted or not, so that rounding is the same too.
    for start in range(first, window.last, settings.chunk):
        frames_adu, error = _readable(stack, window, start, min(start + settings.chunk, window.last))
        if len(frames_adu):
            health = StackHealth.of(stack)
            health.add(start, frames_adu)
            saturated = frames_adu >= health.limit if health.saturated else None
            frames_e = microscope.camera.to_electrons(frames_adu)
            # What the network doubts may still be judged by the image: the threshold comes after that.
            threshold = min(settings.threshold, _CANDIDATES)
            hot = microscope.hot
            seen = frames_e if hot is None else filled(frames_e, hot)
            prediction = network.predict(seen, microscope.conditions, threshold=threshold, scales=scales)
            if hot is not None and hot.any():
                saturated = hot[None] if saturated is None else saturated | hot
            yield _Read(start, frames_e, prediction, saturated, health)
        if error is not None:
            yield error
            return
    if stack.truncated is not None and settings.to_end:
        yield stack.truncated


def _readable(stack: Stack, window: Window, start: int, stop: int) -> tuple[np.ndarray, VarError | None]:
    """Frames of the window up to the first one that cannot be read, and why it cannot."""
    try:
        return window.read(stack, start, stop), None
    except VarError:
        frames = [np.zeros((0, window.height, window.width), stack.dtype)]
        for frame in range(start, stop):
            try:
                frames.append(window.read(stack, frame, frame + 1))
            except VarError as error:
                return np.concatenate(frames), error
        raise


def _finished(
    read: _Read, microscope: Microscope, polish: Polish, calibration: Calibration, settings: Settings
) -> ChunkDone:
    frames_e = read.frames_e
    if read.unusable is not None and settings.polish != "none":
        # A saturated pixel says only "at least", a hot one nothing: they have no part in the fit.
        frames_e = np.where(read.unusable, np.float32(np.nan), frames_e)
    candidates, beliefs = read.prediction.candidates, microscope.beliefs
    found = polish.emitters(frames_e, candidates, microscope.noise, microscope.psf, beliefs)
    found = replace(found, probability=calibration.probability(found.probability))
    found = found.rows(found.probability >= settings.threshold)
    found = found.rows(np.lexsort((found.x_px, found.y_px, found.frame)))
    counts = None
    if settings.map_scale is not None:
        rows, columns = map_shape(settings.window, settings.map_scale)
        counts = read.prediction.counts[settings.map_scale][:, :rows, :columns]
    cells = {scale: (count, read.prediction.of_cells[scale]) for scale, count in read.prediction.cells.items()}
    table = table_of(found, microscope, settings.window, read.start, calibration)
    return ChunkDone(read.start, read.start + len(frames_e), table, counts, cells, read.health)


def map_shape(window: Window, scale: int) -> tuple[int, int]:
    """Rows and columns of the map of a scale: as many as the window has pixels, times cells per pixel."""
    return math.ceil(window.height * scale / FIELD_PX), math.ceil(window.width * scale / FIELD_PX)


def table_of(
    found: Found, microscope: Microscope, window: Window, first_frame: int, calibration: Calibration
) -> EmitterTable:
    """Emitters in nm from the corner of the whole frame, and in photons."""
    camera, psf = microscope.camera, microscope.psf
    nm, qe = camera.pixel_size_nm, camera.qe
    position, photons = nm * calibration.position_factor, calibration.photon_factor / qe
    noise = np.sqrt(camera.excess * np.maximum(found.background, 0) + float(np.mean(camera.read_variance)))
    return EmitterTable(
        frame=found.frame.astype(np.int64) + first_frame,
        x_nm=(found.x_px + window.left) * nm,
        y_nm=(found.y_px + window.top) * nm,
        photons=found.electrons / qe,
        background=found.background / qe,
        background_std=noise / qe,
        psf_sigma_nm=np.full(len(found), psf.sigma_px * nm),
        sd_x_nm=found.sd_x_px * position,
        sd_y_nm=found.sd_y_px * position,
        sd_photons=found.sd_electrons * photons,
        sd_background=None if found.sd_background is None else found.sd_background / qe,
        crlb_xy_nm=found.crlb_px * nm,
        probability=found.probability,
    )
