"""Made-up events, as a generator of rolls yields them, for the tests of pictures and animations."""

from collections.abc import Iterator

import numpy as np
from roll_support import notes_to_cells

from varcli.animation.frames import Recording
from varcli.animation.recorder import FrameRecorder
from varcli.events import Event
from varcli.pianoroll.events import PatchDone, SampleDone, SampleStarted
from varcli.pianoroll.roll import Note, Roll, Vocabulary

VOCABULARY = Vocabulary()


def tune(steps: int = 64) -> np.ndarray:
    """A scale over a held bass and a repeated note, as cells u8 [128, steps]."""
    notes = [Note(36, 0, steps, 60), *(Note(60, step, 2, 90) for step in range(0, steps, 2))]
    notes += [Note(64 + step // 4 % 12, step, 3, 40 + 3 * (step // 4 % 20)) for step in range(0, steps, 4)]
    return notes_to_cells(notes, steps, VOCABULARY)[0]


def patches(cells: np.ndarray, size: int = 16) -> list[tuple[int, int, int, int]]:
    """Bounds of all square patches, by time, then pitch."""
    rows, steps = cells.shape
    return [
        (pitch, pitch + size, step, min(step + size, steps))
        for step in range(0, steps, size)
        for pitch in range(0, rows, size)
    ]


def ar_events(cells: np.ndarray, *, level: int = 0, sample: int = 0, size: int = 16) -> Iterator[Event]:
    """One patch after the other."""
    live = np.zeros_like(cells)
    yield SampleStarted(sample, 1, live)
    todo = patches(cells, size)
    for index, (low, high, start, stop) in enumerate(todo, 1):
        live[low:high, start:stop] = cells[low:high, start:stop]
        bounds = ((low, high, start, stop),)
        yield PatchDone(sample, level, "ar", index, len(todo), 0, 0, 0, bounds, live)
    yield SampleDone(sample, 1, Roll(cells, VOCABULARY, title="a tune"))


def mar_events(cells: np.ndarray, *, level: int = 0, batch_size: int = 3) -> Iterator[Event]:
    """Patches in random order, in four iterations of several batches."""
    live = np.zeros_like(cells)
    yield SampleStarted(0, 1, live)
    todo = patches(cells)
    order = np.random.default_rng(0).permutation(len(todo))
    done = 0
    for iteration, part in enumerate(np.array_split(order, 4), 1):
        for batch, begin in enumerate(range(0, len(part), batch_size), 1):
            bounds = tuple(todo[i] for i in part[begin : begin + batch_size])
            for low, high, start, stop in bounds:
                live[low:high, start:stop] = cells[low:high, start:stop]
            done += len(bounds)
            yield PatchDone(0, level, "mar", done, len(todo), iteration, 4, batch, bounds, live)
    yield SampleDone(0, 1, Roll(cells, VOCABULARY))


def record(events: Iterator[Event], **settings) -> Recording:
    """What a recorder with these settings makes of the events."""
    recorder = FrameRecorder(VOCABULARY, **settings)
    for event in events:
        recorder.on(event)
    return recorder.recording()
