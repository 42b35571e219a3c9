"""Rolls to MIDI and back: exact in pitch, time, velocity, tempo and bars."""

import io
from pathlib import Path

import mido
import numpy as np
import pretty_midi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from midi_support import FINE, meta, midi, off, on, spans
from roll_support import notes_to_cells

from varcli.errors import UsageError, VarError
from varcli.pianoroll.roll import Note, Roll, Vocabulary
from varcli.pianoroll.score.midi import LossReport, read_midi, write_midi

TICKS = [96, 120, 192, 384, 480, 600, 960, 1024]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.builds(Note, st.integers(0, 127), st.integers(0, 63), st.integers(1, 40), st.integers(1, 127)),
        min_size=1,
        max_size=60,
    ),
    st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24, 7, 96]),
    st.sampled_from([Vocabulary(), FINE, Vocabulary(binary=True)]),
)
def test_roll_to_midi_to_roll_is_exact(notes: list[Note], steps_per_beat: int, vocabulary: Vocabulary) -> None:
    cells, _ = notes_to_cells(notes, 64, vocabulary)
    cells = cells[:, : np.flatnonzero(cells.any(0))[-1] + 1]  # a file ends with its last note, which may be cut short
    roll = Roll(cells, vocabulary, steps_per_beat, 4 * steps_per_beat, tempo_bpm=133.0, title="Prélude № 1")
    piece = read_midi(write_midi(roll, None), steps_per_beat=steps_per_beat, vocabulary=vocabulary)
    assert np.array_equal(piece.roll.cells, cells)
    assert piece.roll.tempo_bpm == pytest.approx(133.0, abs=1e-3)
    assert piece.roll.title == "Prélude № 1"
    assert piece.roll.steps_per_bar == 4 * steps_per_beat
    assert piece.loss == LossReport(notes_read=len(roll.notes), notes_written=len(roll.notes))


@pytest.mark.parametrize("ticks", TICKS)
def test_every_ticks_per_quarter_meets_the_same_grid(ticks: int) -> None:
    rng = np.random.default_rng(ticks)
    table = rng.integers([50, 0, 1, 1], [70, 100, 40, 128], (400, 4)).tolist()
    notes = [Note(*row) for row in table]
    cells, merged = notes_to_cells(notes, 200, FINE)
    roll = Roll(cells, FINE)
    sixteenth = ticks // 4
    events = []
    for note in roll.notes:
        events.append(off((note.start_step + note.duration_steps) * sixteenth, note.pitch))
        events.append(on(note.start_step * sixteenth, note.pitch, note.velocity))
    piece = read_midi(midi(events, ticks=ticks), vocabulary=FINE)
    assert merged > 0
    assert np.array_equal(piece.roll.cells, cells[:, : piece.roll.steps])
    assert not cells[:, piece.roll.steps :].any()
    assert piece.loss.off_grid == piece.loss.moved == piece.loss.merged == piece.loss.cut == 0


@pytest.mark.parametrize("ticks", TICKS)
def test_onsets_are_rounded_in_ticks_far_into_a_piece(ticks: int) -> None:
    step = 100_000
    exact = step * ticks // 4
    late, early = exact + ticks // 8 - 1, exact - ticks // 8 + 1
    for tick in (exact, late, early):
        piece = read_midi(midi([on(tick), off(tick + ticks), meta(0, "set_tempo", tempo=483_871)], ticks=ticks))
        assert piece.roll.notes[0].start_step == step
        assert piece.loss.off_grid == pytest.approx(abs(tick - exact) * 4 / ticks, abs=1e-12)


def test_written_files_are_deterministic_and_keep_velocity_tempo_and_bars(tmp_path: Path) -> None:
    notes = [Note(60, 0, 6, 100), Note(60, 6, 6, 20), Note(64, 3, 9, 77)]
    cells, _ = notes_to_cells(notes, 24, FINE)
    roll = Roll(cells, FINE, steps_per_bar=12, tempo_bpm=90.0, downbeats=(0, 12))
    data = write_midi(roll, tmp_path / "out.mid")
    assert (tmp_path / "out.mid").read_bytes() == data == write_midi(roll, None)
    other = pretty_midi.PrettyMIDI(io.BytesIO(data))
    sixteenth = 60 / 90 / 4
    found = {(n.pitch, n.velocity, n.start / sixteenth, n.end / sixteenth) for n in other.instruments[0].notes}
    expected = {(n.pitch, n.velocity, n.start_step, n.start_step + n.duration_steps) for n in notes}
    assert np.allclose(sorted(found), sorted(expected), atol=1e-4)
    signature = other.time_signature_changes[0]
    assert (signature.numerator, signature.denominator) == (3, 4)
    assert other.get_tempo_changes()[1].tolist() == pytest.approx([90.0], abs=1e-4)


def test_tempo_can_be_given_and_must_fit() -> None:
    roll = Roll(notes_to_cells([Note(60, 0, 4, 64)], 4, FINE)[0], FINE)
    assert read_midi(write_midi(roll, None, tempo_bpm=77)).roll.tempo_bpm == pytest.approx(77, abs=1e-3)
    for bpm in (0.0, 3.0, -10.0, 1e6, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="bpm does not fit MIDI"):
            write_midi(roll, None, tempo_bpm=bpm)


@pytest.mark.parametrize("steps_per_beat", [1, 3, 4, 7, 24, 96])
@pytest.mark.parametrize("bpm", [3.6, 29.97, 76.9, 119.99, 120, 133, 60_000])
def test_ticks_and_tempo_are_exact(bpm: float, steps_per_beat: int) -> None:
    notes = [Note(60, 7, 1, 64), Note(61, 49_999, 40_000, 64), Note(62, 99_998, 1, 64)]
    roll = Roll(notes_to_cells(notes, 100_000, FINE)[0], FINE, steps_per_beat, tempo_bpm=bpm)
    file = mido.MidiFile(file=io.BytesIO(write_midi(roll, None)))
    tempos = [message.tempo for track in file.tracks for message in track if message.type == "set_tempo"]
    assert tempos == [round(60e6 / bpm)]
    per_step = file.ticks_per_beat / steps_per_beat
    edges = [step * per_step for note in notes for step in (note.start_step, note.start_step + note.duration_steps)]
    now, found = 0, []
    for message in file.tracks[1]:
        now += message.time
        found += [now] if message.type == "note_on" else []
    assert found == sorted(edges) and now == 100_000 * per_step


def test_an_empty_roll_is_written_as_silence() -> None:
    data = write_midi(Roll(np.zeros((128, 32), np.uint8)), None)
    assert mido.MidiFile(file=io.BytesIO(data)).length == pytest.approx(4.0)
    with pytest.raises(VarError, match="no notes"):
        read_midi(data)


def test_a_written_file_lasts_as_long_as_its_roll() -> None:
    cells, _ = notes_to_cells([Note(60, 0, 4, 64)], 64, FINE)
    assert mido.MidiFile(file=io.BytesIO(write_midi(Roll(cells, FINE), None))).length == pytest.approx(8.0)


def test_tempo_changes_do_not_move_onsets_and_the_mean_tempo_is_kept() -> None:
    tempos = [meta(0, "set_tempo", tempo=500_000), meta(480 * 4, "set_tempo", tempo=1_000_000)]
    piece = read_midi(midi(tempos, [on(0), off(480 * 4), on(480 * 4), off(480 * 8)]))
    assert spans(piece.roll) == [(60, 0, 16), (60, 16, 32)]
    assert piece.roll.tempo_bpm == pytest.approx(60 * 8 / 6)


def test_a_file_without_tempo_has_120_bpm() -> None:
    assert read_midi(midi([on(0), off(480)])).roll.tempo_bpm == pytest.approx(120)


def test_time_signatures_make_downbeats() -> None:
    signatures = [
        meta(0, "time_signature", numerator=3, denominator=4),
        meta(480 * 6, "time_signature", numerator=6, denominator=8),
        meta(480 * 9, "time_signature", numerator=4, denominator=4),
    ]
    roll = read_midi(midi(signatures, [on(0), off(480 * 17)])).roll
    assert roll.downbeats == (0, 12, 24, 36, 52)
    assert roll.steps_per_bar == 12
    again = read_midi(write_midi(roll, None)).roll
    assert again.downbeats == roll.downbeats


def test_an_upbeat_is_told_by_where_the_metre_changes() -> None:
    signatures = [
        meta(0, "time_signature", numerator=3, denominator=4),
        meta(480 * 7, "time_signature", numerator=4, denominator=4),
        meta(480 * 12, "time_signature", numerator=3, denominator=4),
    ]
    roll = read_midi(midi(signatures, [on(0), off(480 * 18)])).roll
    assert roll.downbeats == (0, 4, 16, 28, 44, 48, 60)
    assert read_midi(write_midi(roll, None)).roll.downbeats == roll.downbeats


def test_bars_without_a_signature_are_four_quarters() -> None:
    roll = read_midi(midi([on(480), off(480 * 9)])).roll
    assert roll.downbeats == (0, 16, 32)
    assert roll.steps_per_bar == 16
    assert read_midi(midi([on(0), off(480)])).roll.steps_per_bar == 16


def test_senseless_signatures_do_not_count() -> None:
    events = [meta(0, "time_signature", numerator=1, denominator=128), on(0), off(480 * 8)]
    assert read_midi(midi(events)).roll.downbeats == (0, 16)
    late = [meta(10**6, "time_signature", numerator=3, denominator=4), on(0), off(480 * 8)]
    assert read_midi(midi(late)).roll.downbeats == (0, 16)
