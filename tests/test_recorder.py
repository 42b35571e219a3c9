"""The frame recorder: which states it keeps, what it calls them, and that it copies only those."""

import numpy as np
import pytest
from animation_support import VOCABULARY, ar_events, mar_events, patches, record, tune
from hypothesis import given, settings
from hypothesis import strategies as st

from varcli.animation.recorder import FrameRecorder
from varcli.pianoroll.events import PatchDone, SampleDone, SampleStarted
from varcli.pianoroll.figures.painter import marked_intensity
from varcli.pianoroll.roll import Roll

CELLS = tune(64)


def steps_of(count: int, level: int = 0):
    """A sample of one step per event, which writes one more cell of pitch 60."""
    live = np.zeros((128, max(count, 1)), np.uint8)
    yield SampleStarted(0, 1, live)
    for index in range(1, count + 1):
        live[60, index - 1] = 2
        yield PatchDone(0, level, "ar", index, count, 0, 0, 0, ((60, 61, index - 1, index),), live)
    yield SampleDone(0, 1, Roll(live.copy(), VOCABULARY))


def test_ar_frames_are_called_as_people_know_them() -> None:
    recording = record(ar_events(CELLS))
    assert recording.labels == ("Init", *(f"AR L0 patch {index}/32" for index in range(1, 33)))
    assert record(ar_events(CELLS, level=1), levels=(1,)).labels[3] == "AR L1 patch 3/32"


def test_mar_frames_are_called_by_iteration_and_batch() -> None:
    recording = record(mar_events(CELLS))
    assert recording.labels[:5] == ("Init", "Iter 1 batch 1", "Iter 1 batch 2", "Iter 1 batch 3", "Iter 2 batch 1")
    assert recording.iteration.tolist()[:5] == [0, 1, 1, 1, 2]
    assert recording.batch.tolist()[:5] == [0, 1, 2, 3, 1]
    assert record(mar_events(CELLS, level=1), levels=(1,)).labels[5] == "MAR L1 iter 2/4 batch 2"


@pytest.mark.parametrize("events", [ar_events, mar_events])
def test_canvas_grows_from_nothing_to_the_roll(events) -> None:
    recording = record(events(CELLS))
    assert recording.frames.dtype == np.uint8
    assert not recording.frames[0].any()
    assert np.array_equal(recording.frames[-1], marked_intensity(CELLS, VOCABULARY))
    occupied = np.count_nonzero(recording.frames, axis=(1, 2))
    assert (np.diff(occupied) >= 0).all() and len(set(occupied.tolist())) > 5
    assert recording.level.tolist() == [-1] + [0] * (len(recording) - 1)
    assert (np.diff(recording.seconds) >= 0).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 700), st.integers(3, 60))
def test_auto_keeps_at_most_so_many_frames_evenly(count: int, most: int) -> None:
    recording = record(steps_of(count), max_frames=most)
    seen = np.count_nonzero(recording.frames, axis=(1, 2))
    assert seen[0] == 0 and seen[-1] == count
    assert len(recording) <= most
    assert len(recording) == count + 1 or len(recording) > most // 2
    assert len(set(np.diff(seen)[:-1].tolist())) <= 1
    assert np.allclose(recording.progress, seen / max(count, 1))


@pytest.mark.parametrize("every", [1, 3, 7, 100])
def test_every_keeps_each_nth_and_the_final_state(every: int) -> None:
    seen = np.count_nonzero(record(steps_of(50), every=every).frames, axis=(1, 2)).tolist()
    assert seen == sorted({*range(0, 51, every), 50})


@pytest.mark.parametrize("settings_", [{}, {"every": 5}, {"max_frames": 5}, {"max_frames": 20}])
@pytest.mark.parametrize("events", [ar_events, mar_events])
def test_every_patch_is_told_once_in_the_order_of_writing(events, settings_: dict) -> None:
    recording = record(events(CELLS), **settings_)
    meta = recording.meta
    told = [patch for i in range(len(recording)) for patch in (*meta.fresh[i], *meta.bounds[i])]
    written = [patch for event in events(CELLS) if isinstance(event, PatchDone) for patch in event.bounds]
    assert told == written
    assert meta.bounds[0] == ()


def test_recordings_of_equal_events_are_equal() -> None:
    first, second = (record(mar_events(CELLS), max_frames=9) for _ in range(2))
    assert np.array_equal(first.frames, second.frames)
    assert (first.labels, first.meta) == (second.labels, second.meta)


def test_only_the_asked_levels_and_sample_count() -> None:
    def mixed():
        live = np.zeros_like(CELLS)
        other = np.zeros_like(CELLS)
        yield SampleStarted(0, 2, other)
        yield SampleStarted(1, 2, live)
        for level in (1, 1, 2, 0):
            for sample, canvas in ((0, other), (1, live)):
                canvas[60, level] = 2 + sample
                yield PatchDone(sample, level, "ar", 1, 4, 0, 0, 0, ((0, 16, 0, 16),), canvas)
        yield SampleDone(0, 2, Roll(other.copy(), VOCABULARY))
        yield SampleDone(1, 2, Roll(live.copy(), VOCABULARY))

    recording = record(mixed(), sample=1, levels=(0, 1))
    assert recording.level.tolist() == [-1, 1, 1, 0]
    assert recording.frames[-1].max() == marked_intensity(np.array([[3]], np.uint8), VOCABULARY)[0, 0]
    assert len(record(mixed(), levels=(2,))) == 3  # by default the first sample; its last state is kept as well


def test_final_state_is_kept_where_no_recorded_level_ends_in_it() -> None:
    def events():
        yield from list(steps_of(4))[:-1]
        yield SampleDone(0, 1, Roll(np.full((128, 4), 2, np.uint8), VOCABULARY))

    recording = record(events())
    assert recording.labels[-1] == "Done"
    assert recording.frames[-1].all()
    assert recording.progress[-1] == 1


def test_frames_take_the_width_of_the_roll() -> None:
    def events():
        for event in ar_events(CELLS):
            yield SampleDone(0, 1, Roll(CELLS[:, :50], VOCABULARY)) if isinstance(event, SampleDone) else event

    recording = record(events())
    assert recording.frames.shape[1:] == (128, 50)
    assert all(patch[3] <= 50 for part in recording.meta.bounds for patch in part)
    assert len({patch for part in recording.meta.bounds for patch in part}) == len(patches(CELLS[:, :50]))


def test_meta_says_grid_and_title() -> None:
    roll = Roll(CELLS, VOCABULARY, steps_per_beat=6, steps_per_bar=24, title="mine", downbeats=(0, 20))
    meta = record(iter([SampleStarted(0, 1, CELLS), SampleDone(0, 1, roll)])).meta
    assert (meta.kind, meta.onsets, meta.title) == ("roll", True, "mine")
    assert (meta.steps_per_beat, meta.steps_per_bar, meta.downbeats) == (6, 24, (0, 20))
    assert record(ar_events(CELLS), title="other").meta.title == "other"


def test_unfinished_sample_ends_in_its_live_state() -> None:
    recording = record(iter(list(ar_events(CELLS))[:-1]))
    assert recording.frames[-1].any()


def test_canvas_is_copied_only_for_frames_that_are_kept() -> None:
    class Counted(np.ndarray):
        copies = 0

        def copy(self, order="C"):
            Counted.copies += 1
            return np.array(self)

    live = np.zeros((128, 64), np.uint8).view(Counted)
    recorder = FrameRecorder(VOCABULARY, every=100)
    recorder.on(SampleStarted(0, 1, live))
    for index in range(1, 1001):
        recorder.on(PatchDone(0, 0, "ar", index, 1000, 0, 0, 0, ((0, 1, 0, 1),), live))
    assert Counted.copies == 11


def test_wrong_settings_and_empty_recordings_are_errors() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        FrameRecorder(VOCABULARY, every=0)
    with pytest.raises(ValueError, match="at least 3"):
        FrameRecorder(VOCABULARY, max_frames=2)
    with pytest.raises(ValueError, match="not started"):
        FrameRecorder(VOCABULARY).recording()
