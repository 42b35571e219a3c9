"""The compiled engine decides by the probabilities that the trained module has, decision by decision."""

import threading
from typing import Any

import numpy as np
import pytest
import torch
from fractal_support import decisions, samples, tiny

from varcli.loading import load_model
from varcli.pianoroll.events import PatchDone
from varcli.pianoroll.generation.batch import Batch
from varcli.pianoroll.generation.generate import SampleSettings, generate
from varcli.pianoroll.inference.packing import Order
from varcli.pianoroll.model.canvas import Limits
from varcli.pianoroll.model.decisions import Draw
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.planes import Planes
from varcli.pianoroll.sampling.constraints import CanvasConstraints
from varcli.pianoroll.sampling.policy import Policy

Prices = dict[tuple[int, int, int], float]
ALL: dict[str, Any] = {
    "model": {
        "echo": {"candidates": 3, "pitches_around": 1, "steps_before": 1, "steps_after": 1},
        "tonality": True,
        "conditioning": True,
    }
}


def by_walk(model: FractalModel, cells: np.ndarray, given: np.ndarray) -> Prices:
    """What each decision costs by the trained module, by (level, pitch, step)."""
    found: Prices = {}
    limits = Limits(given=torch.from_numpy(given)[None]) if given.any() else None
    with torch.inference_mode():
        draw = Draw(torch.Generator(), scan=model.masked)
        for part in model.walk(torch.from_numpy(cells)[None], draw, limits=limits):
            rows = zip(part.pitch.tolist(), part.step.tolist(), part.nats.tolist(), strict=True)
            found |= {(part.level, p, t): nats for p, t, nats in rows}
    return found


def by_engine(model: FractalModel, cells: np.ndarray, given: np.ndarray) -> Prices:
    """The same by the engine, which follows the canvas."""
    constraints = CanvasConstraints(given, cells * given, np.ones(cells.shape, bool)) if given.any() else None
    order = Order(order="time") if model.masked else None
    policy = Policy.following(model.tree, cells)
    (written,) = decisions(model, cells[None], [policy], order=order, constraints=constraints)
    return {(level, p, t): nats for level, p, t, nats in written.prices}


def assert_agree(model: FractalModel, cells: np.ndarray, given: np.ndarray) -> None:
    walked, followed = by_walk(model, cells, given), by_engine(model, cells, given)
    assert len(walked) > 20
    # Without a choice there is no decision, or one that costs nothing.
    for node in walked.keys() | followed.keys():
        assert followed.get(node, 0.0) == pytest.approx(walked.get(node, 0.0), abs=1e-4), node


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("name", ["fractal-ar", "fractal-mar"])
def test_shipped_models_decide_by_the_probabilities_of_the_walk(name: str, given: bool) -> None:
    model, _ = load_model(name)
    assert isinstance(model, FractalModel)
    cells = samples(model, target_width=72, seed=3)[0]
    known = np.zeros(cells.shape, bool)
    known[:, :20] = known[:, 44:] = given
    assert_agree(model, cells, known)


@pytest.mark.parametrize(
    ("kinds", "shapes", "options"),
    [
        ("ar", "4x4>2x2>1x1", {"scan_order": "row_major"}),
        ("ar", "4x4>2x2>1x1", ALL | {"notes": True, "velocity_bins": 3}),
        ("ar", "8x1>4x1>1x1", {"level": {"network": "mlp"}, "model": ALL["model"] | {"polyphony": True}}),
        (("ar", "mar"), "4x4>1x1", {"level": {"network": "mlp"}}),
        ("mar", "4x4>2x2>1x1", ALL | {"notes": True, "level": {"network": "mlp"}}),
    ],
)
def test_so_do_models_of_any_kind(kinds: Any, shapes: str, options: dict[str, Any]) -> None:
    model = tiny(kinds, shapes, 8, **options)
    with torch.no_grad():
        for level in model.level_models:
            level.head.bias[0] += 1.0
    for seed in range(3):
        cells = samples(model, target_width=11, seed=seed)[0]
        assert_agree(model, cells, np.zeros(cells.shape, bool))


def test_a_batch_is_told_in_the_same_order_whatever_thread_is_first() -> None:
    model = tiny("ar", "4x4>2x2>1x1", 8, notes=True)
    how = SampleSettings(num_samples=5, batch_size=5, target_width=20)
    told = [[(type(e), getattr(e, "sample", None)) for e in generate(model, how)] for _ in range(3)]
    assert told[0] == told[1] == told[2]


def test_a_batch_that_is_left_early_stops() -> None:
    model = tiny("mar", "4x4>2x2>1x1", 8, notes=True)
    before = threading.active_count()
    events = generate(model, SampleSettings(num_samples=4, batch_size=4, target_width=400))
    next(event for event in events if isinstance(event, PatchDone))
    assert threading.active_count() > before
    events.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def with_metre() -> FractalModel:
    """A model of two voices, a plan of form and harmony, copy attention and metre, on few pitches."""
    level = {"steps_before": 5, "pitches_around": 3, "steps_after": 2, "lags": (4,)}
    planned = {"voices": ("a", "b"), "form": True, "harmony": True, "metre": True, "velocity_attention": True}
    options = ALL["model"] | planned
    model = tiny("ar", "16x4>4x2>1x1", 12, notes=True, velocity_bins=10, level=level, model=options)
    with torch.no_grad():
        for part in model.level_models:
            part.head.weight.mul_(0.1)
            part.row_bias.weight.mul_(0.1)
    return model


@pytest.mark.parametrize("given", ["nothing", "beginning", "hole"])
def test_so_do_models_that_know_metre(given: str) -> None:
    model = with_metre()
    planes = Planes.over(model.config.model, 23, None, (0, 1, 4, 7, 9, 13, 19), {3: 8, 1: 16})
    assert planes.bars is not None and planes.bars.lengths == (1, 3, 3, 2, 4, 4, 2, 4)
    rng = np.random.default_rng(1)
    shape = (2, 12, 23)
    held = rng.random(shape) < 0.5
    rolls = np.where(rng.random(shape) < 0.3, rng.integers(2, 6, shape), held).astype(np.uint8)
    for step in range(23):
        before = rolls[..., step - 1] > 0 if step else False
        rolls[..., step][(rolls[..., step] == 1) & ~np.asarray(before)] = 0
    canvas = planes.write_plan(planes.stack(dict(zip("ab", rolls, strict=True))), 4)
    known = np.zeros(canvas.shape, bool)
    known[planes.plan_rows :, : 10 if given == "beginning" else 0] = True
    if given == "hole":
        known[planes.plan_rows :] = True
        known[planes.plan_rows :, 7:17] = False
    known, codes = planes.spread_given(known, canvas * known)
    constraints = CanvasConstraints.on_planes(model.config.model, planes, canvas.shape[1], given=known, codes=codes)
    assert constraints.violation(canvas) is None
    limits = Limits(
        torch.from_numpy(known)[None] if known.any() else None,
        torch.from_numpy(constraints.allowed)[None],
        torch.from_numpy(planes.bars.metres)[None],
    )
    walked: Prices = {}
    with torch.inference_mode():
        for part in model.walk(torch.from_numpy(canvas)[None], Draw(torch.Generator()), limits=limits):
            rows = zip(part.pitch.tolist(), part.step.tolist(), part.nats.tolist(), strict=True)
            walked |= {(part.level, p, t): nats for p, t, nats in rows}
            if part.level > 1:
                assert constraints.in_bar[part.pitch, part.step].all()
    batch = Batch(model, [Policy.following(model.tree, canvas)], [0], canvas.shape[1], constraints=constraints)
    for _ in batch.events():
        pass
    (written,) = batch.samples
    assert np.array_equal(written.visible * constraints.in_bar, canvas * constraints.in_bar)
    followed = {(level, p, t): nats for level, p, t, nats in written.prices}
    assert len(walked) > 100
    for node in walked.keys() | followed.keys():
        assert followed.get(node, 0.0) == pytest.approx(walked.get(node, 0.0), abs=1e-4), node
