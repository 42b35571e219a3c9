"""The canvas, its notes, and the way between them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from roll_support import notes_to_cells

from varcli.pianoroll.roll import (
    HELD,
    ONSET,
    PITCHES,
    Note,
    Roll,
    Vocabulary,
    cells_to_notes,
    crop,
    intensity,
    note_arrays,
)

NOTES = Vocabulary()
BINARY = Vocabulary(binary=True)
STEPS = 24

notes_of_canvas = st.lists(
    st.builds(
        Note,
        pitch=st.sampled_from([0, 1, 60, 61, 127]),
        start_step=st.integers(0, STEPS - 1),
        duration_steps=st.integers(1, STEPS),
        velocity=st.integers(1, 127),
    ),
    max_size=30,
)


def canvases(vocabulary: Vocabulary) -> st.SearchStrategy[np.ndarray]:
    codes = st.integers(0, vocabulary.size - 1)
    return hnp.arrays(np.uint8, st.tuples(st.just(PITCHES), st.integers(1, 12)), elements=codes, fill=st.just(0))


def heard(notes: list[Note], steps: int) -> dict[tuple[int, int], int]:
    """Reference by brute force: (pitch, start) -> end, one note per pitch at a time."""
    ends: dict[tuple[int, int], int] = {}
    for note in notes:
        key = (note.pitch, note.start_step)
        ends[key] = max(ends.get(key, 0), min(note.start_step + note.duration_steps, steps))
    for pitch, start in ends:
        later = [s for p, s in ends if p == pitch and s > start]
        ends[pitch, start] = min([ends[pitch, start], *later])
    return ends


@pytest.mark.parametrize("bins", [1, 2, 5, 16, 32, 126, 127])
def test_velocity_bins_cover_all_velocities_in_order_and_decode_to_their_middle(bins: int) -> None:
    vocabulary = Vocabulary(bins)
    codes = [vocabulary.codes[velocity] for velocity in range(1, 128)]
    assert codes == sorted(codes)
    assert set(codes) == set(range(ONSET, vocabulary.size))
    for code in set(codes):
        members = [v for v in range(1, 128) if codes[v - 1] == code]
        assert members[0] <= vocabulary.velocities[code] <= members[-1]
        assert abs(vocabulary.velocities[code] - np.mean(members)) <= 0.5


def test_vocabulary_sizes() -> None:
    assert NOTES.size == 18
    assert BINARY.size == 2
    assert BINARY.codes[1] == BINARY.codes[127] == 1
    with pytest.raises(ValueError, match="velocity_bins"):
        Vocabulary(0)


def test_a_repeated_note_differs_from_a_held_one() -> None:
    held, _ = notes_to_cells([Note(60, 0, 4, 64)], 4, NOTES)
    repeated, _ = notes_to_cells([Note(60, 0, 2, 64), Note(60, 2, 2, 64)], 4, NOTES)
    assert held[60].tolist() == [NOTES.codes[64], HELD, HELD, HELD]
    assert repeated[60].tolist() == [NOTES.codes[64], HELD] * 2
    assert len(cells_to_notes(repeated, NOTES)) == 2


@settings(deadline=None)
@given(notes_of_canvas)
def test_cells_hold_what_sounds_one_note_per_pitch(notes: list[Note]) -> None:
    cells, merged = notes_to_cells(notes, STEPS, NOTES)
    expected = heard(notes, STEPS)
    found = cells_to_notes(cells, NOTES)
    assert {(n.pitch, n.start_step): n.start_step + n.duration_steps for n in found} == expected
    assert merged == len(notes) - len(expected)
    loudest = {key: max(n.velocity for n in notes if (n.pitch, n.start_step) == key) for key in expected}
    for note in found:
        code = NOTES.codes[loudest[note.pitch, note.start_step]]
        assert note.velocity == NOTES.velocities[code]


@settings(deadline=None)
@given(notes_of_canvas)
def test_notes_to_cells_and_back_is_stable(notes: list[Note]) -> None:
    cells, _ = notes_to_cells(notes, STEPS, NOTES)
    again, merged = notes_to_cells(cells_to_notes(cells, NOTES), STEPS, NOTES)
    assert merged == 0
    assert np.array_equal(again, cells)


@settings(deadline=None)
@given(canvases(NOTES))
def test_any_cells_keep_their_notes_and_only_orphans_change(cells: np.ndarray) -> None:
    before = np.pad(cells, ((0, 0), (1, 0)))[:, :-1]
    orphans = (cells == HELD) & (before == 0)
    again, merged = notes_to_cells(cells_to_notes(cells, NOTES), cells.shape[1], NOTES)
    assert merged == 0
    assert np.array_equal(again[~orphans], cells[~orphans])
    assert np.all(again[orphans] >= ONSET)


@settings(deadline=None)
@given(canvases(BINARY))
def test_binary_cells_round_trip(cells: np.ndarray) -> None:
    notes = cells_to_notes(cells, BINARY)
    assert np.array_equal(notes_to_cells(notes, cells.shape[1], BINARY)[0], cells)
    starts = np.diff(cells, axis=1, prepend=np.uint8(0)) == 1
    assert len(notes) == starts.sum()


def test_binary_repeats_without_a_gap_are_counted_as_merged() -> None:
    cells, merged = notes_to_cells([Note(60, 0, 2, 9), Note(60, 2, 2, 9), Note(62, 0, 1, 9)], 4, BINARY)
    assert merged == 1
    assert cells[60].tolist() == [1, 1, 1, 1]


def test_notes_come_by_start_then_pitch() -> None:
    notes = [Note(70, 0, 1, 64), Note(50, 2, 1, 64), Note(60, 0, 8, 64)]
    cells, _ = notes_to_cells(notes, 8, NOTES)
    assert [(n.start_step, n.pitch) for n in Roll(cells).notes] == [(0, 60), (0, 70), (2, 50)]


def test_an_empty_canvas_has_no_notes() -> None:
    cells, merged = notes_to_cells([], 8, NOTES)
    assert merged == 0
    assert cells.shape == (PITCHES, 8)
    assert cells_to_notes(cells, NOTES) == []
    assert cells_to_notes(np.zeros((PITCHES, 0), np.uint8), NOTES) == []
    assert not intensity(cells, NOTES).any()


def test_notes_at_the_corners() -> None:
    corners = [Note(p, s, 1, 127) for s in (0, STEPS - 1) for p in (0, 127)]
    cells, _ = notes_to_cells(corners, STEPS, NOTES)
    assert [(n.pitch, n.start_step, n.duration_steps) for n in cells_to_notes(cells, NOTES)] == [
        (n.pitch, n.start_step, 1) for n in corners
    ]


@settings(deadline=None)
@given(canvases(NOTES))
def test_intensity_shows_every_sounding_cell_with_its_onsets_velocity(cells: np.ndarray) -> None:
    expected = np.zeros(cells.shape, int)
    notes = note_arrays(cells, NOTES)
    for pitch, start, end, velocity in zip(notes.pitch, notes.start, notes.end, notes.velocity, strict=True):
        expected[pitch, start:end] = 2 * velocity
    assert np.array_equal(intensity(cells, NOTES), expected)


def test_binary_intensity_is_on_or_off() -> None:
    cells, _ = notes_to_cells([Note(60, 1, 2, 64)], 4, BINARY)
    shown = intensity(cells, BINARY)
    assert np.array_equal(shown > 0, cells > 0)
    assert len(np.unique(shown)) == 2


@settings(deadline=None)
@given(notes_of_canvas, st.integers(0, STEPS - 1), st.integers(1, STEPS))
def test_a_crop_sounds_like_the_canvas_there(notes: list[Note], start: int, width: int) -> None:
    cells, _ = notes_to_cells(notes, STEPS, NOTES)
    before = cells.copy()
    part = crop(cells, start, start + width, NOTES)
    assert np.array_equal(cells, before)
    assert np.array_equal(intensity(part, NOTES), intensity(cells, NOTES)[:, start : start + width])
    assert not np.any(part[:, 0] == HELD)
    assert np.array_equal(part[:, 1:], cells[:, start + 1 : start + width])


def test_a_crop_of_a_held_note_begins_with_its_own_velocity() -> None:
    cells, _ = notes_to_cells([Note(60, 0, 2, 10), Note(60, 2, 6, 120), Note(64, 6, 2, 50)], 8, NOTES)
    part = crop(cells, 4, 8, NOTES)
    assert part[60].tolist() == [NOTES.codes[120], HELD, HELD, HELD]
    assert part[64].tolist() == cells[64, 4:].tolist()


def test_a_binary_crop_is_a_slice_and_a_copy() -> None:
    cells, _ = notes_to_cells([Note(60, 0, 8, 64)], 8, BINARY)
    part = crop(cells, 2, 6, BINARY)
    assert np.array_equal(part, cells[:, 2:6])
    part[:] = 0
    assert cells[60].all()
