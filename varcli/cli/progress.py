"""Progress on stderr that mirrors the events: nested bars on a terminal, a plain line every few seconds elsewhere.

Events may come tens of thousands of times a second, so each is only kept; drawing happens by the clock.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, TextIO, TypeVar

from varcli.emitters.events import (
    Assumed,
    FramesDone,
    FramesSimulated,
    PairsCorrelated,
    ScaleDone,
    StackOpened,
    StackSurveyed,
    StepsPlanned,
    StepStarted,
)
from varcli.events import Compiling, FilesRead, FrameDrawn, TrainStep, Validated, Warned, watching
from varcli.pianoroll.events import LevelStarted, MetricCompared, PatchDone, PieceScored, SampleDone, SampleStarted

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import TaskID

    from varcli.pianoroll.figures.terminal import RollView

E = TypeVar("E")
C = TypeVar("C", FilesRead, PieceScored, MetricCompared, FramesSimulated, FrameDrawn)

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_DRAWS = 0.1
# A slow terminal is drawn to less often, so that drawing never takes more than this share of the time.
_DRAWING_SHARE = 0.03


@dataclass(frozen=True)
class Row:
    """One bar: `done` of `total`, the words before it, and the numbers behind it."""

    label: str
    done: float
    total: float
    note: str = ""

    def __str__(self) -> str:
        return f"{self.label} {self.note}".rstrip()


@dataclass
class Status:
    """The latest of each kind of event, and the rows that say it."""

    latest: dict[type, object] = field(default_factory=dict)
    levels: dict[int, LevelStarted | PatchDone] = field(default_factory=dict)
    scales: dict[int, ScaleDone] = field(default_factory=dict)
    active: dict[int, float] = field(default_factory=dict)
    samples_done: int = 0

    def absorb(self, event: object) -> None:
        """Keep what a row may say of `event`; cheap, for it is called for every event."""
        if isinstance(event, PatchDone):
            self.levels[event.level] = event
            if event.level == 0:
                self.active[event.sample] = event.index / event.total
        elif isinstance(event, LevelStarted):
            self.levels[event.level] = event
        elif isinstance(event, ScaleDone):
            self.scales[event.scale] = event
        else:
            before, self.latest[type(event)] = self.latest.get(type(event)), event
            if isinstance(event, StepStarted):
                self.latest.pop(PairsCorrelated, None)
            if isinstance(event, SampleStarted):
                # Those that are ranked, or whose plan is taken, are done before the ones that are written begin.
                if isinstance(before, SampleStarted) and self.samples_done >= before.total and not self.active:
                    self.samples_done = 0
                self.active[event.sample] = 0.0
                self.levels.clear()
            elif isinstance(event, SampleDone):
                self.active.pop(event.sample, None)
                self.samples_done += 1

    def rows(self) -> list[Row]:
        """The bars to show now, coarse to fine."""
        return [
            *self._counted("files", FilesRead, lambda of: f"· {of.name}", shown=len(self.latest) == 1),
            *(_compiling(event) for event in self._all(Compiling) if event.number <= event.total),
            *self._sampling(),
            *self._stack(),
            *self._steps(),
            *self._counted("pieces", PieceScored, lambda of: f"· {of.nats_per_frame:.3f} nats/frame"),
            *(_training(event) for event in self._all(TrainStep)),
            *(_validated(event) for event in self._all(Validated)),
            *self._counted("metrics", MetricCompared, lambda of: f"· {of.name}"),
            *self._counted("frames", FramesSimulated, lambda of: f"· {of.emitters} emitters"),
            *self._counted("frames", FrameDrawn, lambda _: "drawn", shown=not self.samples_done),
        ]

    def finished(self) -> str:
        """What to say at the end, in a few words; empty if nothing happened."""
        for event in self._all(SampleStarted):
            return f"{self.samples_done} of {event.total} sample{'s' if event.total != 1 else ''} done"
        for event in self._all(FramesDone):
            return f"frames {_found(event)}"
        for event in self._all(StepsPlanned):
            return f"{len(event.names)} steps done"
        return " · ".join(map(str, self.rows()))

    def _all(self, kind: type[E]) -> Iterator[E]:
        event = self.latest.get(kind)
        if isinstance(event, kind):
            yield event

    def _counted(self, label: str, kind: type[C], said: Callable[[C], str], *, shown: bool = True) -> Iterator[Row]:
        """How many of a kind there are, and what is said of the latest; once all are there, where they are `shown`."""
        for event in self._all(kind):
            if shown or event.done < event.total:
                yield Row(label, event.done, event.total, f"{event.done}/{event.total} {said(event)}")

    def _sampling(self) -> Iterator[Row]:
        started = self.latest.get(SampleStarted)
        if not isinstance(started, SampleStarted):
            return
        numbers = sorted(self.active) or [started.sample]
        label = f"sample {numbers[0] + 1}" + (f"-{numbers[-1] + 1}" if len(numbers) > 1 else "")
        done = self.samples_done + sum(self.active.values())
        yield Row(f"{label}/{started.total}", done, started.total)
        yield from (_level(self.levels[level]) for level in sorted(self.levels))

    def _stack(self) -> Iterator[Row]:
        """Frames of a stack, then what each scale did of the latest ones."""
        for opened in self._all(StackOpened):
            done = self.latest.get(FramesDone)
            if isinstance(done, FramesDone):
                yield Row("frames", done.done, done.total, _found(done))
            else:
                looking = "" if StackSurveyed in self.latest else " · looking at the stack"
                yield Row("frames", 0, opened.frames, f"0/{opened.frames}{looking}")
            if StepsPlanned not in self.latest:
                yield from (_scale(self.scales[scale]) for scale in sorted(self.scales))

    def _steps(self) -> Iterator[Row]:
        """The step that tables are in, and the pairs of the drift."""
        for planned in self._all(StepsPlanned):
            for started in self._all(StepStarted):
                number, total = planned.names.index(started.name) + 1, len(planned.names)
                of = "" if started.localizations is None else f" · {started.localizations:,} localisations"
                yield Row("step", number - 1, total, f"{number}/{total} · {started.name}{of}")
            for pairs in self._all(PairsCorrelated):
                yield Row("  pairs", pairs.done, pairs.total, f"{pairs.done}/{pairs.total}")


def _found(event: FramesDone) -> str:
    return f"{event.done}/{event.total} · {event.fps:.3g} frames/s · {event.emitters} emitters"


def _scale(event: ScaleDone) -> Row:
    share = 100 * event.cells_active / max(event.cells_total, 1)
    return Row(f"  scale {event.scale}", event.cells_active, event.cells_total, f"{share:.0f}% of cells worked out")


def _level(event: LevelStarted | PatchDone) -> Row:
    label = f"{'  ' * event.level}level {event.level}"
    index, iteration = (event.index, event.iteration) if isinstance(event, PatchDone) else (0, 0)
    note = f"iteration {iteration}/{event.iterations}" if event.iterations else f"patch {index}/{event.total}"
    if event.iterations and isinstance(event, PatchDone):
        note += f" · batch {event.batch}"
    return Row(label, index, event.total, note)


def _compiling(event: Compiling) -> Row:
    note = f"{event.number}/{event.total} · {event.name} (only when first used)"
    return Row("compiling", event.number - 1, event.total, note)


def _training(event: TrainStep) -> Row:
    note = f"{event.step}/{event.total} · loss {event.loss:.4g} · {event.nats_per_frame:.3f} nats/frame"
    return Row("step", event.step, event.total, f"{note} · lr {event.lr:.2e} · {event.seconds:.3g} s/step")


def _validated(event: Validated) -> Row:
    best = ", the best so far" if event.best else ""
    return Row("validated", 1, 1, f"at step {event.step}: {event.nats_per_frame:.3f} nats/frame{best}")


class Display:
    """Shows events while they pass; a context manager, so that the bars are taken down whatever happens."""

    def __init__(
        self,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.perf_counter,
        view: "RollView | None" = None,
    ) -> None:
        """On a terminal `view` is shown above the bars."""
        self._stream = stream or sys.stderr
        self._clock = clock
        self._status = Status()
        self._view = view
        self._bars = _Bars(self._stream, view) if self._stream.isatty() else None
        self._started = self._next = 0.0
        self._watching = watching(self.show)

    def __enter__(self) -> "Display":
        self._started = self._clock()
        self._next = self._started + (0.0 if self._bars else SECONDS_BETWEEN_LINES)
        if self._bars:
            self._bars.start()
        self._watching.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watching.__exit__(kind, error, trace)
        if self._bars:
            self._bars.stop()
        elif kind is None and (said := self._status.finished()):
            self._say(said)

    def follow(self, events: Iterable[E]) -> Iterator[E]:
        """Pass `events` on, showing each; what is warned of or assumed is printed and goes no further."""
        for event in events:
            self.show(event)
            if not isinstance(event, Warned | Assumed):
                yield event

    def result(self, events: Iterable[object], kind: type[E]) -> E:
        """Show `events` and return the last, which is the result."""
        result = None
        for event in self.follow(events):
            result = event
        assert isinstance(result, kind)
        return result

    def show(self, event: object) -> None:
        """Print what is warned of or assumed; take note of any other event and draw if it is time."""
        if isinstance(event, Warned):
            return self.warn(event.message)
        if isinstance(event, Assumed):
            return self.say(f"assumed: {event.message}")
        self._status.absorb(event)
        if self._view is not None:
            self._view.absorb(event)
        now = self._clock()
        # A step may be long and say nothing more.
        if now < self._next and not (self._bars and isinstance(event, StepStarted)):
            return
        if self._bars:
            self._bars.draw(self._status.rows(), now - self._started)
            took = self._clock() - now
            self._next = now + max(SECONDS_BETWEEN_DRAWS, took / _DRAWING_SHARE)
        else:
            self._say(" · ".join(str(row).strip() for row in self._status.rows()))
            self._next = now + SECONDS_BETWEEN_LINES

    def warn(self, message: str) -> None:
        """Print a warning line, above the bars if there are any."""
        self.say(f"warning: {message}")

    def say(self, message: str) -> None:
        """Print a line, above the bars if there are any."""
        if self._bars:
            self._bars.print(message)
        else:
            print(message, file=self._stream, flush=True)

    def _say(self, text: str) -> None:
        print(f"{text} · {self._clock() - self._started:.0f} s", file=self._stream, flush=True)


class _Bars:
    """Rich bars, one per row; drawn only when told, so that no thread takes time from the model."""

    def __init__(self, stream: TextIO, view: "RollView | None" = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.text import Text

        console = Console(file=stream, highlight=False, markup=False, emoji=False)
        shown = view if console.color_system else None  # without colours half blocks say nothing

        class Shown(Progress):
            def get_renderables(self) -> "Iterable[RenderableType]":
                for line in [] if shown is None else shown.lines(*console.size):
                    yield Text.assemble(*line, no_wrap=True)
                yield from super().get_renderables()

        self._progress: Progress = Shown(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[note]}", markup=False),
            TextColumn("{task.fields[elapsed]}", markup=False, style="dim"),
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._tasks: list[TaskID] = []

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._progress.stop()

    def print(self, text: str) -> None:
        self._progress.console.print(text)

    def draw(self, rows: list[Row], seconds: float) -> None:
        """Show `rows`, with the seconds passed behind the first."""
        while len(self._tasks) < len(rows):
            self._tasks.append(self._progress.add_task("", note="", elapsed=""))
        for task, row in zip(self._tasks, rows, strict=False):
            elapsed = f"{seconds:.0f} s" if row is rows[0] else ""
            shown = {"completed": row.done, "total": row.total, "note": row.note, "elapsed": elapsed, "visible": True}
            self._progress.update(task, description=row.label, **shown)
        for task in self._tasks[len(rows) :]:
            self._progress.update(task, visible=False)
        self._progress.refresh()
