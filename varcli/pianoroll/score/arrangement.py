"""What a MIDI file holds beside the cells of its roll: tracks and their instruments, drums, tempos, time signatures.

Music that keeps some of a file is written with them. Legend: P pitches, T steps, N notes; ticks are those of the file.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import lcm
from typing import Any

import mido
import numpy as np
import pretty_midi

from varcli.pianoroll.roll import PITCHES, NoteArrays, Roll, note_arrays, place
from varcli.pianoroll.score.midi_events import DRUM_CHANNEL, Score

NEW_TRACK = "New voices"
TICKS_PER_BEAT = 480
_MOST_TICKS = 32767  # a beat: what a file can say
_PIANO = 0
_Place = tuple[int, int] | str  # a part of the file, or the name of a new track


@dataclass(frozen=True)
class Track:
    """A track of notes: cells u8 [P, T], the cells that say how loud they are, channel (None: a free one), program."""

    name: str
    cells: np.ndarray
    whole: np.ndarray
    channel: int | None = None
    program: int = _PIANO


@dataclass(frozen=True)
class Arrangement:
    """What music that keeps some of a MIDI file takes over from it.

    `notes` are those of the file on steps, [N], `parts` (index of the track, channel) of each, `voices` i64 [N] the
    voice of each, if it was read in voices. `steps_of` maps ticks to steps, f64. What stands before step `end` is kept
    of drums, tempos and time signatures, all if that is None.
    """

    score: Score
    notes: NoteArrays
    parts: tuple[tuple[int, int], ...]
    steps_of: Callable[[np.ndarray], np.ndarray]
    voices: np.ndarray | None = None
    end: int | None = None

    def at_one_tempo(self) -> "Arrangement":
        """The same without its tempos."""
        left_out = self.score.left_out | ({"tempo changes"} if len(self.score.tempo_changes) > 1 else set())
        return replace(self, score=replace(self.score, tempos={}, left_out=left_out))

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing but a track of piano in one tempo and, of bars of one length, one metre."""
        score, parts = self.score, set(self.parts)
        lengths = {top / bottom for _, top, bottom in score.signatures}
        one_metre = len({signature[1:] for signature in score.signatures}) == len(lengths)
        one_piano = len(parts) == 1 and {score.program_of(*part) for part in parts} == {_PIANO}
        return one_piano and one_metre and len(score.tempo_changes) == 1 and not score.drum_events

    def ticks_per_step(self, steps_per_beat: int) -> int:
        """Ticks of a step in a file in which all ticks of this one are whole, if there can be one."""
        ticks = lcm(self.score.ticks_per_beat, steps_per_beat)
        return max(1, round((ticks if ticks <= _MOST_TICKS else TICKS_PER_BEAT) / steps_per_beat))

    @property
    def signatures(self) -> list[tuple[float, int, int]]:
        """(step, numerator, denominator) of the time signatures that are kept."""
        steps = self.steps_of(np.array([tick for tick, *_ in self.score.signatures], np.int64)).tolist()
        told = ((step, top, bottom) for step, (_, top, bottom) in zip(steps, self.score.signatures, strict=True))
        return sorted(one for one in told if self._is_kept(one[0]))

    @property
    def tempos(self) -> list[tuple[float, int]]:
        """(step, microseconds a beat) of the tempos that are kept, the first at step 0; none where there are none."""
        if not self.score.tempos:
            return []
        ticks, beat_us = zip(*self.score.tempo_changes, strict=True)
        steps = self.steps_of(np.array(ticks, np.int64)).tolist()
        return [(step, us) for step, us in zip(steps, beat_us, strict=True) if step == 0 or self._is_kept(step)]

    def tracks_of(self, roll: Roll, masks: Mapping[str, np.ndarray] | None) -> list[Track]:
        """The tracks of a roll that keeps some of the file.

        A note with a kept cell goes to the tracks that have it. New ones of a voice go to the track that has most notes
        of it and more of it than of others, new ones of no voice to the only track, otherwise to tracks of their own.
        With `masks` bool [P, T] tracks are theirs, the first of the instrument that most of its notes have.
        """
        if masks:
            return self._masked(roll, masks)
        found: dict[_Place, list[NoteArrays]] = {part: [] for part in self._members}
        for voice, (name, cells) in enumerate((roll.voices or {"": roll.cells}).items()):
            (owners, groups), notes = self._owners(roll.steps, voice), note_arrays(cells, roll.vocabulary)
            known = owners if roll.kept is None else np.where(roll.kept, owners, -1)
            home = [self._home(voice) or name.title() or NEW_TRACK]
            spans = zip(notes.pitch.tolist(), notes.start.tolist(), notes.end.tolist(), strict=True)
            places = [groups.get(_first(known[pitch, start:end]), home) for pitch, start, end in spans]
            for place_of in dict.fromkeys(each for several in places for each in several):
                own = np.array([place_of in several for several in places])
                columns = (notes.pitch, notes.start, notes.end, notes.velocity)
                found.setdefault(place_of, []).append(NoteArrays(*(column[own] for column in columns)))
        shared = {at: place(_joined(parts), roll.steps, roll.vocabulary).cells for at, parts in found.items() if parts}
        return [self._track(at, cells, cells) for at, cells in shared.items()]

    def _masked(self, roll: Roll, masks: Mapping[str, np.ndarray]) -> list[Track]:
        (owners, groups), tracks = self._owners(roll.steps, None), []
        for name, mask in masks.items():
            cells = np.where(mask, roll.cells, 0).astype(np.uint8)
            track = self._track(name, cells, roll.cells)
            if not tracks and (of_file := owners[(cells > 0) & (owners >= 0)].tolist()):
                (most, _), *_ = Counter(part for owner in of_file for part in groups[owner]).most_common(1)
                track = replace(self._track(most, cells, roll.cells), name=name)
            tracks.append(track)
        return tracks

    def _track(self, at: _Place, cells: np.ndarray, whole: np.ndarray) -> Track:
        """A track of the file, or a new one of that name: of the instrument that all tracks have, else of a piano."""
        if not isinstance(at, str):
            return Track(self._name(at[0]), cells, whole, at[1], self.score.program_of(*at))
        pitched = [part for part in self._members if part[1] != DRUM_CHANNEL] or [(0, 0)]
        programs = {self.score.program_of(*part) for part in pitched}
        free = set(range(16)) - {channel for _, channel in self._members} - {DRUM_CHANNEL}
        if not free or len(programs) == 1:
            return Track(at, cells, whole, min(free, default=pitched[0][1]), self.score.program_of(*pitched[0]))
        return Track(at, cells, whole, min(free))

    def _name(self, index: int) -> str:
        """The name of a track; that of the only one is the title."""
        return self.score.names[index] if len(self.score.names) > 1 else ""

    @property
    def _members(self) -> list[tuple[int, int]]:
        return sorted(set(self.parts))

    @property
    def doublings(self) -> int:
        """How many notes begin with another of their pitch in another track; each track keeps its own."""
        notes = self.notes
        struck = set(zip(notes.pitch.tolist(), notes.start.tolist(), self.parts, strict=True))
        return len(struck) - len({(pitch, start) for pitch, start, _ in struck})

    def cut(self, roll: Roll) -> int:
        """How many notes end early on a roll, because their pitch is struck again: in their voice, if it has voices."""
        columns = (self.notes.pitch, self.notes.start, self.notes.end, self.notes.velocity)
        voices = np.zeros(len(self.notes.pitch)) if self.voices is None else self.voices
        parts = (NoteArrays(*(column[voices == voice] for column in columns)) for voice in np.unique(voices))
        return sum(place(part, roll.steps, roll.vocabulary).cut for part in parts)

    def _owners(self, steps: int, voice: int | None) -> tuple[np.ndarray, dict[int, list[_Place]]]:
        """Which note of a voice, or of all, has each cell, i64 [P, steps], -1 for none; and the parts that have it."""
        owners, groups = np.full((PITCHES, steps), -1), defaultdict(list)
        struck: dict[tuple[int, int], int] = {}
        columns = (self.notes.pitch, self.notes.start, self.notes.end)
        pitches, starts, ends = (column.tolist() for column in columns)
        for at in np.lexsort((self.notes.end, self.notes.start)).tolist():
            if voice is None or self.voices is None or self.voices[at] == voice:
                group = struck.setdefault((pitches[at], starts[at]), len(struck))
                owners[pitches[at], starts[at] : ends[at]] = group
                if self.parts[at] not in groups[group]:
                    groups[group].append(self.parts[at])
        return owners, groups

    def _home(self, voice: int) -> tuple[int, int] | None:
        """The part that new notes of a voice go to, if there is one."""
        members = self._members
        if self.voices is None:
            return members[0] if len(members) == 1 else None
        counts = np.zeros((1 + max(voice, int(self.voices.max())), len(members)), np.int64)
        np.add.at(counts, (self.voices, np.array([members.index(part) for part in self.parts])), 1)
        part = counts[voice].argmax()
        return members[part] if counts[voice, part] and counts[:, part].argmax() == voice else None

    def _is_kept(self, step: float) -> bool:
        return step >= 0 and (self.end is None or step < self.end)

    def add_to(self, file: mido.MidiFile, ticks_per_step: int) -> None:
        """Put the tempos into the first track of a file, and drums on tracks behind the others, as they are."""

        def tick(step: float) -> int:
            return max(0, round(step * ticks_per_step))

        if tempos := self.tempos:
            plain = [event for event in _absolute(file.tracks[0]) if event[1].type != "set_tempo"]
            changes = [(tick(step), mido.MetaMessage("set_tempo", tempo=us)) for step, us in tempos]
            title = plain[0][1].type == "track_name"
            file.tracks[0] = _relative([*plain[:title], *changes, *plain[title:]])
        for index in sorted({at for at, *_ in self.score.drum_events}):
            name = self._name(index)
            head = [(0, mido.MetaMessage("track_name", name=name))] if name else []
            events = [(tick(step), message) for step, message in self._drums(index)]
            if any(message.type == "note_on" for _, message in events):
                file.tracks.append(_relative([*head, *events]))

    def _drums(self, index: int) -> Iterator[tuple[float, Any]]:
        """(step, message) of the drums of a track that are kept, the ends of those that still sound among them."""
        own = [(tick, message) for at, tick, message in self.score.drum_events if at == index]
        steps = self.steps_of(np.array([tick for tick, _ in own], np.int64)).tolist()
        sounding: dict[int, int] = defaultdict(int)
        for step, (_, message) in zip(steps, own, strict=True):
            is_note = message.type in ("note_on", "note_off")
            begins = message.type == "note_on" and message.velocity > 0
            if self._is_kept(step) or (is_note and not begins and sounding[message.note] > 0):
                yield step, message
                if is_note:
                    sounding[message.note] = max(0, sounding[message.note] + (1 if begins else -1))


def _first(owners: np.ndarray) -> int:
    """The first that is not -1, if there is one."""
    return int(owners[(owners >= 0).argmax()])


def _joined(notes: Iterable[NoteArrays]) -> NoteArrays:
    columns = zip(*((each.pitch, each.start, each.end, each.velocity) for each in notes), strict=True)
    return NoteArrays(*map(np.concatenate, columns))


def _absolute(track: mido.MidiTrack) -> list[tuple[int, Any]]:
    ticks = np.cumsum([message.time for message in track]).tolist()
    return list(zip(ticks, track, strict=True))


def _relative(events: list[tuple[int, Any]]) -> mido.MidiTrack:
    """A track of (tick, message), whose end comes last."""
    events = sorted((event for event in events if event[1].type != "end_of_track"), key=lambda event: event[0])
    track, now = mido.MidiTrack(), 0
    for tick, message in events:
        track.append(message.copy(time=tick - now))
        now = tick
    track.append(mido.MetaMessage("end_of_track", time=1))
    return track


def tracks_of(
    roll: Roll, masks: Mapping[str, np.ndarray] | None, arrangement: Arrangement | None = None
) -> list[Track]:
    """The tracks that a roll is written as (see `write_midi`)."""
    if arrangement is not None:
        return arrangement.tracks_of(roll, masks)
    if masks:
        return [Track(name, np.where(mask, roll.cells, 0).astype(np.uint8), roll.cells) for name, mask in masks.items()]
    return [Track(name.title(), cells, cells) for name, cells in (roll.voices or {"piano": roll.cells}).items()]


def cells_by_name(tracks: Iterable[Track]) -> dict[str, np.ndarray]:
    """The cells of tracks by names that differ; those without one are called like their instrument."""
    cells: dict[str, np.ndarray] = {}
    for track in tracks:
        name = track.name or pretty_midi.program_to_instrument_name(track.program)
        number = next(n for n in range(1, len(cells) + 2) if (name if n == 1 else f"{name} {n}") not in cells)
        cells[name if number == 1 else f"{name} {number}"] = track.cells
    return cells
