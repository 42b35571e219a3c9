"""Given cells and limits on what may sound: still distributions, and the same one in the walk and in sampling.

Shapes: B canvases, P pitches, T steps.
"""

from typing import Any

import numpy as np
import pytest
import torch
from fractal_support import all_canvases, codes_of, follow, follow_with, price, some_canvas, tiny

from varcli.errors import UsageError
from varcli.pianoroll.model.canvas import Limits
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.sampling.constraints import CanvasConstraints
from varcli.pianoroll.sampling.policy import Policy

CONDITIONED = {"conditioning": True}


def limits_of(constraints: CanvasConstraints, count: int) -> Limits:
    """The same constraints for the walk, on `count` canvases."""
    shape = (count, *constraints.given.shape)
    return Limits(
        torch.from_numpy(constraints.given).expand(shape).clone(),
        torch.from_numpy(constraints.allowed).expand(shape).clone(),
    )


def possible(model: FractalModel, constraints: CanvasConstraints) -> np.ndarray:
    """Every canvas u8 [B, P, T] that may be under the constraints."""
    P, T = constraints.given.shape
    canvases = all_canvases(P, T, codes_of(model)).numpy()
    return np.array([canvas for canvas in canvases if constraints.violation(canvas) is None])


def draw_constraints(
    rng: np.random.Generator, model: FractalModel, steps: int, *, polyphony: int | None = None
) -> CanvasConstraints:
    """Random constraints that do not contradict one another."""
    shape = (model.tree.pitches, steps)
    binary = model.config.model.vocabulary == "binary"
    while True:
        given = rng.random(shape) < rng.choice([0.0, 0.3, 0.6])
        codes = rng.integers(0, codes_of(model), shape) * given
        allowed = rng.random(shape) < rng.choice([0.6, 0.9, 1.0])
        if not binary:
            # A held cell after a given silence is no music, and models rule it out.
            before = np.pad(given & (codes == 0), ((0, 0), (1, 0)))[:, :-1]
            before[:, 0] = True
            codes[before & (codes == 1)] = 2
        try:
            return CanvasConstraints(given, codes.astype(np.uint8), allowed, polyphony, binary)
        except UsageError:
            continue


ECHO = {"echo": {"candidates": 2, "pitches_around": 1, "steps_before": 1, "steps_after": 1}}
MODELS: list[tuple[Any, str, int, int, dict[str, Any]]] = [
    ("ar", "2x2>1x1", 4, 3, {}),
    ("ar", "4x1>2x1>1x1", 4, 3, {}),
    ("ar", "4x4>2x2>1x1", 4, 3, {"scan_order": "row_major"}),
    ("ar", "2x2>1x1", 2, 3, {"notes": True, "velocity_bins": 2}),
    ("ar", "4x1>2x1>1x1", 4, 4, {"model": CONDITIONED | ECHO | {"polyphony": True, "tonality": True}}),
    ("ar", "2x2>1x1", 2, 4, {"notes": True, "model": CONDITIONED | ECHO | {"tonality": True}}),
    ("ar", "2x1>1x1", 2, 3, {"notes": True, "model": CONDITIONED | ECHO | {"polyphony": True}}),
    ("mar", "2x2>1x1", 2, 3, {"notes": True, "model": CONDITIONED | ECHO | {"tonality": True}}),
    ("mar", "2x2>1x1", 2, 3, {"notes": True}),
    (("mar", "mar", "mar"), "4x2>2x1>1x1", 4, 2, {}),
    (("ar", "mar"), "2x2>1x1", 2, 3, {"notes": True}),
    (("mar", "ar"), "2x2>1x1", 2, 3, {"notes": True}),
    (("ar", "mar", "ar"), "4x2>2x1>1x1", 4, 3, {}),
]


@pytest.mark.parametrize("polyphony", [None, 1, 2])
@pytest.mark.parametrize(("kinds", "shapes", "pitches", "steps", "options"), MODELS)
def test_probabilities_of_all_possible_canvases_sum_to_1(kinds, shapes, pitches, steps, options, polyphony) -> None:
    model = tiny(kinds, shapes, pitches, **{"model": CONDITIONED} | options)
    rng = np.random.default_rng(len(shapes) + steps)
    for seed in range(4):
        constraints = draw_constraints(rng, model, steps, polyphony=polyphony)
        canvases = possible(model, constraints)
        if len(canvases) > 200:
            continue
        nats = follow(model, canvases, seed=seed, constraints=constraints)
        assert np.exp(-nats).sum() == pytest.approx(1, abs=1e-5)
        if not model.masked and polyphony is None:
            walked = price(model, canvases, limits=limits_of(constraints, len(canvases)))
            np.testing.assert_allclose(nats, walked, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kinds", [("mar", "mar"), ("ar", "mar"), ("mar", "ar")], ids="-".join)
def test_the_walk_of_masked_levels_estimates_the_mean_over_orders_under_constraints(kinds) -> None:
    model = tiny(kinds, "2x2>1x1", 4, notes=True, velocity_bins=2, model=CONDITIONED)
    canvas = some_canvas(model, 5, density=0.4)
    rng = np.random.default_rng(1)
    kept = rng.random(canvas.shape) < 0.3
    allowed = (canvas > 0) | (rng.random(canvas.shape) < 0.7)
    constraints = CanvasConstraints(kept, np.where(kept, canvas, 0).astype(np.uint8), allowed)
    copies = canvas[None].repeat(200, 0)
    policies = [Policy.following(model.tree, canvas, seed) for seed in range(len(copies))]
    orders = follow_with(model, copies, policies, constraints=constraints)
    limits = limits_of(constraints, len(copies))
    walks = np.concatenate([price(model, copies, seed=seed, limits=limits) for seed in range(5)])
    assert orders.std() > 0.01 * orders.mean()
    error = np.hypot(*(draws.std(ddof=1) / len(draws) ** 0.5 for draws in (orders, walks)))
    assert error < 0.1 * orders.mean()
    assert abs(orders.mean() - walks.mean()) < 4 * error
