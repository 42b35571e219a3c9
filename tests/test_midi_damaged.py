"""MIDI files that are no good: read or refused in one line, and never a crash."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from midi_support import meta, midi, off, on, raw

from varcli.errors import UsageError, VarError
from varcli.pianoroll.score.midi import read_midi


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
