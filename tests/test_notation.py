"""Scores: the notes and bars of a roll come back from its MusicXML; values, beams, names and voices are well-formed."""

import importlib.util
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np
import pytest
from cli_support import assert_refused, run, run_json, save_tiny
from hypothesis import given, settings
from hypothesis import strategies as st

import varcli
from varcli.errors import UsageError
from varcli.pianoroll.notation.musicxml import musicxml
from varcli.pianoroll.notation.pitches import Accidentals, Name, Signature
from varcli.pianoroll.notation.rhythm import Measure, Value, beams, group_of, measures_of, values
from varcli.pianoroll.notation.voices import Sounding, staves, voices
from varcli.pianoroll.roll import NoteArrays, Roll, Vocabulary, place

SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
QUARTERS = {"whole": 4, "half": 2, "quarter": 1, "eighth": Fraction(1, 2), "16th": Fraction(1, 4)}


def roll_of(notes: list[tuple[int, int, int]], steps: int, bar: int = 16, **fields: object) -> Roll:
    """A roll of notes (pitch, start, end)."""
    pitch, start, end = (np.array(column, np.int64) for column in zip(*notes, strict=True))
    cells = place(NoteArrays(pitch, start, end, np.full(len(pitch), 64)), steps, Vocabulary()).cells
    return Roll(cells, steps_per_bar=bar, **fields)  # pyright: ignore[reportArgumentType]


def number(element: Xml.Element, path: str) -> int:
    return int(element.findtext(path) or 0)


def read(text: str) -> tuple[list[tuple[int, int, int]], list[tuple[int, str]]]:
    """Notes (pitch, start, end) of a score, ties joined, and (start, metre) of the bars that say one."""
    notes, metres = [], []
    for part in Xml.fromstring(text[text.index("<score-partwise") :]).iter("part"):
        start, heads = 0, []
        for bar in part.iter("measure"):
            if (time := bar.find("attributes/time")) is not None:
                metres.append((start, f"{time.findtext('beats')}/{time.findtext('beat-type')}"))
            at = last = longest = 0
            for element in bar:
                steps = number(element, "duration")
                if element.tag == "backup":
                    at -= steps
                elif element.tag == "forward":
                    at += steps
                elif element.tag == "note":
                    last, at = (last, at) if element.find("chord") is not None else (at, at + steps)
                    longest = max(longest, at)
                    name = element.findtext("type")
                    if name is not None:
                        dots = 1 + Fraction(len(element.findall("dot")), 2)
                        assert steps == QUARTERS[name] * dots * 4
                    if element.find("rest") is not None:
                        continue
                    step = SEMITONES[element.findtext("pitch/step") or ""] + number(element, "pitch/alter")
                    pitch = 12 * (number(element, "pitch/octave") + 1) + step
                    ties = {tie.get("type") for tie in element.iter("tie")}
                    heads.append((start + last, pitch, start + last + steps, ties))
            start += longest
        notes += joined(heads)
    return sorted(notes), metres


def joined(heads: list[tuple[int, int, int, set[str | None]]]) -> list[tuple[int, int, int]]:
    """The notes of heads (start, pitch, end, ties); a tie goes to the next head of the pitch."""
    notes, held = [], {}
    for start, pitch, end, ties in sorted(heads, key=lambda head: head[:3]):
        begin = start
        if "stop" in ties:
            begin, before = held.pop(pitch)
            assert before == start
        if "start" in ties:
            held[pitch] = begin, end
        else:
            notes.append((pitch, begin, end))
    assert not held
    return notes


def notes_of(roll: Roll) -> list[tuple[int, int, int]]:
    return sorted((one.pitch, one.start_step, one.start_step + one.duration_steps) for one in roll.notes)


@st.composite
def rolls(draw: st.DrawFn) -> Roll:
    bar, unit = draw(st.sampled_from([(16, 4), (12, 4), (12, 8), (8, 4), (6, 8), (18, 8), (20, 4), (14, 8), (16, 2)]))
    upbeat, bars = draw(st.integers(0, bar - 1)), draw(st.integers(1, 4))
    downbeats = tuple(sorted({0, *(upbeat + bar * number for number in range(bars))}))
    steps = downbeats[-1] + draw(st.integers(1, bar))
    note = st.tuples(st.integers(30, 96), st.integers(0, steps - 1), st.integers(1, 24))
    notes = [(pitch, start, min(start + length, steps)) for pitch, start, length in draw(st.lists(note, min_size=1))]
    return roll_of(notes, steps, bar, downbeats=downbeats, beat_units={bar: unit})


@settings(max_examples=60, deadline=None)
@given(rolls())
def test_notes_and_bars_come_back(roll: Roll) -> None:
    notes, metres = read(musicxml(roll, {"Piano": roll.cells}))
    assert notes == notes_of(roll)
    measures = measures_of(roll)
    assert metres[0] == (0, f"{measures[0].beats}/{measures[0].beat_unit}")
    assert [step for step, _ in metres] == sorted({step for step, _ in metres})


def test_an_upbeat_is_short_and_does_not_count() -> None:
    roll = roll_of([(67, 0, 4), (72, 4, 16), (60, 28, 34)], 34, 12, downbeats=(0, 4, 16, 28))
    text = musicxml(roll, {"Piano": roll.cells}, "A < B")
    assert read(text) == (notes_of(roll), [(0, "3/4")])
    score = Xml.fromstring(text[text.index("<score-partwise") :])
    assert score.findtext("work/work-title") == "A < B"
    bars = [(bar.get("number"), bar.get("implicit")) for bar in score.iter("measure")]
    assert bars == [("0", "yes"), ("1", None), ("2", None), ("3", None)]


def test_metre_changes_where_bars_do() -> None:
    roll = roll_of([(60, 0, 44)], 44, 16, downbeats=(0, 16, 28), beat_units={12: 8})
    assert read(musicxml(roll, {"Piano": roll.cells}))[1] == [(0, "4/4"), (16, "6/8"), (28, "4/4")]


def test_values_show_the_beats() -> None:
    def written(place: int, length: int, beats: int = 4, unit: int = 4) -> list[int]:
        measure = Measure(0, 16 * beats // unit, beats, unit)
        return [value.steps for value in values(place, length, measure, 4)]

    assert written(0, 16) == [16]
    assert written(0, 7) == [6, 1]
    assert written(2, 4) == [4]  # syncopated, within half a bar
    assert written(6, 4) == [2, 2]  # the middle of the bar shows
    assert written(3, 9) == [1, 8]
    assert written(0, 12, 3) == [12]
    assert written(0, 12, 6, 8) == [12]
    assert written(4, 4, 6, 8) == [2, 2]
    assert group_of(Measure(0, 12, 6, 8), 4) == 6
    assert group_of(Measure(0, 12, 3, 4), 4) == 4


def test_beams_join_beats() -> None:
    eighth, sixteenth, quarter = Value(2, "eighth", 0), Value(1, "16th", 0), Value(4, "quarter", 0)
    heads = [(0, sixteenth), (1, eighth), (3, sixteenth), (4, quarter), (8, eighth), None, (12, eighth), (14, eighth)]
    expected = [["begin", "forward hook"], ["continue"], ["end", "backward hook"], [], [], [], ["begin"], ["end"]]
    assert beams(heads, 4) == expected


def test_names_follow_the_key() -> None:
    flats, minor = Signature(-4, False), Signature(0, True)
    assert [flats.name(pitch) for pitch in (60, 61, 66)] == [Name("C", 0, 4), Name("D", -1, 4), Name("G", -1, 4)]
    assert minor.name(68) == Name("G", 1, 4)
    assert Signature(-6, False).name(71) == Name("C", -1, 5)
    state = Accidentals(flats)
    asked = [state.before(name) for name in (Name("D", -1, 4), Name("D", 0, 4), Name("D", 0, 4), Name("D", -1, 4))]
    assert asked == [None, "natural", None, "flat"]
    for fifths in range(-6, 6):
        for pitch in range(128):
            name = Signature(fifths, False).name(pitch)
            assert 12 * (name.octave + 1) + SEMITONES[name.letter] + name.alter == pitch


def test_hands_and_voices() -> None:
    chord = [Sounding(pitch, 0, 8) for pitch in (36, 60, 64, 67)]
    upper, lower = staves([*chord, Sounding(72, 4, 6)])
    assert [note.pitch for note in lower] == [36]
    assert len(staves(chord[1:])) == len(staves([])) == 1
    assert len(staves([Sounding(55, 0, 4), Sounding(66, 4, 8)])) == 1
    first, second, *_ = voices(upper)
    assert [[note.pitch for note in one.notes] for one in first] == [[60, 64, 67]]
    assert [[note.pitch for note in one.notes] for one in second] == [[72]]


def test_a_key_that_was_told_is_written() -> None:
    roll = roll_of([(60, 0, 8), (64, 8, 16)], 16)
    for key, expected in ((None, ["0", "major"]), (4, ["4", "major"]), (13, ["4", "minor"])):
        text = musicxml(roll, {"Piano": roll.cells}, "", key)
        found = Xml.fromstring(text[text.index("<score-partwise") :]).find("part/measure/attributes/key")
        assert found is not None
        assert [element.text for element in found] == expected


def test_a_grid_without_note_values_is_refused() -> None:
    with pytest.raises(UsageError, match="6 steps a beat"):
        musicxml(roll_of([(60, 0, 4)], 24, 24, steps_per_beat=6), {})


def test_sample_writes_scores(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "tiny.safetensors")
    words = ("sample", "--mode", "unconditional", "--checkpoint", model, "--target-width", 32, "--device", "cpu")
    document = run_json(*words, "--output-dir", tmp_path / "xml", "--score", "musicxml")
    path = Path(document["samples"][0]["score"])
    assert path == tmp_path / "xml" / "unconditional_000.musicxml"
    assert len(read(path.read_text())[0]) == document["samples"][0]["notes"]
    made = varcli.sample(checkpoint=model, target_width=32, device="cpu")
    made.samples[0].save_score(tmp_path / "again.musicxml")
    assert (tmp_path / "again.musicxml").read_bytes() == path.read_bytes()
    if importlib.util.find_spec("verovio"):
        document = run_json(*words, "--output-dir", tmp_path / "svg", "--score", "svg")
        assert Xml.parse(document["samples"][0]["score"]).getroot().tag.endswith("svg")
    else:
        assert_refused(run(*words, "--output-dir", tmp_path / "svg", "--score", "svg"), 2, "varcli[score]")


FOREIGN = (
    roll_of(
        [(67, 0, 4), (48, 4, 16), (72, 4, 7), (76, 7, 13), (60, 13, 34), (64, 28, 30)], 34, 12, downbeats=(0, 4, 16, 28)
    ),
    roll_of([(50, 0, 12), (69, 2, 5), (70, 5, 26), (54, 12, 30)], 36, 12, beat_units={12: 8}),
    roll_of([(40, 0, 44), (52, 1, 9), (73, 15, 17), (76, 27, 44), (80, 27, 30)], 44, 16, downbeats=(0, 16, 28)),
)
"""An upbeat in 3/4, 6/8, and 4/4 with a bar of 3/4 in it."""


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("number", range(len(FOREIGN)))
def test_music21_reads_the_same_notes_and_metres(tmp_path: Path, number: int) -> None:
    music21 = pytest.importorskip("music21")
    roll = FOREIGN[number]
    text = musicxml(roll, {"Piano": roll.cells})
    (tmp_path / "score.musicxml").write_text(text)
    parts = list(music21.converter.parse(tmp_path / "score.musicxml", forceSource=True).parts)
    heads = []
    for staff in parts:
        for one in staff.recurse().notes:
            start = int(4 * one.getOffsetInHierarchy(staff))
            for note in one.notes if one.isChord else (one,):
                kinds = {"start": {"start"}, "stop": {"stop"}, "continue": {"start", "stop"}}
                ties = kinds[note.tie.type] if note.tie else set()
                heads.append((start, note.pitch.midi, start + int(4 * one.quarterLength), ties))
    assert sorted(joined(heads)) == notes_of(roll)
    bars = parts[0].getElementsByClass("Measure")
    metres = [(int(4 * bar.offset), bar.timeSignature.ratioString) for bar in bars if bar.timeSignature]
    assert metres == read(text)[1]


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("number", range(len(FOREIGN)))
def test_partitura_reads_the_same_notes(tmp_path: Path, number: int) -> None:
    partitura = pytest.importorskip("partitura")
    roll = FOREIGN[number]
    (tmp_path / "score.musicxml").write_text(musicxml(roll, {"Piano": roll.cells}))
    (part,) = partitura.load_musicxml(str(tmp_path / "score.musicxml")).parts
    notes = [(note.midi_pitch, note.start.t, note.start.t + note.duration_tied) for note in part.notes_tied]
    assert sorted(notes) == notes_of(roll)
