"""Masked levels without attention in the order of time: an exact likelihood, and what sampling draws from there."""

from typing import Any

import numpy as np
import pytest
import torch
from fractal_support import all_canvases, codes_of, follow_with, some_canvas, tiny

from varcli.pianoroll.config import SampleConfig
from varcli.pianoroll.corpus.corpus import Piece
from varcli.pianoroll.evaluation.likelihood import LikelihoodReport, score
from varcli.pianoroll.events import PatchDone
from varcli.pianoroll.generation.batch import Batch
from varcli.pianoroll.generation.generate import generate
from varcli.pianoroll.generation.settings import SampleSettings, check_settings
from varcli.pianoroll.inference.packing import Order
from varcli.pianoroll.model.canvas import Limits
from varcli.pianoroll.model.decisions import Draw
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.planes import Planes
from varcli.pianoroll.sampling.constraints import CanvasConstraints
from varcli.pianoroll.sampling.policy import Policy

ECHO = {"candidates": 3, "pitches_around": 1, "steps_before": 1, "steps_after": 1}
MODEL = {"echo": ECHO, "tonality": True, "conditioning": True}
MLP = {"network": "mlp"}
Prices = dict[tuple[int, int, int], float]


def prices(model: FractalModel, cells: np.ndarray, given: np.ndarray | None = None) -> Prices:
    """What decisions cost in the order of time, by (level, pitch, step)."""
    limits = None if given is None else Limits(given=torch.from_numpy(given)[None])
    found: Prices = {}
    with torch.inference_mode():
        for part in model.walk(torch.from_numpy(cells)[None], Draw(torch.Generator(), scan=True), limits=limits):
            rows = zip(part.pitch.tolist(), part.step.tolist(), part.nats.tolist(), strict=True)
            found |= {(part.level, p, t): nats for p, t, nats in rows}
    return found


def total(model: FractalModel, cells: np.ndarray, given: np.ndarray | None = None) -> float:
    return sum(prices(model, cells, given).values())


def followed(model: FractalModel, canvases: np.ndarray, given: np.ndarray | None = None, order: str = "time") -> Any:
    """The same as sampling has it, child by child; with cells given, of one canvas."""
    constraints = None
    if given is not None:
        (cells,) = canvases
        constraints = CanvasConstraints(given, cells * given, np.ones(given.shape, bool))
    policies = [Policy.following(model.tree, cells) for cells in canvases]
    return follow_with(model, canvases, policies, order=Order(order=order), constraints=constraints)


@pytest.mark.parametrize(
    ("kinds", "shapes", "pitches", "steps", "notes"),
    [
        ("mar", "2x1>1x1", 2, 3, False),
        ("mar", "2x2>1x1", 2, 3, False),
        ("mar", "4x1>2x1>1x1", 4, 2, False),
        ("mar", "2x1>1x1", 2, 2, True),
        (["ar", "mar"], "2x1>1x1", 2, 3, False),
        (["mar", "ar"], "2x1>1x1", 2, 3, False),
    ],
)
def test_probabilities_in_the_order_of_time_sum_to_1(kinds: Any, shapes: str, pitches: int, steps: int, notes: bool):
    model = tiny(kinds, shapes, pitches, notes=notes, level=MLP, model=MODEL)
    nats = [total(model, cells.numpy()) for cells in all_canvases(pitches, steps, codes_of(model))]
    assert np.exp(-np.array(nats)).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("order", ["time", "scan"])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("shapes", ["4x4>2x2>1x1", "4x1>2x1>1x1"])
def test_sampling_in_the_order_of_time_draws_from_what_the_walk_prices(shapes: str, given: bool, order: str):
    model = tiny("mar", shapes, 8, notes=True, level=MLP, model=MODEL)
    rng = np.random.default_rng(0)
    for seed in range(3):
        cells = some_canvas(model, 18, seed=seed, density=0.4)
        known = None
        if given:
            known = np.ones(cells.shape, bool)
            known[:, 6:14] = False
            known[rng.integers(0, 8, 6), rng.integers(6, 14, 6)] = True
        nats = followed(model, cells[None], known, order)[0]
        assert nats == pytest.approx(total(model, cells, known), rel=1e-4)


def test_a_piece_costs_the_same_in_company():
    model = tiny("mar", "4x4>2x2>1x1", 8, notes=True, level=MLP, model=MODEL)
    canvases = np.stack([some_canvas(model, 14, seed=seed, density=0.4) for seed in range(3)])
    assert followed(model, canvases) == pytest.approx([total(model, cells) for cells in canvases], rel=1e-4)


@pytest.mark.parametrize("shapes", ["4x1>2x1>1x1", "4x2>2x2>1x1"])
def test_nothing_moves_before_a_changed_cell_but_what_is_given_moves_all(shapes: str):
    model = tiny("mar", shapes, 8, level=MLP, model=MODEL)
    rng = np.random.default_rng(0)
    for seed in range(6):
        cells = some_canvas(model, 12, seed=seed, density=0.4)
        column = int(rng.integers(2, 5)) * 2
        other = cells.copy()
        other[:, column:] = rng.random(other[:, column:].shape) < 0.5
        before, after = prices(model, cells), prices(model, other)
        early = [node for node in before if node[2] < column]
        assert [before[node] for node in early] == pytest.approx([after[node] for node in early], abs=1e-6)
        given = np.zeros(cells.shape, bool)
        given[:, column:] = True
        before, after = prices(model, cells, given), prices(model, other, given)
        moved = [node for node in before if before[node] != pytest.approx(after[node], abs=1e-6)]
        assert moved and all(step < column for _, _, step in before)


def test_the_likelihood_in_the_order_of_time_is_exact():
    model = tiny("mar", "4x4>2x2>1x1", 8, notes=True, level=MLP, model=MODEL)
    cells = some_canvas(model, 14, density=0.4)
    piece = Piece("a", cells, np.zeros(0, np.int32), 0.0, "test")
    *_, report = score(model, [piece], in_order=True)
    assert isinstance(report, LikelihoodReport) and report.exact
    assert report.nats_per_frame * 14 == pytest.approx(total(model, cells), rel=1e-5)
    *_, limited = score(model, [piece], in_order=True, constraints=unlimited)
    assert isinstance(limited, LikelihoodReport)
    assert limited.nats_per_frame == pytest.approx(report.nats_per_frame, rel=1e-4)


def unlimited(_: Planes, steps: int) -> CanvasConstraints:
    """A limit on polyphony that limits nothing, but has pieces followed decision by decision."""
    nothing = np.zeros((8, steps), bool)
    return CanvasConstraints(nothing, nothing.astype(np.uint8), ~nothing, max_polyphony=8)


def test_levels_with_attention_cannot_be_walked_in_order():
    model = tiny("mar", "4x4>1x1", 8)
    assert not model.scannable and tiny("mar", "4x4>1x1", 8, level=MLP).scannable
    assert not tiny("ar", "4x4>1x1", 8).scannable
    with pytest.raises(ValueError, match="attention"):
        total(model, some_canvas(model, 8))


def test_what_is_drawn_one_by_one_is_drawn_by_the_looks_of_one_child_each():
    model = tiny("mar", "4x4>2x2>1x1", 8, notes=True, level=MLP, model=MODEL)
    drawn = []
    for order in ("time", "scan"):
        run = Batch(model, [Policy.drawn(model.tree, 18, (0, 0))], [0], 18, order=Order(order=order))
        events = list(run.events())
        drawn.append(run.samples[0].visible.copy())
        patches = [event for event in events if isinstance(event, PatchDone) and event.level == 0]
        assert [(event.kind, event.iteration, event.batch) for event in patches] == [
            ("mar", number, 1) for number in range(1, len(patches) + 1)
        ]
    assert drawn[0].any() and np.array_equal(*drawn)


def test_unless_iterations_are_asked_for_children_come_one_by_one():
    by_time = SampleConfig(order="time")
    model = tiny("mar", "4x4>2x2>1x1", 8, notes=True, level=MLP, model=MODEL, sample=by_time)
    assert check_settings(model.config, SampleSettings()) is None
    several = SampleSettings(target_width=18, num_iter_list=(3, 2, 2, 1))
    assert check_settings(model.config, several) == (3, 2, 2, 1)
    events = [event for event in generate(model, several) if isinstance(event, PatchDone) and event.level == 0]
    assert {event.iterations for event in events} == {3}
    with pytest.raises(ValueError, match="'mlp'"):
        tiny("mar", "4x4>2x2>1x1", 8, sample=by_time)
