"""MusicXML 4.0 (https://www.w3.org/2021/06/musicxml40/) from the notes of a roll on its grid.

Guessed are the key, the staves and the voices; all else is what the roll says."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from xml.etree import ElementTree as Xml
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from varcli.pianoroll.harmony import key_of
from varcli.pianoroll.notation.pitches import Accidentals, Signature
from varcli.pianoroll.notation.rhythm import Measure, Value, beams, group_of, measures_of, values
from varcli.pianoroll.notation.voices import Chord, Sounding, staves, voices
from varcli.pianoroll.roll import Roll, note_arrays

_DOCTYPE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN"'
    ' "http://www.musicxml.org/dtds/partwise.dtd">\n'
)
_VOICES = 4  # numbers of voices of a staff
_TREBLE, _BASS = ("G", "2"), ("F", "4")
_BASS_BELOW = 55  # mean pitch of a single staff in the bass clef


@dataclass(frozen=True)
class _Head:
    """What stands at a place of a bar, in steps from its start: a chord, or, without notes, a rest or a `gap`."""

    place: int
    steps: int
    value: Value | None = None
    notes: tuple[Sounding, ...] = ()
    gap: bool = False


def musicxml(roll: Roll, parts: Mapping[str, np.ndarray], title: str = "", key: int | None = None) -> str:
    """The score of a roll as MusicXML, a part for each of some canvases u8 [128, T], which hold its notes together.

    The key is that of the notes, or a tonic 0..11, 12 more if minor.
    Raises UsageError for a grid that has no note values.
    """
    measures, notes = measures_of(roll), {name: _notes(cells, roll) for name, cells in parts.items()}
    signature = Signature.of(*_key_of(notes.values()) if key is None else (key % 12, key >= 12))
    score = Element("score-partwise", version="4.0")
    _text(SubElement(score, "work"), "work-title", title or roll.title or "Piano roll")
    _text(SubElement(SubElement(score, "identification"), "encoding"), "software", "varcli")
    listed = SubElement(score, "part-list")
    for number, name in enumerate(parts, 1):
        _text(SubElement(listed, "score-part", id=f"P{number}"), "part-name", name)
    for number, part in enumerate(notes.values(), 1):
        _Part(roll, signature, measures).write(SubElement(score, "part", id=f"P{number}"), part)
    Xml.indent(score, " ")
    return _DOCTYPE + Xml.tostring(score, encoding="unicode") + "\n"


def _key_of(parts: Iterable[Sequence[Sounding]]) -> tuple[int, bool]:
    """The tonic of the key that fits the notes best, and whether it is minor."""
    weights = np.zeros(12)
    for note in (note for part in parts for note in part):
        weights[note.pitch % 12] += note.stop - note.start
    found = key_of(weights)
    return found.tonic, found.minor


def _notes(cells: np.ndarray, roll: Roll) -> list[Sounding]:
    notes = note_arrays(cells, roll.vocabulary)
    return [Sounding(*map(int, one)) for one in zip(notes.pitch, notes.start, notes.end, strict=True)]


@dataclass(frozen=True)
class _Part:
    """Writes a part, bar by bar."""

    roll: Roll
    signature: Signature
    measures: Sequence[Measure]

    def write(self, part: Element, notes: Sequence[Sounding]) -> None:
        """Write notes into the element of a part."""
        shared = [voices(staff) for staff in staves(notes)]
        clefs = [_TREBLE, _BASS] if len(shared) > 1 else [_clef(notes)]
        before = None
        for number, measure in enumerate(self.measures, 1 - self.measures[0].upbeat):
            bar = SubElement(part, "measure", number=str(number))
            if measure.upbeat:
                bar.set("implicit", "yes")
            metre = (measure.beats, measure.beat_unit)
            self._attributes(bar, metre if metre != before else None, clefs if before is None else [])
            if before is None and part.get("id") == "P1":
                SubElement(bar, "sound", tempo=f"{self.roll.tempo_bpm:.6g}")
            before, place = metre, 0
            for staff, own in enumerate(shared, 1):
                place = self._staff(bar, measure, staff if len(shared) > 1 else None, own, place)
            if measure is self.measures[-1]:
                _text(SubElement(bar, "barline", location="right"), "bar-style", "light-heavy")

    def _attributes(self, bar: Element, metre: tuple[int, int] | None, clefs: Sequence[tuple[str, str]]) -> None:
        if metre is None:
            return
        attributes = SubElement(bar, "attributes")
        if clefs:
            _text(attributes, "divisions", self.roll.steps_per_beat)
            key = SubElement(attributes, "key")
            _text(key, "fifths", self.signature.fifths)
            _text(key, "mode", "minor" if self.signature.minor else "major")
        time = SubElement(attributes, "time")
        _text(time, "beats", metre[0])
        _text(time, "beat-type", metre[1])
        if len(clefs) > 1:
            _text(attributes, "staves", len(clefs))
        for number, (sign, line) in enumerate(clefs, 1):
            clef = SubElement(attributes, "clef", {"number": str(number)} if len(clefs) > 1 else {})
            _text(clef, "sign", sign)
            _text(clef, "line", line)

    def _staff(
        self, bar: Element, measure: Measure, staff: int | None, own: Sequence[Sequence[Chord]], place: int
    ) -> int:
        """Write what a staff has in a bar, from the place on where the last one ended; returns where this one does."""
        inside = [
            [chord for chord in voice if chord.start < measure.stop and chord.stop > measure.start] for voice in own
        ]
        sounding = [number for number, voice in enumerate(inside) if voice] or [0]
        silent = self._silent(measure, [chord for voice in inside for chord in voice])
        lines = [(n, list(self._heads(inside[n], measure, silent if n == sounding[0] else set()))) for n in sounding]
        accidentals = self._accidentals(measure, [head for _, heads in lines for head in heads])
        for number, heads in lines:
            if place:
                _text(SubElement(bar, "backup"), "duration", place)
            voice = number + 1 + _VOICES * ((staff or 1) - 1)
            group = group_of(measure, self.roll.steps_per_beat)
            joined = beams([(head.place, head.value) if head.notes and head.value else None for head in heads], group)
            for head, beam in zip(heads, joined, strict=True):
                self._write(bar, head, measure, voice, staff, beam, accidentals)
            place = heads[-1].place + heads[-1].steps
        return place

    def _silent(self, measure: Measure, chords: Sequence[Chord]) -> set[int]:
        """The places of a bar at which nothing sounds on a staff: there its first voice has rests."""
        sounding = {step - measure.start for chord in chords for step in range(chord.start, chord.stop)}
        return set(range(measure.stop - measure.start)) - sounding

    def _heads(self, chords: Sequence[Chord], measure: Measure, silent: set[int]) -> Iterator[_Head]:
        """What stands in a bar of a voice, with rests between where it is `silent`, and gaps elsewhere."""
        length, place, quarter = measure.stop - measure.start, 0, self.roll.steps_per_beat
        if not chords and not measure.upbeat:  # a rest for the whole bar has the length of its metre
            yield _Head(0, length)
            return
        for chord in (*chords, None):
            start = length if chord is None else max(chord.start - measure.start, 0)
            for silence, steps in groupby(range(place, start), key=silent.__contains__):
                length_of = len(list(steps))
                if not silence:
                    yield _Head(place, length_of, gap=True)
                for value in values(place, length_of, measure, quarter) if silence else ():
                    yield _Head(place, value.steps, value)
                    place += value.steps
                place = place if silence else place + length_of
            if chord is None:
                return
            for value in values(place, min(chord.stop - measure.start, length) - place, measure, quarter):
                yield _Head(place, value.steps, value, chord.notes)
                place += value.steps

    def _accidentals(self, measure: Measure, heads: Sequence[_Head]) -> dict[tuple[int, int], str | None]:
        """The accidental of each note that begins on a staff in a bar, by place and pitch."""
        state = Accidentals(self.signature)
        begun = {(head.place, note.pitch) for head in heads for note in head.notes}
        begun &= {(note.start - measure.start, note.pitch) for head in heads for note in head.notes}
        return {(place, pitch): state.before(self.signature.name(pitch)) for place, pitch in sorted(begun)}

    def _write(
        self,
        bar: Element,
        head: _Head,
        measure: Measure,
        voice: int,
        staff: int | None,
        beam: Sequence[str],
        accidentals: Mapping[tuple[int, int], str | None],
    ) -> None:
        if head.gap:
            _text(SubElement(bar, "forward"), "duration", head.steps)
            return
        start = measure.start + head.place
        for number, note in enumerate(head.notes or (None,)):
            element = SubElement(bar, "note")
            if number:
                SubElement(element, "chord")
            if note is None:
                SubElement(element, "rest", {} if head.value else {"measure": "yes"})
            else:
                self._pitch(element, note.pitch)
            _text(element, "duration", head.steps)
            ties = [] if note is None else _ties(note, start, start + head.steps)
            for tie in ties:
                SubElement(element, "tie", type=tie)
            _text(element, "voice", voice)
            if head.value:
                _text(element, "type", head.value.type)
                for _ in range(head.value.dots):
                    SubElement(element, "dot")
            if note is not None and (sign := accidentals.get((head.place, note.pitch))):
                _text(element, "accidental", sign)
            if staff is not None:
                _text(element, "staff", staff)
            for level, what in enumerate(beam if not number else (), 1):
                _text(element, "beam", what).set("number", str(level))
            if ties:
                notations = SubElement(element, "notations")
                for tie in ties:
                    SubElement(notations, "tied", type=tie)

    def _pitch(self, element: Element, pitch: int) -> None:
        name, place = self.signature.name(pitch), SubElement(element, "pitch")
        _text(place, "step", name.letter)
        if name.alter:
            _text(place, "alter", name.alter)
        _text(place, "octave", name.octave)


def _ties(note: Sounding, start: int, stop: int) -> list[str]:
    return ["stop"] * (note.start < start) + ["start"] * (note.stop > stop)


def _clef(notes: Sequence[Sounding]) -> tuple[str, str]:
    low = notes and sum(note.pitch for note in notes) < _BASS_BELOW * len(notes)
    return _BASS if low else _TREBLE


def _text(parent: Element, name: str, text: object) -> Element:
    element = SubElement(parent, name)
    element.text = str(text)
    return element
