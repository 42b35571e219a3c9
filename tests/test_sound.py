"""Sound: the piano plays in tune, files hold what was played, equal notes give equal bytes; bad SoundFonts."""

import io
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
from cli_support import assert_refused, run, run_json, save_tiny

import varcli
from varcli.errors import UsageError, VarError
from varcli.pianoroll.sound.player import RATE, AudioFormat, Player, encode
from varcli.pianoroll.sound.soundfont import PIANO, read_soundfont


def midi(*notes: int, channel: int = 0) -> bytes:
    """A file that strikes these keys one after another, half a second each."""
    words = ("note_on", "note_off")
    messages = [
        mido.Message(word, note=note, channel=channel, time=240 * (word == "note_off"))
        for note in notes
        for word in words
    ]
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=1_000_000), *messages])
    data = io.BytesIO()
    mido.MidiFile(tracks=[track], ticks_per_beat=480).save(file=data)
    return data.getvalue()


@pytest.fixture(scope="module")
def piano() -> Player:
    return Player.of(None)


def test_the_piano_plays_in_tune_and_in_time(piano: Player) -> None:
    notes = (48, 60, 69, 84)
    sound = piano.play(midi(*notes))
    assert sound.dtype == np.float32
    assert sound.shape == (round((len(notes) * 0.5 + 1.5) * RATE), 2)
    assert np.abs(sound).max() == pytest.approx(0.9, abs=0.01)
    assert np.abs(sound[-RATE // 2 :]).max() < 0.02
    for number, note in enumerate(notes):
        part = sound[int((number * 0.5 + 0.05) * RATE) :][: int(0.4 * RATE)].mean(1)
        spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 8 * RATE))
        expected = 440 * 2 ** ((note - 69) / 12)
        near = slice(round(expected * 8 * 0.95), round(expected * 8 * 1.05))
        found = (near.start + spectrum[near].argmax()) / 8
        assert abs(1200 * np.log2(found / expected)) < 15


@pytest.mark.parametrize("format", ["wav", "flac", "ogg"])
def test_a_file_holds_what_was_played_and_is_the_same_each_time(piano: Player, format: AudioFormat) -> None:
    sound = piano.play(midi(60, 64))
    data = encode(sound, format)
    assert data == encode(sound, format)
    read, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert (rate, read.shape) == (RATE, sound.shape)
    assert np.abs(read - sound).max() < (0.1 if format == "ogg" else 1e-4)


def test_drums_are_left_out_where_there_are_none(piano: Player) -> None:
    assert np.abs(piano.play(midi(60, channel=9))).max() < 1e-3


def test_compressed_samples_become_plain_ones() -> None:
    font = read_soundfont(PIANO)
    assert font.data[:4] == b"RIFF"
    assert b"OggS" not in font.data
    assert not font.drums
    assert len(font.data) > 4 * PIANO.stat().st_size


def test_a_chunk_may_lack_the_byte_that_makes_it_even(tmp_path: Path) -> None:
    name = b"INAM\x06\0\0\0piano\0"
    data = PIANO.read_bytes()
    assert name in data
    (tmp_path / "odd.sf3").write_bytes(data.replace(name, b"INAM\x05\0\0\0piano"))
    assert read_soundfont(tmp_path / "odd.sf3") == read_soundfont(PIANO)


def test_a_plain_soundfont_serves_as_well(tmp_path: Path, piano: Player) -> None:
    (tmp_path / "plain.sf2").write_bytes(piano.font.data)
    assert np.array_equal(Player.of(tmp_path / "plain.sf2").play(midi(60)), piano.play(midi(60)))


def test_a_bad_soundfont_is_one_error(tmp_path: Path, piano: Player) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        Player.of(tmp_path / "none.sf2")
    whole = piano.font.data
    for name, data in {
        "empty": b"",
        "text": b"no SoundFont",
        "short": whole[: len(whole) // 2],
        "end": whole[:-100],
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(VarError, match=str(tmp_path / name)):
            Player.of(tmp_path / name)


def test_sample_writes_sound_beside_the_midi(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "tiny.safetensors")
    words = ("sample", "--mode", "unconditional", "--checkpoint", model, "--target-width", 24, "--device", "cpu")
    document = run_json(*words, "--output-dir", tmp_path / "one", "--audio", "ogg", "--num-samples", 2)
    paths = [Path(said["audio"]) for said in document["samples"]]
    assert paths == [tmp_path / "one" / f"unconditional_00{number}.ogg" for number in (0, 1)]
    sound, rate = soundfile.read(paths[0])
    assert len(sound) / rate == pytest.approx(24 / 8 + 1.5, abs=0.05)
    run_json(*words, "--output-dir", tmp_path / "two", "--audio", "ogg")
    assert (tmp_path / "two" / paths[0].name).read_bytes() == paths[0].read_bytes()
    bad = (*words, "--output-dir", tmp_path / "three", "--soundfont", model)
    assert_refused(run(*bad), 2, "--soundfont")
    assert_refused(run(*bad, "--audio", "wav"), 1, model, "no SoundFont")
    assert not (tmp_path / "three").exists()


def test_samples_can_be_heard_from_python(tmp_path: Path) -> None:
    made = varcli.sample(checkpoint=save_tiny(tmp_path / "tiny.safetensors"), target_width=16, device="cpu")
    made.samples[0].save_audio(tmp_path / "one.flac")
    assert soundfile.info(tmp_path / "one.flac").format == "FLAC"
    with pytest.raises(UsageError, match="mp3"):
        made.samples[0].save_audio(tmp_path / "one.mp3")
