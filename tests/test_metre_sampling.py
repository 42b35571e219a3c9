"""Models that know metre write, go on from, rewrite and score pieces in bars of any length."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
import torch
from fractal_support import tiny

import varcli
from varcli.errors import UsageError
from varcli.pianoroll.corpus.corpus import Piece
from varcli.pianoroll.evaluation.likelihood import LikelihoodReport, score
from varcli.pianoroll.events import PatchDone, SampleDone
from varcli.pianoroll.generation.generate import SampleSettings, generate
from varcli.pianoroll.metre import parse_metre
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.roll import HELD, Roll, Vocabulary, merge, top_line
from varcli.pianoroll.score.midi import write_midi

NAMES = ("melody", "piano")
VOCABULARY = Vocabulary(4)


@pytest.fixture(scope="module")
def model() -> FractalModel:
    level = {"steps_before": 4, "pitches_around": 4, "steps_after": 1, "lags": (16,)}
    echo = {"candidates": 2, "pitches_around": 1, "steps_before": 1, "steps_after": 1}
    options = {"voices": NAMES, "form": True, "metre": True, "conditioning": True, "steps_per_bar": 16, "echo": echo}
    made = tiny("ar", "48x16>8x4>1x1", 128, notes=True, velocity_bins=4, level=level, model=options)
    with torch.no_grad():
        for part in made.level_models:
            part.head.weight.mul_(0.05)
            part.row_bias.weight.mul_(0.1)
            assert part.metre is not None
            part.metre.weight.mul_(10)
            if not part.is_value:
                part.row_head.weight.mul_(0.05)
        made.level_models[-1].head.bias[0] += 2
        made.level_models[1].head.bias.sub_(2)
        made.level_models[2].head.bias.sub_(3)
    return made


def waltz(steps: int = 60) -> Roll:
    """A melody of notes that are tied over the bar lines of 3/4, and chords on every beat, after an upbeat."""
    melody, piano = np.zeros((2, 128, steps), np.uint8)
    for start in range(0, steps, 12):
        melody[70, start + 2], melody[70, start + 3 : start + 9] = 3, HELD
        piano[[40, 47], start] = 4
    return Roll(
        merge([melody, piano], VOCABULARY),
        VOCABULARY,
        steps_per_bar=12,
        downbeats=tuple(range(4, steps, 12)),
        voices={"melody": melody, "piano": piano},
    )


def test_rolls_are_written_in_the_metre_that_is_asked_for(model: FractalModel, tmp_path: Path) -> None:
    for metre, bar in (("3/4", 12), ("6/8", 12), ("12/8", 24), ("5/4", 20), ("4/4", 16)):
        roll = varcli.sample(checkpoint=model, metre=metre, target_width=2 * bar, seed=1).rolls[0]
        assert (roll.steps, roll.steps_per_bar) == (2 * bar, bar) and roll.notes
        write_midi(roll, tmp_path / "a.mid")
        signature = pretty_midi.PrettyMIDI(str(tmp_path / "a.mid")).time_signature_changes[0]
        assert f"{signature.numerator}/{signature.denominator}" == metre
    assert varcli.sample(checkpoint=model, metre="3/4").rolls[0].steps == 252  # whole bars
    told = ("3/4", "4/4", "6/8")
    a, b, c = (varcli.sample(checkpoint=model, metre=one, target_width=36, seed=1).rolls[0].cells for one in told)
    assert not np.array_equal(a, b) and not np.array_equal(a, c)


def test_what_happens_is_told_in_steps_of_the_roll(model: FractalModel) -> None:
    how = SampleSettings(target_width=41, steps_per_bar=12, downbeats=(0, 5, 17, 29))
    events = list(generate(model, how))
    (done,) = (event for event in events if isinstance(event, SampleDone))
    told = [event for event in events if isinstance(event, PatchDone)]
    assert done.roll.downbeats == (0, 5, 17, 29)
    assert {(start, stop) for e in told if e.level == 0 for _, _, start, stop in e.bounds} == {
        (0, 5),
        (5, 17),
        (17, 29),
        (29, 41),
    }
    live = told[-1].canvas
    assert live.shape == (128, 41) and np.array_equal(live > 0, done.roll.cells > 0)


@pytest.mark.parametrize("mode", ["continuation", "inpainting", "harmonise"])
def test_what_is_kept_of_a_prompt_stays_as_it_is(model: FractalModel, mode: str) -> None:
    prompt = waltz()
    options = {"prompt_steps": 44} if mode == "continuation" else {"region": "20:30"} if mode == "inpainting" else {}
    width = 72 if mode == "continuation" else None
    result = varcli.sample(mode, checkpoint=model, prompt=prompt, target_width=width, seed=2, **options)  # type: ignore[arg-type]
    roll = result.rolls[0]
    assert (roll.downbeats == tuple(range(4, roll.steps, 12)) and roll.steps == width) or prompt.steps
    assert roll.voices is not None and prompt.voices is not None
    if mode == "harmonise":
        assert np.array_equal(roll.voices["melody"], top_line(prompt.cells, VOCABULARY))
        assert roll.voices["melody"].any() and roll.voices["piano"].any()
        return
    kept = slice(0, 44) if mode == "continuation" else np.r_[0:20, 30:60]
    for name, cells in prompt.voices.items():
        assert np.array_equal(roll.voices[name][:, kept], cells[:, kept])
    held = roll.voices["melody"][70, 30:33]  # goes on from what was written
    assert mode == "continuation" or (held[0] == HELD and roll.voices["melody"][70, 29] > 0)
    assert not result.ready.warnings


def test_a_metre_that_the_model_does_not_know_is_refused(model: FractalModel) -> None:
    plain = tiny("ar", "16x16>4x4>1x1", 128, notes=True, model={"steps_per_bar": 16})
    with pytest.raises(UsageError, match="16 steps alone, and 3/4 has 12"):
        varcli.sample(checkpoint=plain, metre="3/4")
    assert varcli.sample(checkpoint=plain, metre="4/4", target_width=16).rolls[0].steps_per_bar == 16
    assert parse_metre(" 7/8", 4) == (14, 8) and parse_metre("2/2", 4) == (16, 2)
    for text in ("3", "0/4", "3/5", "1/32", "three", "100/4"):
        with pytest.raises(UsageError):
            parse_metre(text, 4)


def test_likelihoods_count_the_steps_of_the_music(model: FractalModel) -> None:
    roll = waltz()
    downbeats = np.array((0, *(roll.downbeats or ())), np.int32)
    piece = Piece("waltz", roll.cells, downbeats, 0.0, "test", 12, roll.voices)
    report = list(score(model, [piece]))[-1]
    assert isinstance(report, LikelihoodReport)
    (one,) = report.pieces
    assert report.frames == one.frames == 60 and one.cells_nats.shape == (128, 60)
    assert one.cells_nats.sum() == pytest.approx(one.nats, rel=1e-4) and np.isfinite(one.nats)
    other = list(score(model, [replace(piece, downbeats=np.arange(0, 60, 12, dtype=np.int32))]))[-1]
    assert isinstance(other, LikelihoodReport) and other.nats_per_frame != report.nats_per_frame
