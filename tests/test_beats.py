"""Beat annotations, tempo maps and bars."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roll_support import notes_to_cells

from varcli.errors import VarError
from varcli.pianoroll.roll import Note, Roll, Vocabulary
from varcli.pianoroll.score.beats import BeatGrid, TempoMap, parse_beats, signature_bars
from varcli.pianoroll.score.midi import read_midi, write_midi

VOCABULARY = Vocabulary()


def regular(
    beats: int = 16, first: float = 1.0, beat_seconds: float = 0.5, downbeat: int = 0, bar: int = 4
) -> BeatGrid:
    return BeatGrid(first + beat_seconds * np.arange(beats), np.arange(downbeat, beats, bar))


def test_an_annotation_is_seconds_and_a_last_column_of_bar_starts() -> None:
    grid = parse_beats("0.05 1.0 1.0\n0.72 0.0 0.0\n1.39 1.0 0.0\n\n2.05, 0, 0\n2.72 1.0 1.0\n", "a")
    assert grid.seconds.tolist() == [0.05, 0.72, 1.39, 2.05, 2.72]
    assert grid.downbeats.tolist() == [0, 4]
    assert grid.beats_per_bar == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "fewer than two beats"),
        ("1.0 1", "fewer than two beats"),
        ("1.0\n2.0", "fewer than two beats"),
        ("1 1\n2 0 0", "unequal length"),
        ("one 1\ntwo 0", "not lines of numbers"),
        ("2 1\n1 0", "do not follow one another"),
        ("1 1\n1 0", "do not follow one another"),
        ("1 1\nnan 0", "do not follow one another"),
        ("1 1\ninf 0", "do not follow one another"),
        ("0 1\n1e300 0", "do not follow one another"),
    ],
)
def test_bad_annotations(text: str, message: str) -> None:
    with pytest.raises(VarError, match=message) as caught:
        parse_beats(text, "song/beat_midi.txt")
    assert caught.value.message.startswith("song/beat_midi.txt: ")


def test_positions_are_linear_between_beats_and_go_on_beyond_them() -> None:
    grid = BeatGrid(np.array([1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0]), np.array([0, 4]))
    assert grid.beats_at(np.array([1.0, 1.25, 2.5, 6.0])) == pytest.approx([0, 0.5, 2.5, 6])
    assert grid.beats_at(np.array([0.25, 7.5])) == pytest.approx([-1.0, 7.5])


@given(st.integers(-50, 60), st.integers(0, 7), st.sampled_from([2, 3, 4, 6]))
def test_origin_is_a_bar_start_at_most_a_bar_before(first: int, downbeat: int, bar: int) -> None:
    grid = regular(20, downbeat=downbeat, bar=bar)
    origin = grid.origin(first)
    assert first - bar < origin <= first
    assert (origin - downbeat) % bar == 0
    starts = grid.bar_starts(origin, first + 30)
    assert starts.tolist() == list(range(origin, first + 30, bar))


def test_irregular_bars_are_kept_and_carried_on_by_the_usual_one() -> None:
    grid = BeatGrid(np.arange(16.0), np.array([1, 5, 7, 11]))
    assert grid.beats_per_bar == 4
    assert grid.origin(6) == 5
    assert grid.bar_starts(-3, 24).tolist() == [-3, 1, 5, 7, 11, 15, 19, 23]
    assert grid.bar_starts(5, 9).tolist() == [5, 7]


def test_an_annotation_without_bar_starts_counts_from_its_first_beat() -> None:
    grid = BeatGrid(np.arange(16.0), np.zeros(0, np.int64))
    assert grid.origin(6) == 4
    assert grid.bar_starts(-4, 9).tolist() == [-4, 0, 4, 8]


def test_bars_far_from_the_annotation_are_not_enumerated_on_the_way() -> None:
    grid = regular()
    assert grid.bar_starts(-4 * 10**12, -4 * 10**12 + 5).tolist() == [-4 * 10**12, -4 * 10**12 + 4]
    assert grid.bar_starts(4 * 10**12, 4 * 10**12 + 5).tolist() == [4 * 10**12, 4 * 10**12 + 4]


def test_a_tempo_map_is_piecewise_linear() -> None:
    tempo = TempoMap(np.array([0, 480, 960]), np.array([500_000, 1_000_000, 250_000]), 480)
    assert tempo.seconds(np.array([0, 240, 480, 720, 960, 1440])) == pytest.approx([0, 0.25, 0.5, 1.0, 1.5, 1.75])
    assert tempo.bpm(960) == pytest.approx(80)


def test_signatures_put_bars_up_to_the_first_past_the_end() -> None:
    assert signature_bars([], 10, 75).tolist() == [0, 40, 80]
    assert signature_bars([], 10, 80).tolist() == [0, 40, 80]
    assert signature_bars([(0, 3, 4), (60, 6, 8), (70, 2, 4)], 10, 100).tolist() == [0, 30, 60, 70, 90, 110]
    assert signature_bars([(0, 0, 4), (5, 1, 128), (0, 255, 2**200)], 10, 40).tolist() == [0, 40]


def write(onsets: list[float], tempo_bpm: float = 120.0) -> bytes:
    """A MIDI file at 120 bpm of notes at these seconds, up to 1/192 s, a 96th of a second long."""
    notes = [Note(60 + i, round(second * 192), 2, 64) for i, second in enumerate(onsets)]
    last = max(note.start_step for note in notes) + 2
    roll = Roll(notes_to_cells(notes, last, VOCABULARY)[0], steps_per_beat=96, tempo_bpm=tempo_bpm)
    return write_midi(roll, None)


def test_an_upbeat_before_the_first_annotated_beat_starts_a_bar_earlier() -> None:
    beats = regular(first=1.0, beat_seconds=0.75)
    piece = read_midi(write([0.25, 1.0]), beats=beats)
    assert [note.start_step for note in piece.roll.notes] == [12, 16]
    assert piece.roll.downbeats == (0, 16)
    assert piece.loss.off_grid < 1e-9
    assert piece.roll.tempo_bpm == pytest.approx(80)


def test_silent_bars_before_the_first_note_are_left_out() -> None:
    beats = regular(first=1.0, beat_seconds=0.75)
    piece = read_midi(write([1.0 + 0.75 * 9, 1.0 + 0.75 * 12]), beats=beats)
    assert [note.start_step for note in piece.roll.notes] == [4, 16]


def test_an_onset_just_before_the_downbeat_belongs_to_it() -> None:
    beats = regular(first=1.0, beat_seconds=0.75)
    piece = read_midi(write([1.0 - 1 / 192]), beats=beats)
    assert piece.roll.notes[0].start_step == 0
    assert piece.loss.off_grid == pytest.approx(4 / 192 / 0.75)


def test_notes_after_the_last_annotated_beat_go_on_at_its_pace() -> None:
    beats = regular(beats=9, first=0.0, beat_seconds=0.75)
    piece = read_midi(write([0.0, 0.75 * 20]), beats=beats)
    assert [note.start_step for note in piece.roll.notes] == [0, 80]
    assert piece.roll.downbeats == (0, 16, 32, 48, 64, 80)


def test_a_waltz_has_its_own_bar() -> None:
    beats = regular(beats=12, first=0.0, beat_seconds=0.75, bar=3)
    piece = read_midi(write([0.0, 0.75 * 7]), beats=beats)
    assert piece.roll.steps_per_bar == 12
    assert piece.roll.downbeats == (0, 12, 24)


def test_an_absurd_annotation_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(VarError, match="steps long"):
        read_midi(write([0.0, 900.0]), beats=parse_beats("0 1\n0.001 0\n0.002 0\n", "a"))
