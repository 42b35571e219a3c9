"""Metrics of a window: those of MusPy on the same notes, and our own."""

from math import nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roll_support import notes_to_cells

from varcli.pianoroll.evaluation.music_metrics import (
    DURATIONS,
    METRICS,
    VELOCITIES,
    Metre,
    MusicMetrics,
    classes_of,
    measure_window,
)
from varcli.pianoroll.roll import Note, Vocabulary

FINE = Vocabulary(127)
MUSPY_NAMES = (
    *("pitch_range", "pitches_used", "pitch_classes_used", "pitch_entropy", "pitch_class_entropy"),
    *("scale_consistency", "polyphony", "polyphony_rate", "groove_consistency", "empty_bar_rate", "empty_beat_rate"),
)
# Notes as (pitch, start, duration, velocity), and what MusPy 0.5.0 said of them at resolution 4 with 16 steps a bar.
MUSPY = {
    "a phrase": (
        [
            *((60, 0, 4, 64), (64, 4, 4, 70), (67, 8, 4, 80), (72, 12, 4, 90)),
            *((60, 16, 2, 64), (61, 18, 2, 64), (64, 20, 4, 64), (66, 24, 8, 50)),
        ],
        (12, 6, 5, 2.5, 2.1556390622295662, 0.875, 1, 0, 0.8125, 0, 0),
    ),
    "chords, a long rest, more chords": (
        [
            *((48, 0, 16, 60), (60, 0, 8, 60), (64, 0, 8, 60), (67, 0, 8, 60)),
            *((60, 8, 6, 70), (65, 8, 6, 70), (69, 8, 6, 70)),
            *((43, 48, 10, 90), (59, 49, 3, 90), (62, 52, 5, 91), (65, 53, 1, 92)),
        ],
        (
            *(26, 9, 7, 3.095795255000934, 2.663532754804255, 1, 2.9615384615384617),
            *(0.25862068965517243, 0.875, 0.25, 0.4666666666666667),
        ),
    ),
    "chromatic": (
        [(50 + i, i, 1, 64) for i in range(24)],
        (23, 24, 12, 4.584962500721156, 3.584962500721156, 0.5833333333333334, 1, 0, 0.5, 0, 0),
    ),
    "ends on a bar line": (
        [(60, 0, 16, 64), (60, 16, 4, 64), (67, 24, 8, 64)],
        (7, 2, 2, 0.9182958340544896, 0.9182958340544896, 1, 1, 0, 0.90625, 0, 0),
    ),
    "ends just before it": (
        [(60, 0, 16, 64), (60, 16, 4, 64), (67, 24, 7, 64)],
        (7, 2, 2, 0.9182958340544896, 0.9182958340544896, 1, 1, 0, 0.9375, 0, 0),
    ),
    "begins late": (
        [(60, 19, 3, 64), (61, 86, 2, 64), (73, 87, 20, 64)],
        (
            *(13, 3, 2, 1.584962500721156, 0.9182958340544896, 1, 1.0416666666666667),
            *(0, 0.9375, 0.5714285714285714, 0.7037037037037037),
        ),
    ),
    "one bar": ([(60, 0, 3, 64), (64, 1, 3, 64)], (4, 2, 2, 1, 1, 1, 1.5, 0, nan, 0, 0)),
    "silence": ([], (0, 0, 0, nan, nan, nan, nan, nan, nan, nan, nan)),
}


def canvas(notes: list[tuple[int, int, int, int]], steps: int = 128) -> np.ndarray:
    return notes_to_cells([Note(*note) for note in notes], steps, FINE)[0]


def measured(notes: list[tuple[int, int, int, int]], steps: int = 128, **metre: int) -> MusicMetrics:
    return measure_window(canvas(notes, steps), FINE, Metre(**metre))


def values(found: MusicMetrics) -> dict[str, float]:
    return {metric.name: getattr(found, metric.name) for metric in METRICS}


@pytest.mark.parametrize("name", MUSPY)
def test_muspy_says_the_same(name: str) -> None:
    notes, expected = MUSPY[name]
    found = values(measured(notes))
    assert {key: found[key] for key in MUSPY_NAMES} == pytest.approx(
        dict(zip(MUSPY_NAMES, expected, strict=True)), nan_ok=True
    )


def test_density_durations_and_velocities_worked_out_by_hand() -> None:
    notes = [(60, 0, 8, 40), (64, 4, 4, 60), (72, 8, 2, 80), (67, 62, 2, 60), (60, 20, 40, 60)]
    found = measured(notes)
    assert found.note_density == 5 / 4  # the last note ends after four bars
    assert found.mean_duration == (8 + 4 + 2 + 2 + 40) / 5 / 4
    assert (found.mean_velocity, found.velocity_spread) == pytest.approx((60, np.std([40, 60, 80, 60, 60])))
    classes = classes_of(DURATIONS, FINE, Metre())
    counted = dict(zip(classes.tolist(), found.durations.tolist(), strict=True))
    assert {steps: count for steps, count in counted.items() if count} == {2: 2, 4: 1, 8: 1, 33: 1}
    velocities = dict(zip(classes_of(VELOCITIES, FINE, Metre()).tolist(), found.velocities.tolist(), strict=True))
    assert {velocity: count for velocity, count in velocities.items() if count} == {40: 1, 60: 3, 80: 1}


def test_metre_is_an_option() -> None:
    waltz = [(60, start, 2, 64) for start in range(0, 36, 6)] + [(64, 32, 3, 64)]
    found = measured(waltz, 48, steps_per_beat=2, steps_per_bar=6)
    assert found.note_density == pytest.approx(7 / (35 / 6))
    assert found.mean_duration == pytest.approx(15 / 7 / 2)
    assert found.groove_consistency == 1 - 1 / 30
    assert found.empty_beat_rate == pytest.approx(5 / 18)


def test_binary_pieces_have_one_velocity() -> None:
    binary = Vocabulary(binary=True)
    found = measure_window((canvas([(60, 0, 4, 20), (64, 2, 4, 120)]) > 0).astype(np.uint8), binary, Metre())
    assert found.velocities.tolist() == [2]
    assert found.velocity_spread == 0
    assert found.pitch_range == 4
    assert len(classes_of(VELOCITIES, binary, Metre())) == 1


NOTES = st.lists(
    st.tuples(st.integers(20, 100), st.integers(0, 60), st.integers(1, 30), st.integers(1, 127)),
    min_size=1,
    max_size=25,
).map(lambda notes: list({note[:2]: note for note in notes}.values()))


@settings(max_examples=25, deadline=None)
@given(NOTES, st.integers(-20, 27), st.integers(0, 100))
def test_neither_transposition_nor_silence_at_the_end_changes_a_number(notes: list, up: int, silence: int) -> None:
    before = measured(notes, 96)
    after = measured([(pitch + up, *rest) for pitch, *rest in notes], 96 + silence)
    assert values(before) == pytest.approx(values(after), nan_ok=True)
    assert np.array_equal(before.durations, after.durations)
    assert np.array_equal(before.velocities, after.velocities)


@settings(max_examples=25, deadline=None)
@given(NOTES)
def test_numbers_lie_where_they_can(notes: list) -> None:
    found = measured(notes, 96)
    for metric in METRICS:
        value = getattr(found, metric.name)
        assert np.isnan(value) or 0 <= value <= metric.most
    count = found.durations.sum()
    assert count == found.velocities.sum() >= found.pitches_used >= found.pitch_classes_used >= 1
    assert found.scale_consistency >= 7 / 12
    assert found.pitch_class_entropy <= min(found.pitch_entropy, np.log2(12)) + 1e-9
