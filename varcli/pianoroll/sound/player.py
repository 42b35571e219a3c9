"""Playing MIDI with a SoundFont, and sound as the bytes of a file.

Legend: N samples at `RATE` a second, of two channels.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import midirenderer
import mido
import numpy as np
import soundfile

from varcli.errors import VarError, one_of
from varcli.files import write_bytes
from varcli.pianoroll.sound.ogg import with_serial
from varcli.pianoroll.sound.soundfont import PIANO, SoundFont, read_soundfont

AudioFormat = Literal["wav", "flac", "ogg"]
RATE = 48_000
_ENCODINGS = {"wav": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}
_TAIL_S, _FADE_S = 1.5, 0.5  # how long the last notes ring on, and fall silent in the end
_PEAK = 0.9
_DRUM_CHANNEL = 9
_MP3: dict[str, Any] = {
    "compression_level": 0.9,
    "bitrate_mode": "CONSTANT",
}  # 56 kbit/s; places in it are found exactly


@dataclass(frozen=True)
class Player:
    """Plays MIDI with the sounds of a SoundFont."""

    font: SoundFont

    @classmethod
    def of(cls, path: str | Path | None) -> "Player":
        """With the sounds of a file, by default of the piano that comes along.

        Raises UsageError where there is no such file, VarError for one that cannot be played.
        """
        player = cls(read_soundfont(Path(path or PIANO)))
        note = mido.MidiFile(
            tracks=[mido.MidiTrack([mido.Message("note_on", note=60), mido.Message("note_off", time=9)])]
        )
        try:
            player.play(_bytes(note))
        except VarError as error:
            raise VarError(f"{path}: {error}", "give another .sf2 or .sf3 file") from error
        return player

    def play(self, midi: bytes) -> np.ndarray:
        """The sound of a MIDI file, f32 [N, 2], as loud as it goes without distortion; the last notes ring on.

        Drums are left out where the SoundFont has none: they would sound as notes of another instrument.
        """
        try:
            wave = midirenderer.render_wave_from(self.font.data, _prepared(midi, drums=self.font.drums))
        except BaseException as error:
            # Failures of the library that it did not foresee come as an exception beside Exception.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise VarError(f"the SoundFont cannot be played: {error}") from error
        sound, rate = soundfile.read(io.BytesIO(wave), dtype="float32")
        assert rate == RATE
        fade = int(_FADE_S * RATE)
        sound[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)[-len(sound) :, None]
        return sound * np.float32(_PEAK / max(float(np.abs(sound).max(initial=0)), 1e-3))


def encode(sound: np.ndarray, format: AudioFormat | Literal["mp3"]) -> bytes:
    """A sound f32 [N] or [N, 2] as the bytes of a file; equal sounds give equal bytes."""
    data = io.BytesIO()
    channels = 1 if sound.ndim == 1 else sound.shape[1]
    more = _MP3 if format == "mp3" else {}
    with soundfile.SoundFile(data, "w", RATE, channels, _ENCODINGS[format], format=format.upper(), **more) as file:
        for start in range(0, len(sound), RATE):  # Vorbis overflows the stack on long blocks
            file.write(sound[start : start + RATE])
    return with_serial(data.getvalue(), 0) if format == "ogg" else data.getvalue()


def save_audio(sound: np.ndarray, path: str | Path) -> None:
    """Write a sound as .wav, .flac or .ogg, whole or not at all; raises UsageError for another name."""
    format = Path(path).suffix[1:].lower()
    one_of("sound file", format, get_args(AudioFormat))
    write_bytes(path, encode(sound, cast(AudioFormat, format)))


def _prepared(midi: bytes, *, drums: bool) -> bytes:
    """A MIDI file that lasts longer than its notes, with or without its drums."""
    file = mido.MidiFile(file=io.BytesIO(midi), clip=True)
    beat_us = [message.tempo for track in file.tracks for message in track if message.type == "set_tempo"]
    tail = int(mido.second2tick(_TAIL_S, file.ticks_per_beat, beat_us[-1] if beat_us else 500_000))
    for track in file.tracks:
        if not drums:
            track[:] = [message.copy(velocity=0) if _is_drum(message) else message for message in track]
        track[-1] = track[-1].copy(time=track[-1].time + tail)
    return _bytes(file)


def _is_drum(message: Any) -> bool:
    return message.type == "note_on" and message.channel == _DRUM_CHANNEL


def _bytes(file: mido.MidiFile) -> bytes:
    data = io.BytesIO()
    file.save(file=data)
    return data.getvalue()
