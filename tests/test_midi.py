"""MIDI to rolls and back, and what messy files do."""

import io
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pretty_midi
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from roll_support import notes_to_cells

from varcli.errors import UsageError, VarError
from varcli.pianoroll.roll import Note, Roll, Vocabulary
from varcli.pianoroll.score.midi import LossReport, read_midi, write_midi

FINE = Vocabulary(127)  # one bin per velocity
TICKS = [96, 120, 192, 384, 480, 600, 960, 1024]


def on(tick: int, note: int = 60, velocity: int = 64, channel: int = 0) -> tuple[int, mido.Message]:
    return tick, mido.Message("note_on", note=note, velocity=velocity, channel=channel)


def off(tick: int, note: int = 60, channel: int = 0) -> tuple[int, mido.Message]:
    return tick, mido.Message("note_off", note=note, channel=channel)


def meta(tick: int, kind: str, **fields: Any) -> tuple[int, mido.MetaMessage]:
    return tick, mido.MetaMessage(kind, **fields)


def midi(*tracks: list, ticks: int = 480, format: int = 1, end: int = 0) -> bytes:
    """A MIDI file of tracks of (tick, message); messages of one tick keep their order."""
    file = mido.MidiFile(type=format, ticks_per_beat=ticks)
    for events in tracks:
        track, now = mido.MidiTrack(), 0
        for tick, message in sorted(events, key=lambda event: event[0]):
            track.append(message.copy(time=tick - now))
            now = tick
        track.append(mido.MetaMessage("end_of_track", time=max(0, end - now)))
        file.tracks.append(track)
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def spans(roll: Roll) -> list[tuple[int, int, int]]:
    """(pitch, start, end) of a roll's notes."""
    return [(n.pitch, n.start_step, n.start_step + n.duration_steps) for n in roll.notes]


def raw(body: bytes, format: int = 0, division: int = 480) -> bytes:
    head = b"MThd" + (6).to_bytes(4, "big") + format.to_bytes(2, "big") + (1).to_bytes(2, "big")
    return head + division.to_bytes(2, "big") + b"MTrk" + len(body).to_bytes(4, "big") + body


# --- round trips


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
    end = min(64, max(note.start_step + note.duration_steps for note in notes))
    cells, _ = notes_to_cells(notes, end, vocabulary)
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


# --- tempo and bars


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


# --- tracks, drums, notes that clash


def test_tracks_share_the_canvas_and_doublings_merge() -> None:
    loud, soft = [on(0, velocity=100), off(480)], [on(0, velocity=30), off(960), on(960, 64), off(1200, 64)]
    piece = read_midi(midi(loud, soft), vocabulary=FINE)
    assert spans(piece.roll) == [(60, 0, 8), (64, 8, 10)]
    assert piece.roll.notes[0].velocity == 100
    assert (piece.loss.notes_read, piece.loss.notes_written, piece.loss.merged) == (3, 2, 1)


def test_a_note_struck_again_by_another_track_is_cut() -> None:
    piece = read_midi(midi([on(0), off(960)], [on(480, velocity=90), off(720)]))
    assert spans(piece.roll) == [(60, 0, 4), (60, 4, 6)]
    assert (piece.loss.merged, piece.loss.cut) == (0, 1)


def test_drums_are_left_out_and_counted_unless_asked_for() -> None:
    data = midi([on(0), off(480)], [on(0, 36, channel=9), off(120, 36, channel=9), on(480, 38, channel=9)])
    piece = read_midi(data)
    assert spans(piece.roll) == [(60, 0, 4)]
    assert (piece.loss.drum_notes, piece.loss.notes_read) == (2, 1)
    assert read_midi(data, drums=True).loss.notes_read == 3
    with pytest.raises(VarError, match="no notes but 1 on the drum channel"):
        read_midi(midi([on(0, 36, channel=9), off(120, 36, channel=9)]))


def test_overlapping_notes_of_one_key_both_survive() -> None:
    piece = read_midi(midi([on(0), on(460), off(500), off(960)]))
    assert spans(piece.roll) == [(60, 0, 4), (60, 4, 8)]


def test_an_onset_before_the_end_on_the_same_tick_is_a_repeat() -> None:
    piece = read_midi(midi([on(0), on(480), off(480), off(960)]))
    assert spans(piece.roll) == [(60, 0, 4), (60, 4, 8)]
    assert piece.loss.dropped == 0


def test_one_end_for_two_starts_ends_both() -> None:
    piece = read_midi(midi([on(0), on(480), off(960), on(1920), off(2400)]))
    assert spans(piece.roll) == [(60, 0, 4), (60, 4, 8), (60, 16, 20)]
    assert piece.loss.unended == 0


def test_a_note_without_an_end_lasts_as_long_as_its_track() -> None:
    piece = read_midi(midi([on(0), on(480, 62), off(960, 62)], end=1920))
    assert spans(piece.roll) == [(60, 0, 16), (62, 4, 8)]
    assert piece.loss.unended == 1


def test_ends_without_a_start_do_nothing() -> None:
    panic = [off(1920, pitch) for pitch in range(128)]
    piece = read_midi(midi([on(0), on(460), off(500), off(960), *panic]))
    assert spans(piece.roll) == [(60, 0, 4), (60, 4, 8)]


def test_notes_without_length_are_dropped() -> None:
    piece = read_midi(midi([on(0), off(0), on(480, 62), off(960, 62)]))
    assert spans(piece.roll) == [(62, 4, 8)]
    assert (piece.loss.notes_read, piece.loss.dropped) == (2, 1)
    with pytest.raises(VarError, match="no notes"):
        read_midi(midi([on(0), off(0)]))


def test_short_notes_last_a_step_and_a_repeat_in_one_cell_merges() -> None:
    piece = read_midi(midi([on(0), off(5), on(10), off(15), on(480), off(481)]))
    assert spans(piece.roll) == [(60, 0, 1), (60, 4, 5)]
    assert piece.loss.merged == 1


def test_the_loss_report_measures_the_distance_to_the_grid() -> None:
    piece = read_midi(midi([on(12), off(480), on(480, 62), off(960, 62), on(930, 64), off(1200, 64)]))
    assert piece.loss.moved == 2
    assert piece.loss.moved_mean_steps == pytest.approx((0.1 + 0.25) / 2)
    assert piece.loss.moved_max_steps == pytest.approx(0.25)
    assert piece.loss.off_grid == pytest.approx(0.35 / 3)


def test_lowest_and_highest_key() -> None:
    piece = read_midi(midi([on(0, 0, 1), off(120, 0), on(0, 127, 127), off(120, 127)]), vocabulary=FINE)
    assert [(n.pitch, n.velocity) for n in piece.roll.notes] == [(0, 1), (127, 127)]


def test_format_0_and_1_read_alike() -> None:
    events = [meta(0, "set_tempo", tempo=400_000), on(0), off(480), on(480, 62), off(960, 62)]
    one, zero = read_midi(midi(events[:1], events[1:])), read_midi(midi(events, format=0))
    assert np.array_equal(one.roll.cells, zero.roll.cells)
    assert one.roll.tempo_bpm == zero.roll.tempo_bpm == pytest.approx(150)


def test_running_status_and_velocity_0_as_end() -> None:
    body = bytes([0, 0x90, 60, 64, 0x60, 60, 0, 0, 62, 64, 0x60, 62, 0]) + b"\x00\xff\x2f\x00"
    assert spans(read_midi(raw(body, division=0x60)).roll) == [(60, 0, 4), (62, 4, 8)]


# --- files that are no good


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a MIDI file"),
        (b"RIFF....", "not a MIDI file"),
        (b"MThd", "truncated"),
        (raw(b"\x00\xff\x2f\x00", format=2), "format 2"),
        (raw(b"\x00\xff\x2f\x00", division=0xE728), "SMPTE"),
        (raw(b"\x00\xff\x2f\x00", division=0), "SMPTE"),
        (raw(b"\x00\xff\x2f\x00"), "no notes"),
        (raw(b"\x00\x90\xff\xff"), "broken|truncated"),
        (midi([on(0), off(480 * 40_000)]), "160000 steps long, more than"),
        (midi([on(0), off(2**27), off(2**28 - 1)], ticks=1), "steps long, more than"),
        (b"MThd" + bytes(9 << 20), "larger than 4 MiB"),
    ],
)
def test_bad_content_is_one_line(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.mid"
    path.write_bytes(data)
    with pytest.raises(VarError, match=message) as caught:
        read_midi(path)
    assert "bad.mid" in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 1


def test_missing_file_and_folder_are_usage_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "none.mid", tmp_path):
        with pytest.raises(UsageError, match=path.name):
            read_midi(path)


def test_a_file_cut_anywhere_is_truncated() -> None:
    data = midi([meta(0, "set_tempo", tempo=500_000)], [on(0), off(480), on(480, 62), off(960, 62)])
    for length in range(len(data)):
        with pytest.raises(VarError, match=r"truncated|not a MIDI file"):
            read_midi(data[:length])


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(4, 10**4), st.integers(0, 255)), min_size=1, max_size=8))
@example([(12, 0), (13, 0)])
def test_damage_is_read_or_refused_but_never_crashes(changes: list[tuple[int, int]]) -> None:
    head = [meta(0, "set_tempo", tempo=500_000), meta(0, "time_signature", numerator=3, denominator=4)]
    data = bytearray(midi(head, [on(0), off(480), on(480, 62), off(960, 62)] * 3))
    for position, value in changes:
        data[4 + position % (len(data) - 4)] = value
    try:
        piece = read_midi(bytes(data), name="damaged")
    except VarError as error:
        assert error.message.startswith("damaged: ")
        assert "\n" not in error.message
    else:
        loss = piece.loss
        assert loss.notes_read == loss.notes_written + loss.merged + loss.dropped
        assert loss.notes_written == len(piece.roll.notes) > 0


def test_many_hanging_notes_of_one_key_take_no_quadratic_time() -> None:
    body = bytes([0, 0x90, 60, 64]) + bytes([0, 60, 64]) * 60_000 + bytes([1, 60, 0]) * 30_000 + b"\x00\xff\x2f\x00"
    piece = read_midi(raw(body))
    assert piece.loss.notes_read == 60_001
    assert len(piece.roll.notes) == 1
