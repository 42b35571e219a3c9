"""Notes of MIDI files that clash, overlap or lack an end: what the roll holds of them, and what the report says."""

import numpy as np
import pytest
from midi_support import FINE, meta, midi, off, on, raw, spans

from varcli.errors import VarError
from varcli.pianoroll.score.midi import read_midi


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
