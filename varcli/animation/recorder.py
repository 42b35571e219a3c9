"""The frame recorder: turns the events of one sample into a recording, without slowing the generator down."""

import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from varcli.animation.frames import INIT_LEVEL, Bounds, FramesMeta, Recording
from varcli.events import Event
from varcli.pianoroll.events import PatchDone, SampleDone, SampleStarted
from varcli.pianoroll.figures.painter import marked_intensity
from varcli.pianoroll.roll import Roll, Vocabulary


@dataclass
class _Kept:
    """One kept state: a copy u8 [P, T] of the canvas, and how far the sample was (`number` of events seen)."""

    canvas: np.ndarray
    number: int
    seconds: float
    label: str = "Init"
    level: int = INIT_LEVEL
    iteration: int = 0
    batch: int = 0
    bounds: tuple[Bounds, ...] = ()
    fresh: list[Bounds] = field(default_factory=list)


class FrameRecorder:
    """Keeps the states that one sample goes through, from its events: the empty canvas, patches, the final canvas.

    `levels` are the levels whose patches count. `every` keeps each N-th of them; "auto" keeps at most `max_frames`
    frames however many there are, doubling its stride when it runs out of room. `sample` picks the events of one
    sample of a batch; by default it is the first one that starts. A canvas is copied only when its frame is kept, and
    becomes intensities only in `recording`.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        levels: Collection[int] = (0,),
        every: int | Literal["auto"] = "auto",
        max_frames: int = 48,
        *,
        sample: int | None = None,
        title: str = "",
    ) -> None:
        if every != "auto" and every < 1:
            raise ValueError(f"every must be auto or at least 1, not {every}")
        if max_frames < 3:
            raise ValueError(f"max_frames must be at least 3, not {max_frames}")
        self._vocabulary, self._levels = vocabulary, frozenset(levels)
        self._stride = 1 if every == "auto" else every
        self._room = max_frames - 2 if every == "auto" else None  # Init and the final state have their own places
        self._sample, self._title = sample, title
        self._kept: list[_Kept] = []
        self._skipped: list[Bounds] = []
        self._count = 0
        self._began = self._seconds = 0.0
        self._live: np.ndarray | None = None
        self._last: PatchDone | None = None
        self._roll: Roll | None = None

    def on(self, event: Event) -> None:
        """Take the next event; events of other samples and levels are passed over."""
        if isinstance(event, PatchDone):
            if event.level in self._levels and event.sample == self._sample and self._live is not None:
                self._on_patch(event)
        elif isinstance(event, SampleStarted):
            if self._live is None and self._sample in (None, event.sample):
                self._sample, self._live, self._began = event.sample, event.canvas, time.perf_counter()
                self._kept.append(_Kept(event.canvas.copy(), 0, 0.0))
        elif isinstance(event, SampleDone) and event.sample == self._sample and self._live is not None:
            self._roll = event.roll

    def _on_patch(self, event: PatchDone) -> None:
        self._count += 1
        self._last, self._live = event, event.canvas
        self._seconds = time.perf_counter() - self._began
        if self._count % self._stride:
            self._skipped.extend(event.bounds)
            return
        self._kept.append(self._state(event, event.canvas.copy(), self._skipped))
        self._skipped = []
        if self._room is not None and len(self._kept) - 1 > self._room:
            self._thin()

    def _state(self, event: PatchDone, canvas: np.ndarray, fresh: list[Bounds]) -> _Kept:
        where = event.level, event.iteration, event.batch
        return _Kept(canvas, self._count, self._seconds, label_of(event), *where, event.bounds, fresh)

    def _thin(self) -> None:
        self._stride *= 2
        kept, carried = [], []
        for state in self._kept:
            if state.number % self._stride:
                carried += [*state.fresh, *state.bounds]
            else:
                kept.append(replace(state, fresh=carried + state.fresh))
                carried = []
        self._kept, self._skipped = kept, carried + self._skipped

    def recording(self) -> Recording:
        """What was recorded so far, the latest state last; raises ValueError before the sample has started."""
        if self._live is None:
            raise ValueError("nothing was recorded: the sample has not started")
        states = [*self._kept, *self._final()]
        roll = self._roll
        steps = min(roll.steps, self._live.shape[1]) if roll else self._live.shape[1]
        frames = [marked_intensity(state.canvas[:, :steps], self._vocabulary) for state in states]
        meta = FramesMeta(
            kind="roll",
            title=self._title or (roll.title if roll else ""),
            onsets=True,
            progress=tuple(state.number / max(self._count, 1) for state in states),
            bounds=tuple(_within(state.bounds, steps) for state in states),
            fresh=tuple(_within(state.fresh, steps) for state in states),
        )
        if roll is not None:
            meta = meta.model_copy(update=_grid(roll))
        return Recording(
            np.stack(frames),
            tuple(state.label for state in states),
            np.array([state.level for state in states], np.int32),
            np.array([state.iteration for state in states], np.int32),
            np.array([state.batch for state in states], np.int32),
            np.array([state.seconds for state in states], np.float64),
            meta,
            None if roll is None or roll.kept is None else roll.kept[:, :steps],
        )

    def _final(self) -> list[_Kept]:
        """The final state, unless the last frame is it already."""
        assert self._live is not None
        fits = self._roll is not None and self._roll.cells.shape == self._live.shape
        canvas = self._roll.cells if fits and self._roll else self._live
        latest = self._kept[-1]
        if self._last is not None and latest.number != self._count:
            fresh = self._skipped[: len(self._skipped) - len(self._last.bounds)]
            return [self._state(self._last, canvas.copy(), fresh)]
        if not np.array_equal(latest.canvas, canvas):
            return [
                _Kept(canvas.copy(), self._count, self._seconds, "Done", latest.level, latest.iteration, latest.batch)
            ]
        return []


def label_of(event: PatchDone) -> str:
    """What a frame is called: `AR L0 patch 45/256`, `Iter 3 batch 2`, `MAR L1 iter 2/8 batch 1`."""
    kind = event.kind.upper()
    if not event.iterations:
        return f"{kind} L{event.level} patch {event.index}/{event.total}"
    if event.level == 0:
        return f"Iter {event.iteration} batch {event.batch}"
    return f"{kind} L{event.level} iter {event.iteration}/{event.iterations} batch {event.batch}"


def _grid(roll: Roll) -> dict[str, int | tuple[int, ...] | None]:
    downbeats = None if roll.downbeats is None else tuple(map(int, roll.downbeats))
    return {"steps_per_beat": roll.steps_per_beat, "steps_per_bar": roll.steps_per_bar, "downbeats": downbeats}


def _within(bounds: tuple[Bounds, ...] | list[Bounds], steps: int) -> tuple[Bounds, ...]:
    inside = (patch for patch in bounds if patch[2] < steps)
    return tuple((int(low), int(high), int(start), min(int(stop), steps)) for low, high, start, stop in inside)
