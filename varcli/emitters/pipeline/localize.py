"""The pipeline: from a camera stack to emitters, chunks of frames shared among threads, results always in order."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from varcli.emitters.camera.values import Values
from varcli.emitters.events import FramesDone, ScaleDone, StackOpened, StackSurveyed
from varcli.emitters.pipeline.chunk import ChunkAnalysis, ChunkDone, Settings, map_shape
from varcli.emitters.pipeline.estimator import Calibration, estimator_of
from varcli.emitters.pipeline.survey import Microscope, Network, survey
from varcli.emitters.pipeline.trained_domain import TrainedDomain
from varcli.emitters.stack.stack import Stack
from varcli.emitters.stack.window import Window
from varcli.errors import VarError

__all__ = ["ChunkDone", "Event", "Given", "Settings", "Stopped", "Window", "localize", "map_shape"]

A = TypeVar("A")
B = TypeVar("B")

_MOST_WORKERS = 8  # each holds a chunk in memory


@dataclass(frozen=True)
class Given:
    """What the user gives of the microscope (None: nothing), and what the checkpoint says of the model."""

    camera: Values
    sigma_px: float | None = None
    domain: TrainedDomain = field(default_factory=TrainedDomain)
    calibration: Calibration = field(default_factory=Calibration)


@dataclass(frozen=True)
class Stopped:
    """The stack cannot be read beyond frame `frame` - 1, for this reason."""

    frame: int
    error: VarError


Event = StackOpened | StackSurveyed | Microscope | ScaleDone | FramesDone | ChunkDone | Stopped


def localize(stack: Stack, network: Network, given: Given, settings: Settings, *, done: int = 0) -> Iterator[Event]:
    """Find the emitters of a stack; `done` frames of the window were finished before and are left out.

    Yields StackOpened, StackSurveyed and the Microscope first, then for each chunk ScaleDone (per scale), ChunkDone and
    FramesDone, and Stopped where the stack cannot be read to its end. Raises VarError where its first frame cannot.
    """
    window = settings.window
    yield StackOpened(window.frames, window.height, window.width)
    estimator = estimator_of(settings.polish)
    microscope = survey(stack, window, network, estimator, given.camera, given.sigma_px, given.domain)
    yield StackSurveyed()
    yield microscope
    emitters, began, last = 0, time.perf_counter(), window.first + done
    # Chunks begin at the same frames whether a run was interrupted or not, so that rounding is the same too.
    starts = range(last, window.last, settings.chunk)
    error = stack.truncated if settings.to_end else None
    workers, threads = _shares(len(starts))
    analysis = ChunkAnalysis(
        stack, network, microscope, estimator_of(settings.polish, threads), given.calibration, settings
    )

    def analyse(start: int) -> tuple[ChunkDone | None, VarError | None]:
        return analysis.analyse(start, min(start + settings.chunk, window.last))

    for chunk, broken in in_order(analyse, starts, workers, threads):
        if chunk is not None:
            last, emitters = chunk.stop, emitters + len(chunk.table)
            for scale, (active, total) in chunk.cells.items():
                yield ScaleDone((chunk.start, chunk.stop), scale, active, total)
            yield chunk
            finished = chunk.stop - window.first
            rate = (finished - done) / max(time.perf_counter() - began, 1e-9)
            yield FramesDone(finished, window.frames, emitters, rate)
        if broken is not None:
            error = broken
            break
    if error is not None and last == window.first:
        raise error
    if error is not None:
        yield Stopped(last, error)


def in_order(work: Callable[[A], B], items: Iterable[A], workers: int, threads: int) -> Iterator[B]:
    """`work` on each item by several `workers`, each with so many `threads` of torch; results in the items' order.

    Chunks side by side keep processors busier than many threads within a chunk.
    """
    import torch

    before = torch.get_num_threads()
    waiting: deque[Future[B]] = deque()
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads,))
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        # The number of threads that new threads get is torch's own global.
        torch.set_num_threads(before)


def _shares(chunks: int) -> tuple[int, int]:
    """How many chunks to work on at a time, and with how many threads each."""
    import torch

    available = torch.get_num_threads()
    workers = max(1, min(available, chunks, _MOST_WORKERS))
    return workers, max(1, available // workers)
