"""Prompts, regions, voices, scales and ranges: what is kept of a piece and what may sound."""

from pathlib import Path

import mido
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roll_support import notes_to_cells

from varcli.errors import UsageError
from varcli.pianoroll.config import PianorollConfig
from varcli.pianoroll.planes import Planes
from varcli.pianoroll.roll import Note, Roll, Vocabulary, top_line
from varcli.pianoroll.sampling.prompt import (
    Region,
    bars_of,
    continuation,
    fit,
    harmonising,
    inpainting,
    parse_region,
    read_prompt,
    read_voice,
)
from varcli.pianoroll.score.midi import read_midi, write_midi
from varcli.pianoroll.score.scales import ALIASES, SCALES, parse_pitch_range, parse_scale

CONFIG = PianorollConfig()


def roll_of(*notes: tuple[int, int, int], steps: int = 16, **grid) -> Roll:
    """A roll of notes (pitch, start, length)."""
    cells, _ = notes_to_cells([Note(p, t, d, 64) for p, t, d in notes], steps, Vocabulary())
    return Roll(cells, **grid)


def classes(mask: np.ndarray) -> set[int]:
    return {int(pitch) % 12 for pitch in np.flatnonzero(mask)}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("C:major", {0, 2, 4, 5, 7, 9, 11}),
        ("a:minor", {0, 2, 4, 5, 7, 9, 11}),
        ("F#:dorian", {6, 8, 9, 11, 1, 3, 4}),
        ("Gb:Dorian", {6, 8, 9, 11, 1, 3, 4}),
        ("Bb:Harmonic Minor", {10, 0, 1, 3, 5, 6, 9}),
        ("Cb:pentatonic-major", {11, 1, 3, 6, 8}),
        ("e:blues", {4, 7, 9, 10, 11, 2}),
        ("C:whole_tone", {0, 2, 4, 6, 8, 10}),
        ("D:chromatic", set(range(12))),
    ],
)
def test_scales(text: str, wanted: set[int]) -> None:
    mask = parse_scale(text)
    assert classes(mask) == wanted
    assert mask.sum() == sum(pitch % 12 in wanted for pitch in range(128))


def test_modes_are_the_same_notes_from_another_tonic() -> None:
    tonics = {"ionian": "C", "dorian": "D", "phrygian": "E", "lydian": "F", "mixolydian": "G", "aeolian": "A"}
    for name, tonic in {**tonics, "locrian": "B"}.items():
        assert classes(parse_scale(f"{tonic}:{name}")) == SCALES_OF_C
    assert set(ALIASES.values()) <= set(SCALES)


SCALES_OF_C = {0, 2, 4, 5, 7, 9, 11}


@pytest.mark.parametrize(
    ("text", "said"),
    [("major", "TONIC:NAME"), ("H:major", "tonic"), ("C:majr", "did you mean major"), ("C:zzz", "there are major")],
)
def test_scales_that_are_none(text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_scale(text)
    assert said in f"{error.value.message} {error.value.hint}"


@pytest.mark.parametrize(
    ("text", "low", "high"), [("36:84", 36, 84), ("C2:C6", 36, 84), ("C-1:g9", 0, 127), ("Bb3:A#3", 58, 58)]
)
def test_pitch_ranges_hold_both_ends(text: str, low: int, high: int) -> None:
    assert np.flatnonzero(parse_pitch_range(text)).tolist() == list(range(low, high + 1))


@pytest.mark.parametrize("text", ["", "36", "84:36", "36:200", "a:b", "-1:5", "H2:C4", "1:2:3"])
def test_pitch_ranges_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_pitch_range(text)


@pytest.mark.parametrize(
    ("text", "region"),
    [("4:8", Region(4, 8, 0, 127)), ("0:16,60:72", Region(0, 16, 60, 72)), ("0:1,C4:C4", Region(0, 1, 60, 60))],
)
def test_regions(text: str, region: Region) -> None:
    assert parse_region(text) == region


@pytest.mark.parametrize(
    "text", ["", "4", "8:8", "9:8", "-1:4", "a:b", "0:4,", "0:4,72:60", "0:4,0:128", "0:4,60", "0:4:8"]
)
def test_regions_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_region(text)


@given(st.integers(1, 15), st.integers(16, 24), st.integers(0, 2**32))
def test_a_continuation_keeps_the_first_steps_whole(steps: int, width: int, seed: int) -> None:
    cells = np.random.default_rng(seed).integers(0, 4, (128, 16)).astype(np.uint8)
    kept = continuation(Roll(cells), steps, width, Planes(), 16)
    assert kept.given[:, :steps].all() and not kept.given[:, steps:].any()
    assert np.array_equal(kept.codes[:, :steps], cells[:, :steps]) and not kept.codes[:, steps:].any()


def test_a_continuation_needs_room_and_a_prompt_that_is_long_enough() -> None:
    roll = roll_of((60, 0, 16))
    assert continuation(roll, None, 17, Planes(), 16).given.sum() == 128 * 16
    for steps, width, said in (
        (17, 32, "--prompt-steps 17"),
        (None, 16, "--target-width 16"),
        (8, 8, "--target-width 8"),
    ):
        with pytest.raises(UsageError) as caught:
            continuation(roll, steps, width, Planes(), 16)
        assert said in caught.value.message


def test_inpainting_frees_the_regions_and_nothing_else() -> None:
    roll = roll_of((60, 0, 16), (72, 4, 4))
    kept = inpainting(roll, [Region(4, 6, 70, 127), Region(15, 20)], 20, Planes(), 16)
    free = np.zeros((128, 20), bool)
    free[70:, 4:6] = free[:, 15:] = True
    assert np.array_equal(kept.given, ~free)
    assert np.array_equal(kept.codes, np.where(free, 0, fit(roll.cells, 20)))
    with pytest.raises(UsageError, match="20 steps"):
        inpainting(roll, [Region(4, 21)], 20, Planes(), 16)


def test_harmonising_keeps_notes_and_their_ends() -> None:
    voice = roll_of((60, 0, 4), (60, 4, 2), (62, 14, 2)).cells
    kept = harmonising(voice, 16, Planes())
    assert np.array_equal(kept.codes, voice)
    assert np.flatnonzero(kept.given[60]).tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert np.flatnonzero(kept.given[62]).tolist() == [14, 15]
    with pytest.raises(UsageError, match="first 8 steps"):
        harmonising(roll_of((62, 14, 2)).cells, 8, Planes())


def test_the_top_voice_is_made_of_whole_notes_that_are_highest_where_they_begin() -> None:
    roll = roll_of((60, 0, 8), (64, 0, 12), (72, 4, 2), (71, 5, 4), (50, 13, 3))
    # 71 begins below 72; 64 was the highest once and stays to its end; 50 is alone.
    assert np.array_equal(top_line(roll.cells, roll.vocabulary), roll_of((64, 0, 12), (72, 4, 2), (50, 13, 3)).cells)


def two_tracks(path: Path) -> Path:
    """A file with two tracks named Lead and one named Bass, at 90 bpm, sharing a pitch."""
    file = mido.MidiFile(ticks_per_beat=480)
    head = file.add_track("song")
    head.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(90)))
    for name, channel, notes in (
        ("Lead", 0, [(72, 0, 4), (60, 4, 4)]),
        ("Bass", 1, [(60, 0, 8)]),
        ("lead ", 2, [(76, 8, 2)]),
    ):
        track = file.add_track(name)
        now = 0
        for pitch, start, length in notes:
            track.append(mido.Message("note_on", channel=channel, note=pitch, velocity=70, time=120 * start - now))
            track.append(mido.Message("note_off", channel=channel, note=pitch, velocity=0, time=120 * length))
            now = 120 * (start + length)
    file.add_track("silence")
    file.save(path)
    return path


def test_tracks_of_one_name_are_one_voice(tmp_path: Path) -> None:
    path = two_tracks(tmp_path / "song.mid")
    piece, voice = read_voice(path, "LEAD", CONFIG)
    lead, _ = notes_to_cells([Note(72, 0, 4, 70), Note(60, 4, 4, 70), Note(76, 8, 2, 70)], 10, Vocabulary())
    assert np.array_equal(voice, lead)
    assert piece.roll.steps == 10 and piece.roll.tempo_bpm == pytest.approx(90, abs=0.01)
    assert np.array_equal(piece.roll.cells, read_midi(path).roll.cells)
    assert np.array_equal(read_voice(path, "bass", CONFIG)[1][60, :9] > 0, np.arange(9) < 8)
    for name in ("drums", "silence"):
        with pytest.raises(UsageError) as error:
            read_voice(path, name, CONFIG)
        assert error.value.hint == "tracks with notes: Lead, Bass, lead"


def test_rolls_are_written_with_a_track_for_each_part(tmp_path: Path) -> None:
    roll = roll_of((60, 0, 8), (64, 2, 2), (72, 4, 4), title="both")
    mask = np.zeros(roll.cells.shape, bool)
    mask[60, :5] = mask[72] = True
    path = tmp_path / "a.mid"
    write_midi(roll, path, tracks={"Lead": mask, "New voices": ~mask})
    assert [track.name for track in mido.MidiFile(path).tracks] == ["both", "Lead", "New voices"]
    _, lead = read_voice(path, "lead", CONFIG)
    assert np.array_equal(lead > 0, np.where(mask, roll.cells, 0)[:, : lead.shape[1]] > 0)
    _, new = read_voice(path, "new voices", CONFIG)
    # What goes on in the other track begins anew there, as loud as it was.
    assert new[60].tolist()[:8] == [0, 0, 0, 0, 0, roll.cells[60, 0], 1, 1]
    whole = write_midi(roll, None, tracks={"Piano": np.ones_like(mask)})
    assert whole == write_midi(roll, None)


def test_bars_go_on_after_the_prompt() -> None:
    assert bars_of(roll_of((60, 0, 16), downbeats=(3, 15), steps_per_bar=12), 45) == (3, 15, 27, 39)
    assert bars_of(roll_of((60, 0, 16), downbeats=(3, 15)), 10) == (3,)
    assert bars_of(roll_of((60, 0, 16)), 45) is None


def test_a_prompt_is_read_by_the_beats_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "song"
    folder.mkdir()
    path = two_tracks(folder / "song.mid")
    plain = read_prompt(path, CONFIG).roll
    beats = "".join(f"{0.1 + beat} {int(beat % 3 == 0)}\n" for beat in range(12))
    (folder / "beat_midi.txt").write_text(beats)
    roll = read_prompt(path, CONFIG).roll
    assert (plain.steps_per_bar, roll.steps_per_bar) == (16, 12)
    assert roll.tempo_bpm == pytest.approx(60, abs=0.1)
    two_tracks(folder / "other.mid")
    assert read_prompt(folder / "other.mid", CONFIG).roll.steps_per_bar == 16
    assert read_prompt(path, CONFIG).roll.steps_per_bar == 12
