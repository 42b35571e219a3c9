"""Progress says what the events say, on stderr alone, and hardly costs anything."""

import io
import time
from collections.abc import Iterator

import numpy as np
import pytest

from varcli.cli.progress import Display, Status
from varcli.emitters.events import FramesDone, PairsCorrelated, ScaleDone, StackOpened, StepsPlanned, StepStarted
from varcli.events import Compiling, Event, FilesRead, TrainStep, Validated
from varcli.pianoroll.events import LevelStarted, PatchDone, PieceScored, SampleDone, SampleStarted
from varcli.pianoroll.roll import Roll, Vocabulary

CANVAS = np.zeros((128, 16), np.uint8)
ROLL = Roll(CANVAS, Vocabulary())


def patch(level: int, index: int, total: int, sample: int = 0) -> PatchDone:
    return PatchDone(sample, level, "ar", index, total, 0, 0, 0, ((0, 16, 0, 16),), CANVAS)


def masked(level: int, iteration: int, batch: int, sample: int = 0) -> PatchDone:
    return PatchDone(sample, level, "mar", 20, 128, iteration, 12, batch, ((0, 16, 0, 16),), CANVAS)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that moves on by `tick` seconds at each look."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def shown(*events: object) -> list[str]:
    status = Status()
    for event in events:
        status.absorb(event)
    return [str(row) for row in status.rows()]


def test_compiling_is_shown_until_it_is_done() -> None:
    opened = StackOpened(60, 64, 64)
    assert shown(opened, Compiling("fit", 3, 40))[0] == "compiling 3/40 · fit (only when first used)"
    assert not any("compiling" in row for row in shown(opened, Compiling("fit", 3, 40), Compiling("fit", 41, 40)))


def test_autoregressive_levels_nest() -> None:
    rows = shown(
        SampleStarted(1, 4, CANVAS), LevelStarted(1, 0, "ar", 128, 0), patch(0, 45, 128, 1), patch(1, 3, 16, 1)
    )
    assert rows == ["sample 2/4", "level 0 patch 45/128", "  level 1 patch 3/16"]


def test_masked_levels_say_iteration_and_batch() -> None:
    started = SampleStarted(0, 1, CANVAS)
    assert shown(started, LevelStarted(0, 0, "mar", 128, 12))[1] == "level 0 iteration 0/12"
    assert shown(started, masked(0, 3, 2))[1] == "level 0 iteration 3/12 · batch 2"


def test_a_batch_of_samples_is_named_together() -> None:
    starts = [SampleStarted(sample, 10, CANVAS) for sample in (4, 5, 6)]
    assert shown(*starts)[0] == "sample 5-7/10"
    status = Status()
    for event in (*starts, patch(0, 64, 128, 4), SampleDone(5, 10, ROLL)):
        status.absorb(event)
    assert status.rows()[0].label == "sample 5-7/10"
    assert status.rows()[0].done == pytest.approx(1.5)


def test_training_corpus_and_scores() -> None:
    assert shown(TrainStep(50, 1000, 2.5, 10.25, 1e-3, 0.125)) == [
        "step 50/1000 · loss 2.5 · 10.250 nats/frame · lr 1.00e-03 · 0.125 s/step"
    ]
    rows = shown(TrainStep(50, 1000, 2.5, 10.25, 1e-3, 0.125), Validated(50, 9.5, (1.0, 2.0), True))
    assert rows[1] == "validated at step 50: 9.500 nats/frame, the best so far"
    assert shown(FilesRead(3, 9, "a.mid")) == ["files 3/9 · a.mid"]
    assert shown(FilesRead(9, 9, "z.mid"), PieceScored(3, 9, 8.125)) == ["pieces 3/9 · 8.125 nats/frame"]
    assert shown(PieceScored(3, 9, 8.125)) == ["pieces 3/9 · 8.125 nats/frame"]


def test_steps_on_a_table_and_pairs_of_the_drift() -> None:
    planned = StepsPlanned(("read", "drift", "link"))
    assert shown(planned, StepStarted("read", None)) == ["step 1/3 · read"]
    drift = (planned, StepStarted("drift", 12_000), PairsCorrelated(12, 190))
    assert shown(*drift) == ["step 2/3 · drift · 12,000 localisations", "  pairs 12/190"]
    assert shown(*drift, StepStarted("link", 12_000)) == ["step 3/3 · link · 12,000 localisations"]


def test_off_a_terminal_a_plain_line_every_few_seconds_and_one_at_the_end() -> None:
    stream = io.StringIO()
    with Display(stream, Clock(tick=1.0)) as display:
        display.show(SampleStarted(0, 1, CANVAS))
        for index in range(1, 13):
            display.show(patch(0, index, 12))
        display.show(SampleDone(0, 1, ROLL))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "sample 1/1 · level 0 patch 4/12 · 6 s"
    assert lines[-1].startswith("1 of 1 sample done · ")
    assert len(lines) == 4
    assert "\x1b" not in stream.getvalue()


def test_a_failure_leaves_no_closing_line() -> None:
    stream = io.StringIO()
    with pytest.raises(ZeroDivisionError), Display(stream) as display:
        display.show(SampleStarted(0, 1, CANVAS))
        raise ZeroDivisionError
    assert stream.getvalue() == ""


def test_bars_on_a_terminal() -> None:
    stream = Terminal()
    with Display(stream, Clock(tick=1.0)) as display:
        display.show(SampleStarted(0, 2, CANVAS))
        for _ in range(50):
            display.show(patch(0, 45, 128))
            display.show(patch(1, 3, 16))
        display.warn("mind the gap")
    drawn = stream.getvalue()
    for part in ("sample 1/2", "level 0", "patch 45/128", "level 1", "patch 3/16", "warning: mind the gap"):
        assert part in drawn


def test_events_pass_through_unchanged() -> None:
    events: list[Event] = [SampleStarted(0, 1, CANVAS), patch(0, 1, 1), SampleDone(0, 1, ROLL)]

    def generate() -> Iterator[Event]:
        yield from events

    with Display(io.StringIO()) as display:
        assert all(got is wanted for got, wanted in zip(display.follow(generate()), events, strict=True))


def test_stdout_stays_empty(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(clock=Clock(tick=10.0)) as display:
        display.show(SampleStarted(0, 1, CANVAS))
        display.warn("careful")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "warning: careful" in captured.err
    assert "sample 1/1" in captured.err


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_drawing_goes_by_the_clock_not_by_events(stream: io.StringIO) -> None:
    events = [patch(index % 3, index % 128 + 1, 128) for index in range(20_000)]
    with Display(stream) as display:
        display.show(SampleStarted(0, 1, CANVAS))
        began = time.perf_counter()
        for event in events:
            display.show(event)
        seconds = time.perf_counter() - began
    # At most ten pictures a second, each a few hundred characters, whatever the number of events.
    assert len(stream.getvalue()) < 20_000 + 40_000 * seconds


def test_scales_stand_below_the_frames_of_a_stack() -> None:
    opened = StackOpened(100, 40, 40)
    assert shown(opened) == ["frames 0/100 · looking at the stack"]
    rows = shown(
        opened, ScaleDone((0, 50), 80, 64, 6400), ScaleDone((0, 50), 10, 100, 100), FramesDone(50, 100, 7, 123.4)
    )
    assert rows[0] == "frames 50/100 · 123 frames/s · 7 emitters"
    assert rows[1:] == ["  scale 10 100% of cells worked out", "  scale 80 1% of cells worked out"]


@pytest.mark.parametrize(("ranked", "written"), [(1, 4), (4, 2), (3, 3)])
def test_samples_that_are_written_after_others_are_counted_by_themselves(ranked: int, written: int) -> None:
    status = Status()
    for total in (ranked, written):
        for sample in range(total):
            status.absorb(SampleStarted(sample, total, CANVAS))
            status.absorb(SampleDone(sample, total, ROLL))
    assert status.finished().startswith(f"{written} of {written} sample")
