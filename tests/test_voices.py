"""Voices: which tracks make them, what files hold of them, and what becomes of a piece without any."""

import io
from dataclasses import replace
from pathlib import Path

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from midi_support import FINE, meta, midi, off, on
from roll_support import notes_to_cells

from varcli.pianoroll.config import ModelConfig, PianorollConfig
from varcli.pianoroll.results.constraints import Constraints
from varcli.pianoroll.results.start import Start, prepare
from varcli.pianoroll.roll import Note, Roll, Vocabulary, merge, top_line
from varcli.pianoroll.sampling.prompt import read_prompt
from varcli.pianoroll.score.midi import read_midi, share_out, split_top_line, write_midi
from varcli.pianoroll.score.voices import TrackRule
from varcli.pianoroll.train_config import DataConfig

NAMES = ("melody", "bridge", "piano")
POP = TrackRule.from_names(dict(zip(NAMES, NAMES, strict=True)))
SCORES = TrackRule.from_names(
    {
        "melody": "*",
        "bridge": ("bridge", "alto*", "tenor*", "bass*", "violin 2", "viola"),
        "piano": ("*piano*", "klavier*", "violoncello"),
    }
)
VOCABULARY = Vocabulary()


def file_of(*names: str, title: str = "") -> bytes:
    """A file with a track of one note for each name: pitch 60 for the first, 61 for the second and so on."""
    tracks: list[list] = [[meta(0, "track_name", name=title)]]
    for index, name in enumerate(names):
        pitch, start = 60 + index, 480 * index
        tracks.append([meta(0, "track_name", name=name), on(start, pitch), off(start + 480, pitch)])
    return midi(*tracks)


def voices_of(data: bytes, rule: TrackRule) -> dict[str, list[int]]:
    """The pitches of each voice of a file."""
    roll = read_midi(data, voices=rule).roll
    assert roll.voices is not None
    return {name: np.flatnonzero(cells.any(1)).tolist() for name, cells in roll.voices.items()}


@pytest.mark.parametrize(
    ("rule", "tracks", "voices"),
    [
        (POP, ("MELODY", "BRIDGE", "PIANO"), ([60], [61], [62])),
        (POP, (" Piano ", "bass", "Melody"), ([62], [], [60, 61])),
        (SCORES, ("Singstimme\nVoice", "Pianoforte"), ([60], [], [61])),
        (SCORES, ("Violin 1", "Violin 2", "Viola", "Violoncello"), ([60], [61, 62], [63])),
        (SCORES, ("Soprano", "Alto", "Tenor", "Bass", "Klavier\nPiano"), ([60], [61, 62, 63], [64])),
        (SCORES, ("Flute", "Piano"), ([60], [], [61])),
        (SCORES, ("MELODY", "BRIDGE", "PIANO"), ([60], [61], [62])),
    ],
)
def test_tracks_become_voices_by_their_names(rule: TrackRule, tracks: tuple, voices: tuple) -> None:
    assert voices_of(file_of(*tracks), rule) == dict(zip(NAMES, voices, strict=True))


def test_a_config_names_the_tracks_of_its_voices() -> None:
    model = ModelConfig(voices=("melody", "piano [left]"))
    assert TrackRule.of(PianorollConfig()) is None
    rule = TrackRule.of(PianorollConfig(model=model))
    assert rule is not None
    assert [rule.voice_of(name) for name in ("Melody", "Piano [left]", "piano l", "bass")] == [0, 1, 1, 1]
    data = DataConfig.model_validate({"voices": {"melody": "*", "piano [left]": ["left", "lh"]}})
    rule = TrackRule.of(PianorollConfig(model=model, data=data))
    assert rule is not None
    assert [rule.voice_of(name) for name in ("LH", "left", "piano [left]", "")] == [1, 1, 1, 0]


def test_the_cells_are_the_same_with_voices_and_without() -> None:
    together = [[on(0, 60, 20), off(960, 60)], [on(0, 60, 90), off(480, 60), on(720, 60, 40), off(1200, 60)]]
    named = [
        [meta(0, "track_name", name=name), *track] for name, track in zip(("melody", "piano"), together, strict=True)
    ]
    plain, piece = read_midi(midi(*named)), read_midi(midi(*named), voices=POP)
    assert np.array_equal(plain.roll.cells, piece.roll.cells) and plain.loss == piece.loss
    assert piece.roll.voices is not None and plain.roll.voices is None
    assert np.array_equal(merge(piece.roll.voices.values(), VOCABULARY), piece.roll.cells)
    assert piece.tracks == {"melody": ("melody",), "bridge": (), "piano": ("piano",)}
    assert piece.arrangement is not None and plain.arrangement is not None
    assert plain.arrangement.cut(plain.roll) == plain.loss.cut > 0
    assert piece.arrangement.cut(piece.roll) == 0, "in its own voice it goes on"


NOTES = st.lists(
    st.builds(Note, st.integers(0, 127), st.integers(0, 30), st.integers(1, 20), st.integers(1, 127)), max_size=12
)


@settings(deadline=None, max_examples=40)
@given(notes=st.lists(NOTES, min_size=3, max_size=3))
def test_voices_survive_midi_and_their_union_is_the_cells(notes: list[list[Note]]) -> None:
    everything = [note for part in notes for note in part]
    if not everything:
        return
    voices = {name: notes_to_cells(part, 64, FINE)[0] for name, part in zip(NAMES, notes, strict=True)}
    steps = np.flatnonzero(np.stack(list(voices.values())).any((0, 1)))[-1] + 1  # a file ends with its last note
    voices = {name: cells[:, :steps] for name, cells in voices.items()}
    cells = notes_to_cells(everything, 64, FINE)[0][:, :steps]
    assert np.array_equal(merge(voices.values(), FINE), cells)
    data = write_midi(Roll(cells, FINE, voices=voices), None)
    written = mido.MidiFile(file=io.BytesIO(data)).tracks
    assert [track.name for track in written][1:] == ["Melody", "Bridge", "Piano"]
    piece = split_top_line(read_midi(data, vocabulary=FINE, voices=POP))
    assert piece.note == "" and np.array_equal(piece.roll.cells, cells)
    assert piece.roll.voices is not None and list(piece.roll.voices) == list(NAMES)
    assert all(np.array_equal(cells, voices[name]) for name, cells in piece.roll.voices.items())


@pytest.mark.parametrize("track", ["", "Piano", "Flute", "MELODY"])
def test_a_piece_of_one_voice_is_shared_out_by_pitch_and_that_is_said(track: str) -> None:
    notes: list = [meta(0, "track_name", name=track)]
    for pitch, start, end in ((48, 0, 960), (72, 0, 480), (76, 480, 960)):
        notes += [on(start, pitch), off(end, pitch)]
    piece = split_top_line(read_midi(midi([meta(0, "track_name", name="Bridge")], notes), voices=POP))
    assert piece.roll.voices is not None
    used = {name: np.flatnonzero(cells.any(1)).tolist() for name, cells in piece.roll.voices.items()}
    assert used == {"melody": [72, 76], "bridge": [], "piano": [48]}
    assert np.array_equal(merge(piece.roll.voices.values(), VOCABULARY), piece.roll.cells)
    assert piece.note == (
        f"no tracks for several voices ({track or 'no name'}): the top line is read as melody, the rest as piano"
    )
    assert np.array_equal(piece.roll.voices["melody"], top_line(piece.roll.cells, VOCABULARY))


def test_names_of_silent_tracks_count_if_they_tell_of_a_voice() -> None:
    notes = [meta(0, "track_name", name="Piano"), on(0, 60), off(480, 60)]
    for rule in (POP, SCORES):
        for other, split in (("Bridge", False), ("Melody", False), ("made by hand", True), ("", True)):
            silent = [meta(0, "track_name", name=other)]
            assert bool(split_top_line(read_midi(midi([], notes, silent), voices=rule)).note) == split, (other, split)


def test_a_roll_is_shared_out_over_any_voices() -> None:
    cells = notes_to_cells([Note(60, 0, 4, 60), Note(72, 0, 2, 60)], 4, VOCABULARY)[0]
    roll = Roll(cells)
    assert share_out(roll, ()) is roll
    one = share_out(roll, ("all",)).voices
    assert one is not None and list(one) == ["all"] and np.array_equal(one["all"], cells)
    three = share_out(roll, NAMES).voices
    assert three is not None and list(three) == list(NAMES)
    assert [np.flatnonzero(each.any(1)).tolist() for each in three.values()] == [[72], [], [60]]


def test_prompts_are_read_in_the_voices_of_the_model_and_what_was_decided_is_a_warning(tmp_path: Path) -> None:
    config = PianorollConfig(model=ModelConfig(voices=NAMES, conditioning=True))
    (tmp_path / "three.mid").write_bytes(file_of("Melody", "Bridge", "Piano"))
    (tmp_path / "one.mid").write_bytes(file_of("Piano", "Piano"))
    start = Start("continuation", tmp_path / "three.mid", 4, (), None, Constraints(), 32, None)
    assert prepare(start, config).warnings == ()
    piece = read_prompt(tmp_path / "three.mid", config)
    assert piece.roll.voices is not None and all(cells.any() for cells in piece.roll.voices.values())
    shared = "the top line is read as melody, the rest as piano"
    for prompt, said in (
        (tmp_path / "one.mid", f"{tmp_path / 'one.mid'}: no tracks for several voices (Piano): {shared}"),
        (replace(piece.roll, voices=None), f"the prompt: a roll without the voices of the model: {shared}"),
    ):
        assert prepare(replace(start, prompt=prompt), config).warnings == (said,)
    assert prepare(replace(start, prompt=piece.roll), config).warnings == ()
    assert (
        prepare(replace(start, prompt=piece.roll), PianorollConfig(model=ModelConfig(conditioning=True))).warnings == ()
    )


def test_pieces_in_several_voices_and_those_read_without_stay_as_they_are() -> None:
    data = file_of("Melody", "Piano")
    for piece in (
        read_midi(data, voices=POP),
        read_midi(data),
        read_midi(file_of("Piano"), voices=TrackRule.from_names({"piano": "*"})),
        read_midi(midi([], [meta(0, "track_name", name="melody")], [on(0), off(480)]), voices=POP),
    ):
        assert split_top_line(piece) is piece
