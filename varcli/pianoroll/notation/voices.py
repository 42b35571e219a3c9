"""Staves and voices: how the notes of a part are shared out, and what sounds together in each."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby, pairwise
from typing import NamedTuple

_APART = ((53, 67, 1), (57, 62, 3))  # a part takes two staves if it goes below, and above, with so many notes at once
_LEFT, _RIGHT = 50.0, 67.0  # where the hands begin, as mean pitches
_FOLLOWING = 0.3  # how far a hand's place goes towards what it plays
_REACH, _STRETCH = 12, 4.0  # semitones that a hand takes with ease, and the cost of each more
_APART_AT_LEAST = 5  # semitones between the hands
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

    Two are the hands of a pianist, who keep near to where they were: of notes that begin together the lower ones go to
    the left, as many as cost least.
    """
    pitches, most = [note.pitch for note in notes], _most_at_once(notes)
    if not any(min(pitches) < low and max(pitches) > high and most >= count for low, high, count in _APART if pitches):
        return [list(notes)]
    upper: list[Sounding] = []
    lower: list[Sounding] = []
    left, right = _LEFT, _RIGHT
    for _, struck in groupby(sorted(notes, key=lambda note: (note.start, note.pitch)), key=lambda note: note.start):
        group = list(struck)
        cut = min(
            range(len(group) + 1),
            key=lambda cut: _strain(group[:cut], left) + _strain(group[cut:], right) - _gap(group, cut),
        )
        left, right = _moved(left, group[:cut]), _moved(right, group[cut:])
        right = max(right, left + _APART_AT_LEAST)
        lower += group[:cut]
        upper += group[cut:]
    return [upper, lower]


def _strain(notes: Sequence[Sounding], place: float) -> float:
    """What it costs a hand at a place to play notes: semitones to each, and more where they are far apart."""
    if not notes:
        return 0.0
    beyond = max(0, notes[-1].pitch - notes[0].pitch - _REACH)
    return sum(abs(note.pitch - place) for note in notes) + _STRETCH * beyond


def _gap(notes: Sequence[Sounding], cut: int) -> float:
    """What it is worth to cut notes where there is a gap."""
    return (notes[cut].pitch - notes[cut - 1].pitch) / 2 if 0 < cut < len(notes) else 0.0


def _moved(place: float, notes: Sequence[Sounding]) -> float:
    if not notes:
        return place
    return place + _FOLLOWING * (sum(note.pitch for note in notes) / len(notes) - place)


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
