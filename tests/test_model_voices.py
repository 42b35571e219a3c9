"""Models of voices: planes, the plan of the form and velocities that attend to others stay one exact model."""

from typing import Any

import numpy as np
import pytest
import torch
from fractal_support import all_canvases, follow, price, tiny

from varcli.errors import UsageError
from varcli.pianoroll.constants import METRE
from varcli.pianoroll.corpus.corpus import Piece
from varcli.pianoroll.evaluation.likelihood import LikelihoodReport, score
from varcli.pianoroll.events import PatchDone, SampleDone
from varcli.pianoroll.form import Plan
from varcli.pianoroll.generation.generate import generate
from varcli.pianoroll.generation.settings import SampleSettings
from varcli.pianoroll.model.copy_attention import find
from varcli.pianoroll.model.decisions import Draw
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.planes import Planes
from varcli.pianoroll.results.constraints import Constraints
from varcli.pianoroll.results.plan import PlanOptions
from varcli.pianoroll.results.start import Ready, Start, prepare
from varcli.pianoroll.roll import HELD, ONSET, Roll, Vocabulary, merge, top_line

VOICES = {"voices": ["melody", "piano"], "form": True, "velocity_attention": True, "tonality": True}
ECHO = {"candidates": 2, "pitches_around": 1, "steps_before": 1, "steps_after": 1}


def model_of_voices(**model: object) -> FractalModel:
    return tiny("ar", "16x4>4x2>1x1", 24, notes=True, velocity_bins=4, model=VOICES | {"echo": ECHO} | model)


def song(seed: int, bars: int = 4) -> np.ndarray:
    """A canvas of two voices whose third bar is the first again, with its plan."""
    rng, planes = np.random.default_rng(seed), Planes(("melody", "piano"), 24, 48)
    voices = {name: np.zeros((24, 4 * bars), np.uint8) for name in planes.names}
    for cells in voices.values():
        for bar in range(bars):
            pitch, start = rng.integers(0, 24, 2), 4 * bar + rng.integers(0, 3, 2)
            cells[pitch, start] = ONSET + rng.integers(0, 4, 2)
            cells[pitch[0], start[0] + 1] = HELD
        cells[:, 8:12] = cells[:, :4]
    return planes.write_plan(planes.stack(voices), 4)


@pytest.mark.parametrize("conditioning", [True, False])
def test_sampling_prices_what_the_walk_prices(conditioning: bool) -> None:
    model, canvases = model_of_voices(conditioning=conditioning), np.stack([song(seed) for seed in range(2)])
    assert canvases[0, 2, 11] >= ONSET, "the third bar is two bars back"
    assert follow(model, canvases) == pytest.approx(price(model, canvases), rel=1e-4)


def test_no_decision_knows_what_comes_after_it() -> None:
    model, cells = model_of_voices(), song(0)
    planes = Planes.of(model.config.model)
    melody, piano = (planes.pitch_rows(name) for name in planes.names)
    for later in (piano, melody, slice(0, planes.plan_rows)):
        other = cells.copy()
        other[later, 8:12] = 0
        other[later.start + 1, 11] = ONSET
        before, after = priced(model, cells), priced(model, other)
        moved = {node for node in before if before[node] != after.get(node)}
        assert moved
        first = later.start // 16 * 16
        assert all(t >= 12 or (t >= 8 and p >= first) for _, p, t in moved)


def priced(model: FractalModel, cells: np.ndarray) -> dict[tuple[int, int, int], float]:
    with torch.inference_mode():
        walk = list(model.walk(torch.from_numpy(cells)[None], Draw(torch.Generator())))
    return {
        (part.level, p, t): round(nats, 4)
        for part in walk
        for nats, p, t in zip(part.nats.tolist(), part.pitch.tolist(), part.step.tolist(), strict=True)
    }


def start_of(mode: Any, roll: Roll, width: int, **options: Any) -> Start:
    fields = {"prompt_steps": None, "regions": (), "keep_track": None, "constraints": Constraints(), "tempo_bpm": None}
    return Start(mode=mode, prompt=roll, width=width, **fields | options)


def written(model: FractalModel, ready: Ready, **how: Any) -> tuple[list[PatchDone], Roll]:
    events = list(generate(model, ready.settings(SampleSettings(**how))))
    (done,) = [event for event in events if isinstance(event, SampleDone)]
    return [event for event in events if isinstance(event, PatchDone)], done.roll


@pytest.fixture(scope="module")
def of_128() -> FractalModel:
    return tiny(
        "ar", "16x4>4x2>1x1", 128, notes=True, velocity_bins=4, model=VOICES | {"echo": ECHO, "conditioning": True}
    )


@pytest.fixture(scope="module")
def prompt() -> Roll:
    rng, cells = np.random.default_rng(0), np.zeros((2, 128, 12), np.uint8)
    for voice, low in ((0, 72), (1, 48)):
        for step in range(0, 12, 2):
            cells[voice, low + rng.integers(12), step] = ONSET + 2
    vocabulary = Vocabulary(4)
    return Roll(merge(cells, vocabulary), vocabulary, 4, 4, voices=dict(zip(("melody", "piano"), cells, strict=True)))


def test_what_is_continued_stays_in_its_voice(of_128: FractalModel, prompt: Roll) -> None:
    ready = prepare(start_of("continuation", prompt, 20, prompt_steps=8), of_128.config)
    patches, roll = written(of_128, ready, seed=1)
    assert roll.voices is not None
    assert prompt.voices is not None
    for name, cells in prompt.voices.items():
        assert np.array_equal(roll.voices[name][:, :8], cells[:, :8])
    assert np.array_equal(roll.cells, merge(roll.voices.values(), roll.vocabulary))
    assert roll.kept is not None
    assert roll.kept[:, :8].all()
    assert not roll.kept[:, 8:].any()
    bounds = [box for event in patches for box in event.bounds]
    assert bounds
    assert all(0 <= low < high <= 128 for low, high, _, _ in bounds)
    assert all(event.canvas.shape == (128, 20) for event in patches)
    # A note that another voice strikes again ends there in the roll; while it is written both are shown.
    assert not roll.cells[patches[-1].canvas == 0].any()


def test_harmonising_keeps_a_voice_whole_and_writes_the_others(of_128: FractalModel, prompt: Roll) -> None:
    ready = prepare(start_of("harmonise", prompt, 12), of_128.config)
    _, roll = written(of_128, ready)
    assert roll.voices is not None
    melody = top_line(prompt.cells, prompt.vocabulary)
    assert np.array_equal(roll.voices["melody"], melody)
    assert roll.voices["piano"].any()


def test_only_the_region_is_written_anew_in_all_voices(of_128: FractalModel, prompt: Roll) -> None:
    ready = prepare(start_of("inpainting", prompt, 12, regions=("4:8",)), of_128.config)
    _, roll = written(of_128, ready)
    assert prompt.voices is not None
    assert roll.voices is not None
    for name, cells in prompt.voices.items():
        outside = np.r_[0:4, 9:12]  # a note that is written may be held into what was silent after it
        assert np.array_equal(roll.voices[name][:, outside], cells[:, outside])


def test_a_form_says_which_sections_return_and_leaves_the_others_to_the_model(of_128: FractalModel) -> None:
    start = Start("unconditional", None, None, (), None, Constraints(), 32, None, plan=PlanOptions("AABA'"))
    limits = prepare(start, of_128.config).constraints
    assert limits is not None
    plan = limits.given[:48].all(0).reshape(-1, 4).all(1)
    assert plan.tolist() == [False, False, True, True, False, False, True, True]
    said = Plan.read(limits.codes[:48], 4)
    assert said.bars_back.tolist() == [0, 0, 2, 2, 0, 0, 4, 4]
    assert said.closeness.tolist() == [0, 0, 2, 2, 0, 0, 1, 1]
    # A bar of a new section may return from that section alone.
    assert limits.allowed[:48, 19].nonzero()[0].tolist() == [0]
    assert limits.allowed[:48, 23].nonzero()[0].tolist() == [0, 1]
    list(generate(of_128, SampleSettings(target_width=32, constraints=limits)))


@pytest.mark.parametrize(
    ("form", "width"), [("aba", 32), ("", 32), ("A B", 32), ("ABA", 32), ("A" * 9, 32), ("'A", 32)]
)
def test_what_is_no_form_is_refused(form: str, width: int, of_128: FractalModel) -> None:
    with pytest.raises(UsageError, match="form"):
        prepare(
            Start("unconditional", None, None, (), None, Constraints(), width, None, plan=PlanOptions(form)),
            of_128.config,
        )


def test_a_model_that_plans_nothing_has_no_form() -> None:
    config = tiny("ar", "16x4>4x2>1x1", 128, notes=True, model={"conditioning": True}).config
    with pytest.raises(UsageError, match="plans no form"):
        prepare(Start("unconditional", None, None, (), None, Constraints(), 32, None, plan=PlanOptions("AABA")), config)


def test_a_limit_on_polyphony_counts_all_voices_and_no_plan(of_128: FractalModel) -> None:
    limit = Constraints(max_polyphony=2)
    ready = prepare(
        Start("unconditional", None, None, (), None, limit, 16, None),
        of_128.config,
    )
    _, roll = written(of_128, ready)
    assert roll.voices is not None
    sounding = np.sum([cells > 0 for cells in roll.voices.values()], (0, 1))
    assert sounding.max() == 2


def test_a_likelihood_with_voices_and_a_plan_is_a_bound() -> None:
    model, planes = model_of_voices(), Planes(("melody", "piano"), 24, 48)
    canvas = song(0)
    voices, vocabulary = planes.split(canvas), Vocabulary(4)
    cells = planes.merge(canvas, vocabulary)[:24]
    piece = Piece("song", cells, np.zeros(0, np.int32), 0.0, "test", voices=voices)
    report = list(score(model, [piece]))[-1]
    assert isinstance(report, LikelihoodReport)
    assert not report.exact
    assert report.nats_per_frame * 16 == pytest.approx(price(model, canvas[None])[0], rel=1e-5)
    assert report.pieces[0].cells_nats.shape == (24, 16)
    assert report.pieces[0].cells_nats.sum() == pytest.approx(report.pieces[0].nats, rel=1e-5)


def test_a_plan_adds_the_bar_that_returns_to_the_candidates() -> None:
    cells = song(0)
    found = find(torch.from_numpy(cells)[None], column=4, count=2, bar=4, binary=False, sides="past", plan_rows=48)
    assert found.shift[0, :, -1].tolist() == [0, 0, -8, 0]
    is_planned = found.traits[0, 2, :, 5 + len(METRE)]
    assert is_planned.tolist() == [0, 0, 1]
    assert found.traits[0, 2, -1, -4:].tolist() == [0, 0, 0, 1], "it returns as it was"


def test_a_plan_that_points_before_the_beginning_points_nowhere() -> None:
    cells = song(0)
    cells[:48], cells[40, 11] = 0, ONSET
    found = find(torch.from_numpy(cells)[None], column=4, count=2, bar=4, binary=False, sides="past", plan_rows=48)
    assert not found.shift[0, :, -1].any()


@pytest.mark.parametrize("kind", ["ar", "mar"])
def test_probabilities_sum_to_1_where_velocities_attend(kind: str) -> None:
    model = tiny(kind, "2x1>1x1", 2, notes=True, velocity_bins=2, model={"velocity_attention": True})
    assert np.exp(-follow(model, all_canvases(2, 2, 4))).sum() == pytest.approx(1, abs=1e-5)


def test_a_velocity_prefers_at_first_what_it_hears_around() -> None:
    torch.manual_seed(0)
    config = tiny("ar", "4x4>1x1", 8, notes=True, velocity_bins=16, model={"velocity_attention": True}).config
    model = FractalModel(config).eval()
    cells = np.zeros((8, 8), np.uint8)
    cells[3, [0, 2, 4]] = ONSET + 11
    prices = []
    for velocity in (11, 4):
        cells[5, 5] = ONSET + velocity
        prices.append(price(model, cells[None])[0])
    assert prices[0] < prices[1] - 0.5
