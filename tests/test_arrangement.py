"""What music that keeps some of a MIDI file takes over from it: tracks, drums, tempos, time signatures."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
from cli_support import assert_refused, run, run_json, save_midi, save_tiny, tiny_config
from midi_support import meta, midi, off, on

from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.roll import Roll, Vocabulary
from varcli.pianoroll.sampling.prompt import fit
from varcli.pianoroll.score.arrangement import Arrangement
from varcli.pianoroll.score.beats import BeatGrid
from varcli.pianoroll.score.midi import read_midi, share_out, split_top_line, write_midi
from varcli.pianoroll.score.voices import TrackRule

BINS = Vocabulary(2)
QUARTER = 96  # ticks of the song


def song_bytes(*more: tuple[int, Any]) -> bytes:
    """32 steps of violin and bass on channels 3 and 5, drums off the grid; 120, then 90, then 60 bpm; 3/4, then 6/8."""
    step = QUARTER // 4
    head = [meta(0, "track_name", name="Song"), meta(0, "time_signature", numerator=3, denominator=4)]
    head += [meta(12 * step, "time_signature", numerator=6, denominator=8)]
    head += [meta(at * step, "set_tempo", tempo=us) for at, us in ((0, 500_000), (8, 666_667), (20, 1_000_000))]
    violin = [meta(0, "track_name", name="Violin"), (0, mido.Message("program_change", program=40, channel=3)), *more]
    bass = [meta(0, "track_name", name="Bass"), (0, mido.Message("program_change", program=32, channel=5))]
    for at in range(0, 32, 4):
        violin += [on(at * step, 72 + at // 4, 100, 3), off((at + 3) * step, 72 + at // 4, 3)]
        bass += [on(at * step, 40, 30, 5), off((at + 4) * step, 40, 5)]
    kit = [meta(0, "track_name", name="Kit"), (0, mido.Message("program_change", program=8, channel=9))]
    for at in range(0, 32, 2):
        kit += [on(at * step + 5, 36, 77, 9), off(at * step + 29, 36, 9)]
    return midi(head, violin, bass, kit, ticks=QUARTER)


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("songs") / "song.mid"
    path.write_bytes(song_bytes())
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config("ar")
    config = config.model_copy(update={"model": config.model.model_copy(update={"conditioning": True})})
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny.safetensors", FractalModel(config))


def events(data: bytes | Path, *kinds: str, track: str | None = None) -> list[tuple[float, Any]]:
    """(quarter, message without its time) of these kinds, of all tracks or of one."""
    file = mido.MidiFile(file=io.BytesIO(data if isinstance(data, bytes) else data.read_bytes()))
    found = []
    for each in file.tracks:
        ticks = np.cumsum([message.time for message in each]) / file.ticks_per_beat
        found += [(float(at), m.copy(time=0)) for at, m in zip(ticks, each, strict=True) if track in (None, each.name)]
    return [event for event in found if event[1].type in kinds]


def tracks_of(data: bytes) -> dict[str, tuple[int, int | None]]:
    """Channel and program of every track with notes, by name."""
    found = {}
    for track in mido.MidiFile(file=io.BytesIO(data)).tracks:
        if channels := {message.channel for message in track if message.type == "note_on"}:
            programs = [message.program for message in track if message.type == "program_change"]
            found[track.name] = (channels.pop(), programs[0] if programs else None)
    return found


def sampled(model: Path, folder: Path, mode: str, song: Path, *words: object) -> bytes:
    said = ("--checkpoint", model, "--device", "cpu", "--output-dir", folder, "--prompt", song)
    document = run_json("sample", "--mode", mode, *said, *words)
    return Path(document["samples"][0]["midi"]).read_bytes()


def cells_of(data: bytes | Path) -> np.ndarray:
    return fit(read_midi(data, vocabulary=BINS).roll.cells, 64)


DRUMS = ("note_on", "note_off", "program_change")


def test_inpainting_keeps_tracks_drums_tempos_and_metres(tmp_path: Path, model: Path, song: Path) -> None:
    data = sampled(model, tmp_path, "inpainting", song, "--region", "8:20")
    kept = np.r_[0:8, 20:32]
    assert np.array_equal(cells_of(data)[:, kept], cells_of(song)[:, kept])
    assert tracks_of(data) == {"Violin": (3, 40), "Bass": (5, 32), "New voices": (0, 0), "Kit": (9, 8)}
    assert events(data, *DRUMS, track="Kit") == events(song, *DRUMS, track="Kit")
    for kind in ("set_tempo", "time_signature"):
        assert events(data, kind) == events(song, kind)
    for name in ("Violin", "Bass"):
        struck = [(at, m.note) for at, m in events(data, "note_on", track=name) if m.velocity]
        assert struck == [(at, m.note) for at, m in events(song, "note_on", track=name) if not 2 <= at < 5]


def test_a_continuation_keeps_them_up_to_its_beginning(tmp_path: Path, model: Path, song: Path) -> None:
    data = sampled(model, tmp_path, "continuation", song, "--prompt-steps", 17, "--target-width", 36)
    assert np.array_equal(cells_of(data)[:, :17], cells_of(song)[:, :17])
    assert tracks_of(data) == {"Violin": (3, 40), "Bass": (5, 32), "New voices": (0, 0), "Kit": (9, 8)}
    assert [(at, m.tempo) for at, m in events(data, "set_tempo")] == [(0, 500_000), (2, 666_667)]
    hits = [event for event in events(song, *DRUMS, track="Kit") if event[0] < 4.4]
    assert events(data, *DRUMS, track="Kit") == hits  # the last end lies beyond step 17
    assert max(at for at, _ in events(data, "note_on", track="New voices")) >= 4.25


def test_harmonise_keeps_the_instrument_of_the_voice(tmp_path: Path, model: Path, song: Path) -> None:
    data = sampled(model, tmp_path, "harmonise", song)
    assert tracks_of(data) == {"Top voice": (3, 40), "New voices": (0, 0), "Kit": (9, 8)}
    assert events(data, *DRUMS, track="Kit") == events(song, *DRUMS, track="Kit")
    for kind in ("set_tempo", "time_signature"):
        assert events(data, kind) == events(song, kind)


def test_what_is_left_out_is_said_in_a_line(tmp_path: Path, model: Path) -> None:
    path = tmp_path / "song.mid"
    pedal = mido.Message("control_change", control=64, value=127, channel=3)
    path.write_bytes(song_bytes((0, pedal), (0, mido.Message("pitchwheel", pitch=9, channel=3)), on(1, 75, 9, 3)))
    words = ("--checkpoint", model, "--device", "cpu", "--prompt", path, "--output-dir", tmp_path)
    result = run("sample", "--mode", "continuation", *words, "--target-width", 40, "--tempo", 100)
    line = f"{path}: without its pedal, pitch bend, tempo changes; of 17 notes 1 moved to the grid"
    assert [each for each in result.stderr.splitlines() if str(path) in each and line in each]
    data = (tmp_path / "continuation_000.mid").read_bytes()
    assert [(at, m.tempo) for at, m in events(data, "set_tempo")] == [(0, 600_000)]


def test_drums_are_read_by_models_that_know_them(tmp_path: Path, model: Path, song: Path) -> None:
    words = ("--checkpoint", model, "--output-dir", tmp_path)
    result = run("sample", "--mode", "continuation", *words, "--prompt", song, "--drums")
    assert_refused(result, 2, "was not trained with drums", "stay as they are")
    assert_refused(run("sample", "--mode", "unconditional", *words, "--drums"), 2, "--drums", "--prompt")
    config = tiny_config("ar")
    options = {"model": config.model.model_copy(update={"conditioning": True})}
    config = config.model_copy(update={**options, "data": config.data.model_copy(update={"drums": True})})
    drummer = save_tiny(tmp_path / "drummer.safetensors", FractalModel(config))
    read = sampled(drummer, tmp_path / "read", "inpainting", song, "--region", "8:12", "--drums")
    drums = [(at, m.note) for at, m in events(read, "note_on", track="Kit") if m.velocity]
    assert all(4 * at == round(4 * at) and note == 36 for at, note in drums)
    left = sampled(drummer, tmp_path / "left", "inpainting", song, "--region", "8:12", "--no-drums")
    assert events(left, *DRUMS, track="Kit") == events(song, *DRUMS, track="Kit")


def test_a_single_piano_track_in_one_tempo_is_written_as_ever(tmp_path: Path) -> None:
    arrangement = read_midi(save_midi(tmp_path / "scale.mid")).arrangement
    assert arrangement is not None and arrangement.is_plain
    whole = read_midi(song_bytes()).arrangement
    assert whole is not None and not whole.is_plain


def arranged(data: bytes, rule: TrackRule | None = None) -> tuple[Roll, Arrangement]:
    piece = split_top_line(read_midi(data, vocabulary=BINS, voices=rule))
    assert piece.arrangement is not None
    return piece.roll, piece.arrangement


def test_channels_of_a_track_become_tracks_of_their_own() -> None:
    notes = [on(0, 60, 64, 0), off(96, 60, 0), on(0, 64, 64, 4), off(96, 64, 4)]
    programs = [(0, mido.Message("program_change", program=16, channel=channel)) for channel in (0, 4)]
    roll, arrangement = arranged(midi([*programs, *notes], ticks=QUARTER, format=0))
    data = write_midi(replace(roll, kept=np.ones(roll.cells.shape, bool)), None, arrangement=arrangement)
    file = mido.MidiFile(file=io.BytesIO(data))
    assert [{m.channel for m in track if not m.is_meta} for track in file.tracks[1:]] == [{0}, {4}]
    assert [m.program for track in file.tracks for m in track if m.type == "program_change"] == [16, 16]


def test_new_notes_of_a_voice_go_to_its_track() -> None:
    roll, arrangement = arranged(song_bytes(), TrackRule.from_names({"melody": "violin", "bridge": (), "rest": "*"}))
    assert roll.voices is not None
    kept = np.zeros(roll.cells.shape, bool)
    kept[:, :16] = True
    voices = {name: cells.copy() for name, cells in roll.voices.items()}
    voices["melody"][90, 20] = voices["bridge"][91, 20] = voices["rest"][92, 20] = 3
    grown = replace(roll, voices=voices, kept=kept)
    data = write_midi(grown, None, arrangement=arrangement)
    assert tracks_of(data) == {"Violin": (3, 40), "Bass": (5, 32), "Bridge": (0, 0), "Kit": (9, 8)}
    for name, note in (("Violin", 90), ("Bridge", 91), ("Bass", 92)):
        assert note in {m.note for _, m in events(data, "note_on", track=name)}


def test_notes_across_an_edge_stay_one_note() -> None:
    roll, arrangement = arranged(song_bytes())
    kept = np.ones(roll.cells.shape, bool)
    kept[:, 2:9] = False
    cells = roll.cells.copy()
    cells[72, 2:6], cells[73, 5:7], cells[73, 7:9] = 1, 0, (2, 1)
    cells[74, 8:10] = 0, 2
    again = read_midi(write_midi(replace(roll, cells=cells, kept=kept), None, arrangement=arrangement), vocabulary=BINS)
    assert np.array_equal(again.roll.cells, cells)


def test_pitches_shared_out_over_voices_go_back_to_the_hands() -> None:
    hands: list[list[Any]] = [[meta(0, "track_name", name=name)] for name in ("Piano right", "Piano left")]
    for at in range(4):
        hands[0] += [on(96 * at, 76), off(96 * at + 96, 76)]
        hands[1] += [on(96 * at, 48, 64, 1), off(96 * at + 96, 48, 1)]
    rule = TrackRule.from_names({"melody": (), "piano": "piano*"})
    roll, arrangement = arranged(midi([], *hands, ticks=QUARTER), rule)
    assert roll.voices is not None and share_out(roll, ("melody", "piano")).voices is not None
    data = write_midi(replace(roll, kept=np.ones(roll.cells.shape, bool)), None, arrangement=arrangement)
    assert [{m.note for _, m in events(data, "note_on", track=f"Piano {hand}")} for hand in ("right", "left")] == [
        {76},
        {48},
    ]


def test_drums_follow_the_beats_of_an_annotation_and_tempos_give_way_to_it() -> None:
    seconds = np.array([0, 1, 1 + 4 / 3])  # every other quarter of the song
    piece = read_midi(song_bytes(), vocabulary=BINS, beats=BeatGrid(seconds, np.array([0])))
    arrangement = piece.arrangement
    assert arrangement is not None and not arrangement.tempos
    assert "tempo changes" in arrangement.score.left_out
    data = write_midi(replace(piece.roll, kept=np.ones(piece.roll.cells.shape, bool)), None, arrangement=arrangement)
    struck, before = (
        [at for at, m in events(each, "note_on", track="Kit") if m.velocity][:8] for each in (data, song_bytes())
    )
    assert struck == pytest.approx([at / 2 for at in before], abs=1e-2)


@pytest.mark.parametrize("ticks", [1, 7, 120, 10080, 32767])
def test_ticks_of_any_resolution_stay_where_they_are(ticks: int) -> None:
    places = [round(at * ticks * 7.25) for at in range(400)]
    notes = [event for at in places for event in (on(at, 50, 64, 2), off(at + ticks, 50, 2))]
    drums = [event for at in places for event in (on(at + 1, 36, 64, 9), off(at + 2, 36, 9))]
    data = midi([], notes, drums, ticks=ticks)
    roll, arrangement = arranged(data)
    again = write_midi(replace(roll, kept=np.ones(roll.cells.shape, bool)), None, arrangement=arrangement)
    assert np.array_equal(read_midi(again, vocabulary=BINS).roll.cells, roll.cells)
    moved = [a[0] - b[0] for a, b in zip(*(events(each, *DRUMS)[-800:] for each in (again, data)), strict=True)]
    assert np.abs(moved).max() <= (0.5 / 480 if ticks == 32767 else 1e-9)
