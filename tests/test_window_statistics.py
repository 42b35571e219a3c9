"""Statistics of windows, and the windows themselves."""

from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from roll_support import notes_to_cells

from varcli.pianoroll.corpus.corpus import Piece
from varcli.pianoroll.evaluation.windows import windows
from varcli.pianoroll.roll import HELD, Note, Vocabulary, cells_to_notes

_BENCHMARK = run_path(str(Path(__file__).parent.parent / "benchmarks" / "window_statistics.py"))
WindowStatistics, window_statistics = _BENCHMARK["WindowStatistics"], _BENCHMARK["window_statistics"]
FINE = Vocabulary(127)


def canvas(notes: list[Note], steps: int) -> np.ndarray:
    return notes_to_cells(notes, steps, FINE)[0]


def piece(notes: list[Note], steps: int, downbeats: list[int]) -> Piece:
    return Piece("a", canvas(notes, steps), np.array(downbeats, np.int32), 0.0, "test")


def test_six_numbers_of_a_window_worked_out_by_hand() -> None:
    notes = [
        Note(60, 0, 8, 40),  # on the beat
        Note(64, 4, 4, 60),  # on the beat
        Note(72, 8, 2, 80),  # on the beat, a C again
        Note(67, 10, 2, 60),  # off the beat
    ]
    found = window_statistics(canvas(notes, 32), FINE)
    assert found.notes_per_bar == 2.0
    assert found.polyphony == pytest.approx((8 + 4 + 2 + 2) / 12)
    assert found.pitch_class_entropy == pytest.approx(1.5)
    assert found.off_beat_share == 0.25
    assert found.median_duration == 3.0
    assert found.velocity_spread == pytest.approx(np.std([40, 60, 80, 60]))


def test_metre_is_an_option() -> None:
    notes = [Note(60, 0, 1, 64), Note(60, 3, 1, 64), Note(60, 6, 1, 64), Note(60, 8, 1, 64)]
    found = window_statistics(canvas(notes, 24), FINE, steps_per_bar=12, steps_per_beat=3)
    assert found.notes_per_bar == 2.0
    assert found.off_beat_share == 0.25


def test_all_pitch_classes_alike_and_one_alone() -> None:
    chromatic = canvas([Note(60 + i, i, 1, 64) for i in range(12)], 16)
    assert window_statistics(chromatic, FINE).pitch_class_entropy == pytest.approx(np.log2(12))
    octaves = canvas([Note(12 * i, i, 1, 64) for i in range(10)], 16)
    assert window_statistics(octaves, FINE).pitch_class_entropy == 0.0


def test_silence_has_all_numbers_0() -> None:
    assert window_statistics(np.zeros((128, 16), np.uint8), FINE) == WindowStatistics(0, 0, 0, 0, 0, 0)


def test_binary_windows_have_no_velocity_spread() -> None:
    cells = (canvas([Note(60, 0, 4, 20), Note(64, 2, 4, 120)], 16) > 0).astype(np.uint8)
    found = window_statistics(cells, Vocabulary(binary=True))
    assert found.velocity_spread == 0.0
    assert found.notes_per_bar == 2.0


def test_windows_begin_at_bars_do_not_overlap_and_leave_no_rest() -> None:
    song = piece([Note(60, s, 1, 64) for s in range(100)], 100, [2, 14, 26, 38, 54, 66, 82, 94])
    found = windows([song], FINE, steps=16)
    starts = [2, 26, 54, 82]
    assert len(found) == len(starts)
    for part, start in zip(found, starts, strict=True):
        assert np.array_equal(part, song.cells[:, start : start + 16])


def test_a_note_held_into_a_window_begins_there_with_its_velocity() -> None:
    song = piece([Note(60, 0, 40, 101)], 40, [0, 16, 32])
    for part in windows([song], FINE, steps=16):
        assert part[60, 0] == FINE.codes[101]
        assert np.all(part[60, 1:] == HELD)
        assert len(cells_to_notes(part, FINE)) == 1


def test_windows_without_notes_are_left_out_and_bars_may_be_unknown() -> None:
    song = piece([Note(60, 0, 4, 64), Note(60, 33, 4, 64)], 50, [])
    found = windows([song], FINE, steps=16)
    assert [cells_to_notes(part, FINE)[0].start_step for part in found] == [0, 1]
    assert windows([piece([Note(60, 0, 4, 64)], 8, [0])], FINE, steps=16) == []
