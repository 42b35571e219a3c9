"""Features of windows, on rolls small enough to count them by hand."""

import numpy as np
import pytest
from music_support import melody
from roll_support import notes_to_cells

from varcli.pianoroll.evaluation.features import FAMILIES, Feature, measure_features
from varcli.pianoroll.evaluation.music_metrics import Metre
from varcli.pianoroll.roll import Note, Vocabulary

FINE = Vocabulary(velocity_bins=127)  # every velocity is its own
C, F, G = (48, 64, 67), (53, 65, 69), (55, 67, 71)


def features(notes: list[Note], steps: int) -> dict[str, float]:
    """The features of a canvas of 4/4, by family.name."""
    table = measure_features([notes_to_cells(notes, steps, FINE)[0]], FINE, Metre())
    names = [f"{feature.family}.{feature.name}" for feature in table.features]
    return dict(zip(names, table.values_WF[0].tolist(), strict=True))


def line(pitches: list[int], every: int = 4, velocity: int = 80, first: int = 0) -> list[Note]:
    return [Note(pitch, first + every * number, every, velocity) for number, pitch in enumerate(pitches)]


def check(found: dict[str, float], family: str, **expected: float) -> None:
    assert {name: found[f"{family}.{name}"] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_melody() -> None:
    bass = [Note(36, 0, 32, 60)]
    found = features([*line([60, 62, 64, 64, 72, 71]), *bass], 32)
    check(found, "melody", notes_per_bar=3, repeats=1 / 5, steps=3 / 5, skips=0, leaps=1 / 5, octaves_and_wider=0)
    check(found, "melody", turns=1 / 3, leaps_answered_by_a_step_back=1, range=12, pitches_per_note=5 / 6)
    check(found, "melody", outside_key=0, rests=8 / 32, on_the_beat=1, onset_interval_entropy=0)
    check(found, "melody", interval_entropy=float(np.log2(5) - 0.4), doubled_in_another_octave=2 / 6)


def test_a_note_under_one_that_still_sounds_is_not_in_the_melody() -> None:
    found = features([Note(72, 0, 16, 80), *line([60, 62, 64, 65])], 16)
    check(found, "melody", notes_per_bar=1)
    check(found, "texture", at_once=2, bass_pitch=62.75, width=9.25)


def test_velocity() -> None:
    notes = [Note(60, 0, 4, 80), Note(72, 0, 4, 90), Note(60, 4, 4, 80), Note(72, 8, 4, 70), Note(60, 12, 4, 60)]
    found = features(notes, 16)
    check(found, "velocity", mean=76, same_as_pitch_before=1 / 3, same_as_note_before=0)
    check(found, "velocity", same_within_chord=0, change_between_onsets=(5 + 10 + 10) / 3, same_in_melody=0)
    check(
        found,
        "velocity",
        spread=float(np.std([80, 90, 80, 70, 60])),
        spread_of_beat_means=float(np.std([85, 80, 70, 60])),
    )
    louder_above = features([*line([60, 62, 64, 65], velocity=50), *line([72, 74, 76, 77], velocity=90)], 16)
    assert louder_above["velocity.follows_pitch"] > 0.9
    assert not any(
        "velocity" in feature.family for feature in measure_features([], Vocabulary(binary=True), Metre()).features
    )


def bars(*tunes: list[int]) -> list[Note]:
    return [note for number, tune in enumerate(tunes) for note in line(tune, first=16 * number)]


A, B = [60, 62, 64, 65], [55, 57, 53, 59]


def test_repetition() -> None:
    found = features(bars(A, A, B, A), 64)
    check(found, "repetition", lag_1=1 / 3, lag_2=1 / 2, best=2 / 3, best_of_all=1, bars_that_return=2 / 3)
    check(found, "repetition", best_melody=2 / 3, best_rhythm=1, rhythm_lag_1=1, best_transposed=2 / 9)
    assert np.isnan(found["repetition.lag_4"]) and np.isnan(found["repetition.best_32_to_63_back"])
    moved = features(bars(A, [pitch + 5 for pitch in A]), 32)
    check(moved, "repetition", best_transposed=1, best=0)  # 65 is in both, at another step
    long = features(bars(A, *[B] * 39, A), 41 * 16)
    assert long["repetition.best_32_to_63_back"] == pytest.approx(8 / 9)  # but bar 33 is like none


def test_rhythm() -> None:
    even = features(bars(A, A, B, A), 64)
    check(even, "rhythm", onset_steps_per_bar=4, on_the_downbeat=1 / 4, on_the_beat=1, on_half_beats=0, syncopation=0)
    check(even, "rhythm", same_interval_again=1, duration=1, duration_entropy=0, ends_with_the_next_onset=1)
    check(even, "rhythm", uneven_bars=0, different_bar_rhythms=1 / 4, single_steps=0)
    assert even["rhythm.periodic_by_beat"] > 0.9
    off = features([Note(60, 2 + 4 * number, 1, 80) for number in range(8)], 32)
    check(off, "rhythm", on_half_beats=1, syncopation=1, single_steps=1, ends_with_the_next_onset=0)


def test_texture() -> None:
    found = features(
        [Note(48, 0, 64, 80), *(Note(pitch, 16 * bar, 8, 80) for bar in range(4) for pitch in (60, 72))], 64
    )
    check(found, "texture", notes_per_bar=9 / 4, at_once=2, silence=0, struck_together=9 / 4, single_onsets=0, drone=1)
    check(found, "texture", octaves_struck=1, pitch_range=24, high_notes=4 / 9, struck_again_at_once=0)
    again = features(line([60, 60, 62, 60]), 16)
    check(again, "texture", struck_again_at_once=1 / 4, single_onsets=1)


def chords(*triads: tuple[int, ...]) -> list[Note]:
    return [Note(pitch, 16 * bar, 16, 80) for bar, triad in enumerate(triads) for pitch in triad]


def test_chords() -> None:
    found = features(chords(C, F, (55, 62, 71), C), 64)
    check(found, "chords", recognised=1, major=1, different=3 / 8, change=3 / 7, fifths=2 / 3, diatonic=1)
    check(found, "chords", on_the_tonic=1 / 2, bass_is_root_on_one=1, semitones=0, classes_per_half_bar=2.75)
    rough = features(chords((60, 61, 62, 63)), 16)
    check(rough, "chords", recognised=0, semitones=3 / 6)


def test_key() -> None:
    found = features([*chords(C, F, G, C), *line([72, 74, 76, 77], first=48)], 64)
    check(found, "key", outside=0, bars_that_leave=0, local_scale_shared=7, classes_used=7)
    assert found["key.fit"] > 0.7
    strange = features([*chords(C, F, G, C), Note(73, 0, 1, 80)], 64)
    check(strange, "key", outside=1 / 13, bars_that_leave=1 / 4, classes_used=7)
    assert strange["key.fit"] < found["key.fit"]


def test_ending() -> None:
    found = features([*bars(A, A, A), Note(36, 32, 16, 80)], 64)
    check(found, "ending", silent_bars_after=1, last_onset_bars_before=20 / 16, velocity=0, notes_at_the_end=2)
    check(found, "ending", bass_on_the_tonic=1, melody_on_the_tonic=0)
    thinner = features([*bars(A, A, A, A), Note(60, 64, 16, 40), Note(60, 80, 16, 40)], 96)
    assert thinner["ending.density"] < 0.5 and thinner["ending.duration"] > 1.5 and thinner["ending.velocity"] < -20


@pytest.mark.filterwarnings("error")
def test_little_music_is_measured_without_a_warning_and_silence_has_no_notes() -> None:
    silent = np.zeros((128, 64), np.uint8)
    single = notes_to_cells([Note(60, 3, 1, 80)], 64, FINE)[0]
    table = measure_features([silent, single, melody(0)], FINE, Metre())
    assert table.features.index(Feature("texture", "notes_per_bar")) == int(
        np.flatnonzero(~np.isnan(table.values_WF[0]))[0]
    )
    assert np.isfinite(table.values_WF[0]).sum() == 1
    assert {feature.family for feature in table.features} == set(FAMILIES)
    assert 80 <= len(table.features) <= 120
    assert np.isfinite(table.values_WF[2]).mean() > 0.9
    assert measure_features([single], FINE, Metre(3, 7)).values_WF.shape == (1, len(table.features))


def test_a_transposed_piece_differs_only_in_where_it_lies() -> None:
    cells = melody(3, 256)
    one, other = measure_features([cells, np.roll(cells, 2, axis=0)], Vocabulary(), Metre()).values_WF
    table = measure_features([cells], Vocabulary(), Metre())
    changed = {
        feature.name
        for feature, here, there in zip(table.features, one, other, strict=True)
        if not np.isclose(here, there, equal_nan=True)
    }
    assert changed <= {"pitch", "bass_pitch", "high_notes"}
