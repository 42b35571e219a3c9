"""The roll in the terminal while it is written."""

import io

import numpy as np
import pytest

from varcli.cli.progress import Display
from varcli.pianoroll.events import PatchDone, SampleDone, SampleStarted
from varcli.pianoroll.figures.terminal import RollView
from varcli.pianoroll.roll import HELD, ONSET, Roll, Vocabulary


def patch(canvas: np.ndarray, *bounds: tuple[int, int, int, int], sample: int = 0) -> PatchDone:
    return PatchDone(sample, 0, "ar", 1, 2, 0, 0, 0, bounds, canvas)


def lines(view: RollView, width: int = 80, height: int = 24) -> list[list[tuple[str, str]]]:
    """Characters of each line, with the style of each."""
    return [[(char, style) for text, style in line for char in text] for line in view.lines(width, height)]


@pytest.mark.parametrize(("width", "height", "steps"), [(80, 24, 256), (40, 14, 1000), (200, 60, 16)])
def test_a_roll_of_any_length_fits_the_terminal(width: int, height: int, steps: int) -> None:
    view, canvas = RollView(Vocabulary()), np.zeros((128, steps), np.uint8)
    view.absorb(SampleStarted(0, 1, canvas))
    drawn = lines(view, width, height)
    assert 4 < len(drawn) <= height - 7
    assert max(map(len, drawn)) <= width
    assert any("".join(char for char, _ in line).startswith("C4") for line in drawn)


def test_notes_are_coloured_and_the_patch_being_written_is_marked() -> None:
    view, canvas = RollView(Vocabulary()), np.zeros((128, 64), np.uint8)
    view.absorb(SampleStarted(0, 1, canvas))
    silence = {style for line in lines(view) for _, style in line[4:]}
    assert len(silence) == 1
    view.absorb(patch(canvas, (60, 76, 16, 32)))
    marked = {style for line in lines(view) for _, style in line[4:]}
    assert silence < marked
    canvas[60, 0], canvas[60, 1:8] = ONSET + 15, HELD
    loud = {style for line in lines(view) for _, style in line[4:12]}
    canvas[60, 0] = ONSET
    soft = {style for line in lines(view) for _, style in line[4:12]}
    assert loud != soft


def test_the_first_of_several_that_are_written_is_shown_and_the_last_one_stays() -> None:
    view, canvases = RollView(Vocabulary()), [np.zeros((128, 16), np.uint8) for _ in range(2)]
    assert not view.lines(80, 24)
    for sample, canvas in enumerate(canvases):
        view.absorb(SampleStarted(sample, 2, canvas))
    canvases[1][60] = ONSET
    first = lines(view)
    view.absorb(SampleDone(0, 2, Roll(canvases[0])))
    second = lines(view)
    assert first != second
    view.absorb(SampleDone(1, 2, Roll(canvases[1])))
    assert lines(view) == second


def test_small_terminals_and_those_without_colours_have_bars_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    view = RollView(Vocabulary())
    view.absorb(SampleStarted(0, 1, np.ones((128, 16), np.uint8)))
    assert not view.lines(39, 40)
    assert not view.lines(80, 13)
    for colours, wanted in (("dumb", False), ("xterm-256color", True)):
        monkeypatch.setenv("TERM", colours)
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setenv("LINES", "30")
        stream = io.StringIO()
        stream.isatty = lambda: True  # type: ignore[method-assign]
        with Display(stream, view=RollView(Vocabulary())) as display:
            display.show(SampleStarted(0, 1, np.ones((128, 16), np.uint8)))
        assert ("▀" in stream.getvalue()) is wanted
