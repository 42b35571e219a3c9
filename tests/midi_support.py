"""MIDI files made of messages."""

import io
from typing import Any

import mido

from varcli.pianoroll.roll import Roll, Vocabulary

FINE = Vocabulary(127)  # one bin per velocity


def on(tick: int, note: int = 60, velocity: int = 64, channel: int = 0) -> tuple[int, mido.Message]:
    return tick, mido.Message("note_on", note=note, velocity=velocity, channel=channel)


def off(tick: int, note: int = 60, channel: int = 0) -> tuple[int, mido.Message]:
    return tick, mido.Message("note_off", note=note, channel=channel)


def meta(tick: int, kind: str, **fields: Any) -> tuple[int, mido.MetaMessage]:
    return tick, mido.MetaMessage(kind, **fields)


def midi(*tracks: list, ticks: int = 480, format: int = 1, end: int = 0) -> bytes:
    """A MIDI file of tracks of (tick, message); messages of one tick keep their order."""
    file = mido.MidiFile(type=format, ticks_per_beat=ticks)
    for events in tracks:
        track, now = mido.MidiTrack(), 0
        for tick, message in sorted(events, key=lambda event: event[0]):
            track.append(message.copy(time=tick - now))
            now = tick
        track.append(mido.MetaMessage("end_of_track", time=max(0, end - now)))
        file.tracks.append(track)
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def spans(roll: Roll) -> list[tuple[int, int, int]]:
    """(pitch, start, end) of a roll's notes."""
    return [(n.pitch, n.start_step, n.start_step + n.duration_steps) for n in roll.notes]


def raw(body: bytes, format: int = 0, division: int = 480) -> bytes:
    head = b"MThd" + (6).to_bytes(4, "big") + format.to_bytes(2, "big") + (1).to_bytes(2, "big")
    return head + division.to_bytes(2, "big") + b"MTrk" + len(body).to_bytes(4, "big") + body
