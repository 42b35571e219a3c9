"""Staves and voices: how the notes of a part are shared out, and what sounds together in each."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby, pairwise
from typing import NamedTuple

MIDDLE_C = 60
_APART = ((53, 67, 1), (57, 62, 3))  # a part takes two staves if it goes below, and above, with so many notes at once
_HAND = 12  # semitones that one hand takes at a time
_MOST_VOICES = 4  # of a staff, as other programs have them


class Sounding(NamedTuple):
    """A note from step `start` to `stop`."""

    pitch: int
    start: int
    stop: int


class Chord(NamedTuple):
    """Notes that sound together all the while from `start` to `stop`; some may have begun before, or go on."""

    start: int
    stop: int
    notes: tuple[Sounding, ...]


def staves(notes: Sequence[Sounding]) -> list[list[Sounding]]:
    """The notes of a part on one staff, or on two, the upper one first.

    Notes that begin together and are within reach of one hand stay together.
    """
    pitches, most = [note.pitch for note in notes], _most_at_once(notes)
    if not any(min(pitches) < low and max(pitches) > high and most >= count for low, high, count in _APART if pitches):
        return [list(notes)]
    upper: list[Sounding] = []
    lower: list[Sounding] = []
    for _, struck in groupby(sorted(notes, key=lambda note: (note.start, note.pitch)), key=lambda note: note.start):
        group = list(struck)
        if group[-1].pitch - group[0].pitch <= _HAND:
            high = sum(note.pitch for note in group) >= MIDDLE_C * len(group)
            (upper if high else lower).extend(group)
        else:
            upper += [note for note in group if note.pitch >= MIDDLE_C]
            lower += [note for note in group if note.pitch < MIDDLE_C]
    return [upper, lower]


def _most_at_once(notes: Sequence[Sounding]) -> int:
    edges = sorted([(note.start, 1) for note in notes] + [(note.stop, -1) for note in notes])
    return max(accumulate(change for _, change in edges), default=0)


def voices(notes: Sequence[Sounding]) -> list[list[Chord]]:
    """The notes of a staff in voices, the first of which has what is on top; where it can be, none overlaps itself."""
    alike = sorted(notes, key=lambda note: (note.start, note.stop, note.pitch))
    chords = [list(group) for _, group in groupby(alike, key=lambda note: (note.start, note.stop))]
    found: list[list[Sounding]] = [[] for _ in range(_MOST_VOICES)]
    for chord in sorted(chords, key=lambda chord: (chord[0].start, -chord[-1].pitch)):
        start, top = chord[0].start, chord[-1].pitch
        busy = [any(note.stop > start for note in voice) for voice in found]
        covered = any(note.stop > start and note.pitch > top for voice in found for note in voice)
        order = [*range(1, _MOST_VOICES), 0] if covered else range(_MOST_VOICES)
        found[next((voice for voice in order if not busy[voice]), _MOST_VOICES - 1)] += chord
    return [list(_chords(voice)) for voice in found]


def _chords(notes: Sequence[Sounding]) -> Iterator[Chord]:
    """A voice as chords one after another; notes that overlap in part are cut, to be tied."""
    edges = sorted({edge for note in notes for edge in (note.start, note.stop)})
    for start, stop in pairwise(edges):
        sounding = tuple(note for note in notes if note.start <= start and note.stop >= stop)
        if sounding:
            yield Chord(start, stop, sounding)
