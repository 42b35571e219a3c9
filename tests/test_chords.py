"""Chords, keys and bars that are asked for: what is read of them, and what of a canvas they say."""

from pathlib import Path

import numpy as np
import pytest
from fractal_support import tiny_config

from varcli.errors import UsageError, VarError
from varcli.pianoroll.config import PianorollConfig
from varcli.pianoroll.constants import GIVEN
from varcli.pianoroll.harmony import NO_CHORD, QUALITIES
from varcli.pianoroll.results.constraints import Constraints
from varcli.pianoroll.results.plan import PlanOptions
from varcli.pianoroll.results.start import Ready, Start, prepare
from varcli.pianoroll.roll import HELD, ONSET, Roll
from varcli.pianoroll.sampling.prompt import Region, bar_start, parse_region
from varcli.pianoroll.score.chords import parse_chords, parse_key, read_chords

KINDS = list(QUALITIES)


def roll_of(steps: int, **options: object) -> Roll:
    """A roll of a middle C."""
    cells = np.zeros((128, steps), np.uint8)
    cells[60, 0], cells[60, 1:] = ONSET + 8, HELD
    return Roll(cells, **options)  # type: ignore[arg-type]


def chord(root: int, kind: str) -> int:
    return 12 * KINDS.index(kind) + root


@pytest.mark.parametrize(
    ("text", "chords"),
    [
        ("C Am F G", [chord(0, "maj"), chord(9, "min"), chord(5, "maj"), chord(7, "maj")]),
        (" | Bb7, F#m7 | ", [chord(10, "7"), chord(6, "min7")]),
        ("C:maj(9)/5 E:hdim7 G:sus4(b7)", [chord(0, "maj"), chord(4, "dim"), chord(7, "sus4")]),
        ("N Dmaj7 Caug", [NO_CHORD, chord(2, "maj7"), chord(0, "aug")]),
    ],
)
def test_chords_are_read(text: str, chords: list[int]) -> None:
    assert parse_chords(text).tolist() == chords


@pytest.mark.parametrize("text", ["", " | ", "H", "Cfoo", "c", "C Am 5", "C#?"])
def test_what_is_no_chord_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="chords"):
        parse_chords(text)


@pytest.mark.parametrize(
    ("text", "key"), [("C", 0), ("F#m", 18), ("A minor", 21), ("Bb:major", 10), ("e min", 16), ("Cb", 11)]
)
def test_keys_are_read(text: str, key: int) -> None:
    assert parse_key(text) == key


@pytest.mark.parametrize("text", ["", "H", "C dorian", "minor", "C major scale"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="key"):
        parse_key(text)


@pytest.fixture
def config() -> PianorollConfig:
    model = {"voices": ["melody", "piano"], "form": True, "harmony": True, "conditioning": True, "steps_per_bar": 16}
    return tiny_config("ar", "16x16>4x4>1x1", 128, notes=True, velocity_bins=16, model=model)


def started(config: PianorollConfig, width: int | None = 64, bars: int | None = None, **plan: str) -> Ready:
    start = Start("unconditional", None, None, (), None, Constraints(), width, None, bars, PlanOptions(**plan))
    return prepare(start, config)


def said(ready: Ready, column: int, place: int) -> tuple[int, int] | None:
    """Row and class of what is given at a place of a column's plan."""
    assert ready.constraints is not None
    step = 16 * column + 4 * place
    if not ready.constraints.given[48:96, step].all():
        return None
    codes = ready.constraints.codes[48:96, step] & (GIVEN - 1)
    (row,) = np.flatnonzero(codes)
    return int(row), int(codes[row]) - ONSET


def test_chords_stand_one_to_a_bar_over_and_over(config: PianorollConfig) -> None:
    ready = started(config, chords="C Am G7")
    rows = [(0, KINDS.index("maj")), (9, KINDS.index("min")), (7, KINDS.index("7"))]
    for column in range(4):
        assert said(ready, column, 1) == said(ready, column, 2) == rows[column % 3]
        assert said(ready, column, 0) is said(ready, column, 3) is None


def test_a_key_is_said_of_every_bar(config: PianorollConfig) -> None:
    ready = started(config, key="Bb minor")
    assert [said(ready, column, 0) for column in range(4)] == [(10, 1)] * 4
    assert said(ready, 0, 1) is None


def test_a_file_of_chords_says_what_lasts_for_most_of_half_a_bar(config: PianorollConfig, tmp_path: Path) -> None:
    file = tmp_path / "chords.txt"
    file.write_text("0.0 1.0 C:maj\n1.0 2.9 A:min7\n2.9 4.0 N\n4.0 4.4 F:maj\n")
    ready = started(config, chords=str(file))  # half a bar is a second at 120 quarters a minute
    assert said(ready, 0, 1) == (0, 0)
    assert said(ready, 0, 2) == said(ready, 1, 1) == (9, KINDS.index("min7"))
    assert said(ready, 1, 2) == (12, 0)
    assert said(ready, 2, 1) is None, "four tenths of it"


@pytest.mark.parametrize("text", ["", "0 1\n", "a b C\n", "2 1 C:maj\n", "0 1 H\n"])
def test_a_damaged_file_of_chords_is_told_in_a_line(text: str, config: PianorollConfig, tmp_path: Path) -> None:
    file = tmp_path / "chords.txt"
    file.write_text(text)
    with pytest.raises(VarError, match=r"chords\.txt"):
        started(config, chords=str(file))
    with pytest.raises(VarError, match="cannot be read"):
        read_chords(tmp_path / "none.txt")


def test_after_a_prompt_chords_begin_in_the_first_bar_that_is_written(config: PianorollConfig) -> None:
    plan = PlanOptions(chords="F C")
    start = Start("continuation", roll_of(20), 20, (), None, Constraints(), 64, None, plan=plan)
    ready = prepare(start, config)
    assert said(ready, 0, 1) == (0, 0), "what is kept says its own"
    assert [said(ready, column, 1) for column in (1, 2, 3)] == [(5, 0), (0, 0), (5, 0)]


def test_models_that_plan_no_harmony_refuse(config: PianorollConfig) -> None:
    without = config.model_copy(update={"model": config.model.model_copy(update={"harmony": False})})
    with pytest.raises(UsageError, match="plans no harmony"):
        started(without, chords="C")
    with pytest.raises(UsageError, match="plans no harmony"):
        started(without, key="C")


def test_length_in_bars(config: PianorollConfig) -> None:
    assert started(config, None, 5).width == 80
    with pytest.raises(UsageError, match="bars and target_width"):
        started(config, 64, 5)
    prompt = roll_of(30, downbeats=(4, 16), steps_per_bar=12)
    start = Start("continuation", prompt, 20, (), None, Constraints(), None, None, 4)
    assert prepare(start, config).width == 52, "a pickup of 4 and four bars of 12"


def test_regions_in_bars() -> None:
    roll = roll_of(100, downbeats=(4, 16, 28), steps_per_bar=12)
    assert parse_region("bar1:bar3,C4:C6", roll) == Region(4, 28, 60, 84)
    assert parse_region("bar3:bar5", roll) == Region(28, 52)
    assert parse_region("bar2:bar3") == Region(16, 32)
    assert bar_start(6, roll, 16) == 40 + 2 * 16
    for text in ("bar0:bar2", "bar2:40", "2:bar3", "bar3:bar3", "bar:bar2"):
        with pytest.raises(UsageError, match="region"):
            parse_region(text, roll)
