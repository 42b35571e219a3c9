"""What generators yield while they work: the events that both families share, and a way for those of no generator.

Plain frozen dataclasses: the progress display, the frame recorder and the tests all read the same ones. Each family has
its own beside these, in its `events.py`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TypeVar
from warnings import warn

from varcli.errors import in_python

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Event:
    """Something that a generator tells while it works; every event is a frozen dataclass."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Warned(Event):
    """Something that the caller should know, in one line; the work goes on. As text, `in_python`."""

    message: str

    def __str__(self) -> str:
        return in_python(self.message)


def result_of(events: Callable[Parameters, Iterator[Event | Result]]) -> Callable[Parameters, Result]:
    """The function that takes what `events` takes and returns its last item, the result.

    The events before are passed over; what is warned of, and the `failures` of a result that is only a part of what was
    asked for, become warnings of Python.
    """

    @wraps(events)
    def run(*args: Parameters.args, **options: Parameters.kwargs) -> Result:
        result = None
        for result in events(*args, **options):
            if isinstance(result, Warned):
                warn(str(result), stacklevel=2)
        for failure in getattr(result, "failures", ()):
            warn(f"incomplete: {failure}", stacklevel=2)
        return result  # pyright: ignore[reportReturnType]

    run.__name__ = events.__name__.removesuffix("_events")
    return run


@dataclass(frozen=True, slots=True)
class FilesRead(Event):
    """`done` of `total` files of a corpus are read; `name` is the last one."""

    done: int
    total: int
    name: str


@dataclass(frozen=True, slots=True)
class TrainStep(Event):
    """One optimiser step is done. `nats_per_frame` is the training NLL estimate of this step, `lr` the rate used."""

    step: int
    total: int
    loss: float
    nats_per_frame: float
    lr: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Validated(Event):
    """The EMA weights were scored on validation data at `step`; `best` says whether it is the lowest so far."""

    step: int
    nats_per_frame: float
    bits_per_level: tuple[float, ...]
    best: bool


@dataclass(frozen=True, slots=True)
class CheckpointSaved(Event):
    """`path` was written whole at `step`."""

    step: int
    path: str


@dataclass(frozen=True, slots=True)
class FrameDrawn(Event):
    """`done` of `total` frames of an animation are drawn."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Compiling(Event):
    """The function `name` is being compiled, number `number` of about `total` of one piece; beyond `total`, all are."""

    name: str
    number: int
    total: int


_watchers: list[Callable[[Event], None]] = []


def report(event: Event) -> None:
    """Hand on an event that comes from no generator; a warning that nobody watches for becomes one of Python."""
    for watcher in _watchers:
        watcher(event)
    if isinstance(event, Warned) and not _watchers:
        warn(event.message, stacklevel=2)


@contextmanager
def watching(watcher: Callable[[Event], None]) -> Iterator[None]:
    """Let `watcher` have the events that are reported meanwhile."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)
