"""The notes of a standard MIDI file as they stand in it: in ticks, before any grid.

Pedals are not read: a note lasts as long as its key is down.
"""

import io
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import mido
import numpy as np

from varcli.errors import UsageError, VarError
from varcli.pianoroll.score.beats import TempoMap

MAX_BYTES = 4 << 20
DRUM_CHANNEL = 9
_DEFAULT_BEAT_US = 500_000
_PEDAL = 64
_LEFT_OUT = {
    "pitchwheel": "pitch bend",
    "aftertouch": "aftertouch",
    "polytouch": "aftertouch",
    "sysex": "system messages",
    "key_signature": "key signatures",
    "lyrics": "lyrics",
    "text": "texts",
    "marker": "markers",
    "cue_marker": "markers",
}
_NOT_MIDI_HINT = "give a standard MIDI file (.mid) of format 0 or 1"

_Strike = tuple[int, int]  # tick and velocity of a key; velocity 0 ends
_Struck = tuple[int, int | None, int]  # start, end (None where the file has none) and velocity of a note


@dataclass
class Score:
    """Notes as (start tick, end tick, pitch, velocity) of all tracks, tempos by tick, time signatures and title.

    `tracks` names the track of every note, `names` all tracks, those without notes too. Signatures are (tick,
    numerator, denominator). `unended` notes had no end and got that of their track. `parts` are (index of the track,
    channel) of every note, `programs` the first instrument of each. `drum_events` are (index of the track, tick,
    message) of drums that are not among the notes. `left_out` says what else the file holds that is not read.
    """

    ticks_per_beat: int
    notes: list[tuple[int, int, int, int]] = field(default_factory=list)
    tracks: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    tempos: dict[int, int] = field(default_factory=dict)
    signatures: list[tuple[int, int, int]] = field(default_factory=list)
    title: str = ""
    unended: int = 0
    drum_notes: int = 0
    parts: list[tuple[int, int]] = field(default_factory=list)
    programs: dict[tuple[int, int], int] = field(default_factory=dict)
    drum_events: list[tuple[int, int, Any]] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)

    def program_of(self, track: int, channel: int) -> int:
        """The instrument of a channel in a track: the first that is set there, else in any; piano if none is."""
        elsewhere = (program for (_, at), program in self.programs.items() if at == channel)
        return self.programs.get((track, channel), next(elsewhere, 0))

    @property
    def tempo_changes(self) -> list[tuple[int, int]]:
        """(tick, microseconds a beat) where the tempo changes, the first at tick 0."""
        tempos = sorted(({0: _DEFAULT_BEAT_US} | self.tempos).items())
        return tempos[:1] + [after for before, after in pairwise(tempos) if before[1] != after[1]]

    @property
    def tempo_map(self) -> TempoMap:
        """The tempos as a map from ticks to seconds; 120 beats per minute until the first one."""
        tempos = {0: _DEFAULT_BEAT_US} | self.tempos
        ticks = sorted(tempos)
        return TempoMap(np.array(ticks), np.array([tempos[tick] for tick in ticks]), self.ticks_per_beat)


def read_bytes(path: Path) -> bytes:
    """Content of a MIDI file; raises UsageError if it is missing, VarError if it cannot be read or is too large."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise VarError(f"{path}: larger than {MAX_BYTES >> 20} MiB", _NOT_MIDI_HINT)
        return path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file", _NOT_MIDI_HINT) from None
    except IsADirectoryError:
        raise UsageError(f"{path}: is a folder", _NOT_MIDI_HINT) from None
    except OSError as error:
        raise VarError(f"{path}: cannot be read ({error.strerror})", _NOT_MIDI_HINT) from None


def parse_score(data: bytes, name: str, drums: bool) -> Score:
    """Notes, tempos and time signatures of a MIDI file; notes of the drum channel only if `drums`.

    Raises VarError, under `name`, for content that is no MIDI file of format 0 or 1 with ticks per quarter note.
    """
    if len(data) > MAX_BYTES:
        raise VarError(f"{name}: larger than {MAX_BYTES >> 20} MiB", _NOT_MIDI_HINT)
    if not data.startswith(b"MThd"):
        raise VarError(f"{name}: not a MIDI file", _NOT_MIDI_HINT)
    try:
        file = mido.MidiFile(file=io.BytesIO(data))
    except EOFError:
        raise VarError(f"{name}: truncated MIDI file", "copy or export it again") from None
    except Exception as error:  # mido raises whatever its decoders stumble over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise VarError(f"{name}: broken MIDI file ({reason})", "export it again") from None
    if file.ticks_per_beat <= 0:
        raise VarError(f"{name}: SMPTE time code instead of beats", "export it with ticks per quarter note")
    if file.type not in (0, 1):
        raise VarError(f"{name}: MIDI format {file.type}, without one common time", _NOT_MIDI_HINT)
    score = Score(file.ticks_per_beat)
    for index, track in enumerate(file.tracks):
        name = _decode_text(track.name)
        _read_track(track, index, score, drums)
        score.names.append(name)
        score.tracks += [name] * (len(score.notes) - len(score.tracks))
        if index == 0:
            score.title = name
    return score


def _read_track(track: Iterable[Any], index: int, score: Score, drums: bool) -> None:
    # Any: the attributes of a mido message depend on its type.
    tick = 0
    keys: dict[tuple[int, int], list[_Strike]] = defaultdict(list)
    for message in track:
        tick += message.time
        kind = message.type
        if kind == "note_on":
            keys[message.channel, message.note].append((tick, message.velocity))
        elif kind == "note_off":
            keys[message.channel, message.note].append((tick, 0))
        elif kind == "set_tempo" and message.tempo > 0:
            score.tempos[tick] = message.tempo
        elif kind == "time_signature":
            score.signatures.append((tick, message.numerator, message.denominator))
        elif drums or getattr(message, "channel", None) != DRUM_CHANNEL:
            _pass_over(message, index, score)
        if not drums and getattr(message, "channel", None) == DRUM_CHANNEL:
            score.drum_events.append((index, tick, message))
    for (channel, pitch), strikes in keys.items():
        if channel == DRUM_CHANNEL and not drums:
            score.drum_notes += sum(1 for _, velocity in strikes if velocity)
            continue
        for start, end, velocity in _pair(strikes):
            score.unended += end is None
            score.notes.append((start, tick if end is None else end, pitch, velocity))
            score.parts.append((index, channel))


def _pass_over(message: Any, index: int, score: Score) -> None:
    """Take note of a message that is not read, or of an instrument."""
    if message.type == "program_change":
        if score.programs.setdefault((index, message.channel), message.program) != message.program:
            score.left_out.add("changes of instrument")
    elif message.type == "control_change":
        score.left_out.add("pedal" if message.control == _PEDAL else "controllers")
    elif message.type in _LEFT_OUT:
        score.left_out.add(_LEFT_OUT[message.type])


def _pair(strikes: list[_Strike]) -> Iterator[_Struck]:
    """The notes of one key.

    While no end is missing, each stops the oldest note, so that both notes of an overlap survive. Otherwise an end
    stops everything that began before it.
    """
    starts = sum(1 for _, velocity in strikes if velocity)
    none_missing = 2 * starts <= len(strikes)
    sounding: deque[_Strike] = deque()
    for tick, velocity in strikes:
        if velocity:
            sounding.append((tick, velocity))
        elif sounding:
            start, struck = sounding.popleft()
            yield start, tick, struck
            while not none_missing and sounding and sounding[0][0] < tick:
                start, struck = sounding.popleft()
                yield start, tick, struck
    for start, struck in sounding:
        yield start, None, struck


def _decode_text(text: str) -> str:
    raw = text.encode("latin-1").strip(b"\0 ")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
