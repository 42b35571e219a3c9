"""Parsing many MIDI files, on several processes where that pays."""

import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np

from varcli.errors import VarError
from varcli.pianoroll.corpus.sources import Sources
from varcli.pianoroll.roll import Vocabulary
from varcli.pianoroll.score.beats import parse_beats
from varcli.pianoroll.score.midi import LossReport, read_midi, split_top_line
from varcli.pianoroll.score.voices import TrackRule

_FEW_FILES = 32  # below this, starting processes takes longer than it saves
_IN_FLIGHT = 16  # files per process whose content is held in memory


@dataclass(frozen=True)
class Settings:
    """What the cells of a piece depend on, beside its file."""

    steps_per_beat: int
    vocabulary: Vocabulary
    drums: bool
    voices: TrackRule | None = None


@dataclass(frozen=True)
class Parsed:
    """A file on the grid: cells u8 [128, T], steps (i32) of bar starts, its usual bar and what the grid cost.

    `voices` are the canvases u8 [128, T] of its voices, none if they were not asked for; `note` says what was decided
    about them (see `split_top_line`); `beat_units` are those of `Roll`.
    """

    name: str
    cells: np.ndarray
    downbeats: np.ndarray
    loss: LossReport
    steps_per_bar: int
    voices: Mapping[str, np.ndarray]
    note: str
    beat_units: Mapping[int, int]


@dataclass(frozen=True)
class Unread:
    """A file that could not be read, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class _Job:
    name: str
    midi: bytes
    beats: bytes | None


def parse_all(sources: Sources, settings: Settings, workers: int | None) -> Iterator[Parsed | Unread]:
    """Parse every file in the order of the names, on `workers` processes (None: one per core).

    Raises VarError if a process dies.
    """
    processes = min(workers or os.cpu_count() or 1, len(sources.names))
    jobs = (_load(sources, name) for name in sources.names)
    if processes == 1 or (workers is None and len(sources.names) < _FEW_FILES):
        for job in jobs:
            yield job if isinstance(job, Unread) else _parse_one(job, settings)
        return
    # Spawned, not forked: the caller may hold threads (torch) that a fork would break.
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield from _in_order(pool, jobs, settings, processes * _IN_FLIGHT)
    except BrokenProcessPool:
        hint = "out of memory? in a script of your own, call it below `if __name__ == '__main__':`, or with workers=1"
        raise VarError("a process that parses MIDI died", hint) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(
    pool: ProcessPoolExecutor, jobs: Iterable[_Job | Unread], settings: Settings, in_flight: int
) -> Iterator[Parsed | Unread]:
    waiting: deque[Unread | Future[Parsed | Unread]] = deque()
    for job in jobs:
        waiting.append(job if isinstance(job, Unread) else pool.submit(_parse_one, job, settings))
        if len(waiting) >= in_flight:
            yield _result(waiting.popleft())
    while waiting:
        yield _result(waiting.popleft())


def _result(entry: Unread | Future[Parsed | Unread]) -> Parsed | Unread:
    return entry if isinstance(entry, Unread) else entry.result()


def _load(sources: Sources, name: str) -> _Job | Unread:
    try:
        annotation = sources.annotations.get(name)
        return _Job(name, sources.read(name), sources.read(annotation) if annotation else None)
    except VarError as error:
        return _unread(name, error)


def _parse_one(job: _Job, settings: Settings) -> Parsed | Unread:
    try:
        beats = None if job.beats is None else parse_beats(job.beats.decode("utf-8", "replace"), "its beat annotation")
        piece = read_midi(
            job.midi,
            steps_per_beat=settings.steps_per_beat,
            vocabulary=settings.vocabulary,
            drums=settings.drums,
            beats=beats,
            voices=settings.voices,
            name=job.name,
        )
        piece = split_top_line(piece)
    except VarError as error:
        return _unread(job.name, error)
    roll = piece.roll
    downbeats = np.array(roll.downbeats or (), np.int32)
    voices, units = roll.voices or {}, roll.beat_units
    return Parsed(job.name, roll.cells, downbeats, piece.loss, roll.steps_per_bar, voices, piece.note, units)


def _unread(name: str, error: VarError) -> Unread:
    return Unread(name, error.message.removeprefix(f"{name}: "))
