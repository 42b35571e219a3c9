"""Runs that pieces share: planted ones are found, silence is none, and brute force finds the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roll_support import notes_to_cells

from varcli.pianoroll.evaluation.shared_runs import NOTHING, SharedRun, Voices, shared_runs
from varcli.pianoroll.roll import Note, Vocabulary, cells_to_notes

V = Vocabulary()
BINARY = Vocabulary(binary=True)


def canvas(notes: list[tuple[int, int]], steps: int = 128, duration: int = 1, velocity: int = 64) -> np.ndarray:
    """A canvas of (pitch, step) onsets."""
    table = [Note(pitch, step, duration, velocity) for pitch, step in notes]
    return notes_to_cells(table, steps, V)[0]


def noise(seed: int, steps: int = 128) -> list[tuple[int, int]]:
    rng = np.random.default_rng(seed)
    return sorted({(int(rng.integers(30, 90)), step) for step in range(steps) for _ in range(rng.integers(0, 4))})


def planted(tune: list[tuple[int, int]], at: int, up: int, seed: int) -> list[tuple[int, int]]:
    """Noise in which a tune replaces what was there."""
    last = at + max(step for _, step in tune)
    around = [(pitch, step) for pitch, step in noise(seed) if not at <= step <= last]
    return sorted({*around, *((pitch + up, step + at) for pitch, step in tune)})


TUNE = [(60, 0), (64, 0), (67, 0), (62, 3), (64, 4), (48, 7), (65, 7), (64, 11), (60, 12)]


@pytest.mark.parametrize("up", [-14, 0, 1, 23])
def test_a_planted_run_is_found_in_any_transposition(up: int) -> None:
    searched = [canvas(noise(1)), canvas(planted(TUNE, 40, 0, seed=2)), canvas(noise(3))]
    (found,) = shared_runs([canvas(planted(TUNE, 71, up, seed=4))], searched, V)
    assert found.longest == SharedRun(13, 9, 71, 1, 40, up)
    assert found.richest == found.longest


def test_a_piece_shares_all_of_itself() -> None:
    pieces = [canvas(noise(seed)) for seed in range(3)]
    for index, shared in enumerate(shared_runs(pieces, pieces, V)):
        steps = [note.start_step for note in cells_to_notes(pieces[index], V)]
        expected = SharedRun(max(steps) - min(steps) + 1, len(steps), min(steps), index, min(steps), 0)
        assert shared.longest == shared.richest == expected


def test_lengths_and_loudness_do_not_matter_but_every_onset_does() -> None:
    softly = canvas(TUNE, duration=2, velocity=20)
    (found,) = shared_runs([softly], [canvas(TUNE)], V)
    assert found.longest.notes == len(TUNE)
    one_more = canvas([*TUNE, (90, 7)])
    (found,) = shared_runs([one_more], [canvas(TUNE)], V)
    assert (found.longest.steps, found.longest.notes) == (5, 5)  # what stands before the note that was added
    one_moved = canvas([(pitch, step + (step > 4)) for pitch, step in TUNE])
    (found,) = shared_runs([one_moved], [canvas(TUNE)], V)
    assert (found.longest.steps, found.longest.notes) == (6, 4)  # from what is now a step later on


def test_silence_is_not_shared() -> None:
    apart = [(60, 0), (64, 40), (67, 41), (72, 90)]
    (found,) = shared_runs([canvas(apart)], [canvas(apart)], V)
    assert (found.longest.steps, found.longest.notes) == (2, 2)
    (found,) = shared_runs([canvas(apart)], [canvas(apart)], V, steps_per_bar=64)
    assert (found.longest.steps, found.longest.notes) == (91, 4)
    rest = np.zeros((128, 64), np.uint8)
    assert shared_runs([rest, canvas(TUNE)], [rest], V)[0].longest == NOTHING
    assert [one.longest for one in shared_runs([rest, canvas(TUNE)], [rest], V)] == [NOTHING, NOTHING]
    assert shared_runs([], [rest], V) == []
    assert [one.longest for one in shared_runs([canvas(TUNE)], [], V)] == [NOTHING]


def test_the_longest_run_need_not_have_the_most_notes() -> None:
    sparse, dense = [(60, 0), (62, 15)], [(60, 40), (64, 40), (67, 40), (62, 41), (65, 41)]
    (found,) = shared_runs([canvas(sparse + dense)], [canvas(sparse), canvas(dense)], V)
    assert (found.longest.steps, found.longest.notes, found.longest.found) == (16, 2, 0)
    assert (found.richest.steps, found.richest.notes, found.richest.found) == (2, 5, 1)


def test_a_melody_over_another_accompaniment() -> None:
    melody = [(72, 0), (74, 2), (76, 4), (77, 7), (79, 8), (76, 12)]
    one = [*melody, (48, 0), (55, 4), (52, 8)]
    other = [(pitch + 5, step) for pitch, step in melody] + [(50, 2), (53, 4), (57, 12)]
    (all_voices,) = shared_runs([canvas(one)], [canvas(other)], V)
    assert all_voices.longest.steps < 5
    (top_line,) = shared_runs([canvas(one)], [canvas(other)], V, voices=Voices.top)
    assert top_line.longest == SharedRun(13, 6, 0, 0, 0, -5)


def test_binary_canvases() -> None:
    runs = (canvas(TUNE) > 0).astype(np.uint8)
    (found,) = shared_runs([runs], [np.roll(runs, 3, axis=0)], BINARY)
    assert (found.longest.steps, found.longest.notes, found.longest.transposition) == (13, 9, -3)


def groups_of(cells: np.ndarray, voices: Voices) -> list[tuple[int, frozenset[int]]]:
    struck: dict[int, set[int]] = {}
    for note in cells_to_notes(cells, V):
        struck.setdefault(note.start_step, set()).add(note.pitch)
    chosen = {step: pitches if voices is Voices.all else {max(pitches)} for step, pitches in struck.items()}
    return [(step, frozenset(pitches)) for step, pitches in sorted(chosen.items())]


def brute_force(one: np.ndarray, searched: list[np.ndarray], voices: Voices, bar: int) -> tuple[int, int]:
    """The most steps and the most notes of any shared run, tried one by one."""
    best_steps = best_notes = 0
    mine = groups_of(one, voices)
    for cells in searched:
        theirs = groups_of(cells, voices)
        for i in range(len(mine)):
            for j in range(len(theirs)):
                up = min(mine[i][1]) - min(theirs[j][1])
                notes, last = 0, mine[i][0]
                for (step, pitches), (step_there, there) in zip(mine[i:], theirs[j:], strict=False):
                    same = pitches == {pitch + up for pitch in there}
                    if not same or step - mine[i][0] != step_there - theirs[j][0]:
                        break
                    if step - last > bar:
                        break
                    last, notes = step, notes + len(pitches)
                    best_steps, best_notes = max(best_steps, step - mine[i][0] + 1), max(best_notes, notes)
    return best_steps, best_notes


PIECE = st.lists(st.tuples(st.integers(60, 62), st.integers(0, 23)), max_size=14).map(lambda n: canvas(n, 24))


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECE, min_size=1, max_size=3), st.lists(PIECE, min_size=1, max_size=3), st.sampled_from(Voices))
def test_brute_force_finds_the_same(asked: list[np.ndarray], searched: list[np.ndarray], voices: Voices) -> None:
    found = shared_runs(asked, searched, V, voices=voices, steps_per_bar=4)
    for one, shared in zip(asked, found, strict=True):
        assert (shared.longest.steps, shared.richest.notes) == brute_force(one, searched, voices, bar=4)
        run = shared.longest
        if run.steps:
            mine, theirs = (groups_of(cells, voices) for cells in (one, searched[run.found]))
            pitches = dict(mine)[run.step]
            assert pitches == {pitch + run.transposition for pitch in dict(theirs)[run.found_step]}
