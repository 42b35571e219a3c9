"""The fractal generators as distributions: they sum to 1, and the walk, the scorer and the caches agree on them.

Shapes: B canvases, P pitches, T steps.
"""

import itertools

import numpy as np
import pytest
import torch
from fractal_support import all_canvases, codes_of, follow, follow_with, price, some_canvas, tiny

from varcli.config import load_config
from varcli.pianoroll.config import PianorollConfig
from varcli.pianoroll.inference.decisions import at_least_one
from varcli.pianoroll.inference.packing import Order
from varcli.pianoroll.model.decisions import Draw
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.model.level import level_parameters
from varcli.pianoroll.planes import Planes
from varcli.pianoroll.sampling.policy import Policy
from varcli.registry import entries

ORDERS = ("column_major", "row_major")


def crop_of(config: PianorollConfig, steps: int = 32) -> torch.Tensor:
    """Two crops u8 [2, R, steps] with a few long notes, in all voices, and bars that are new where there is a plan."""
    planes, vocabulary = Planes.of(config.model), config.model.vocabulary
    cells = np.zeros((2, 128, steps), np.uint8)
    for start, pitch in ((0, 48), (4, 60), (9, 64), (16, 67), (18, 48), (20, 72)):
        cells[:, pitch, start : start + 6] = 1
        if vocabulary == "notes":
            cells[:, pitch, start] = min(9, 1 + config.model.velocity_bins)
    canvases = [planes.canvas_of(one, dict.fromkeys(planes.names, one), config.model.steps_per_bar) for one in cells]
    return torch.from_numpy(np.stack(canvases))


@pytest.mark.parametrize("entry", [e for e in entries() if e.task == "pianoroll"], ids=lambda entry: entry.name)
def test_every_registered_model_prices_a_crop_and_all_its_parts_learn_from_it(entry) -> None:
    torch.manual_seed(0)
    config = load_config(entry.name)
    model = FractalModel(config).train()
    parts = [part for part in (*model.level_models, model.echoes, model.velocities) if part is not None]
    assert level_parameters(model) == sum(map(level_parameters, parts))
    draw = Draw(torch.Generator().manual_seed(0), 48)
    seen = []
    total = torch.zeros(())
    for decisions in model.walk(crop_of(config), draw):
        assert torch.isfinite(decisions.nats).all() and (decisions.nats >= 0).all()
        assert (decisions.step < 32).all() and (decisions.pitch < config.model.rows).all()
        seen.append(decisions.level)
        total = total + decisions.nats.mean()
    assert seen == list(range(len(config.model.levels)))
    total.backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # Fresh row heads start at zero and so pass nothing down, but learn themselves.
    assert still == []


def total_of(model: FractalModel, steps: int) -> float:
    canvases = all_canvases(model.config.model.pitches, steps, codes_of(model))
    return float(np.exp(-price(model, canvases)).sum())


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("shapes", "pitches", "steps", "options"),
    [
        ("2x2>1x1", 4, 2, {}),
        ("2x2>1x1", 4, 3, {}),  # the last patch reaches beyond the canvas
        ("4x1>2x1>1x1", 4, 3, {}),  # time-major: frames one by one
        ("4x4>2x2>1x1", 4, 3, {}),
        ("2x4>2x1>1x1", 2, 5, {}),
        ("1x1", 3, 3, {}),
        ("2x2>1x1", 2, 3, {"notes": True, "velocity_bins": 2}),
        ("2x1>1x1", 2, 2, {"notes": True, "velocity_bins": 5}),
        # Without the cell before it in window_weights, "held" is never ruled out.
        ("2x2>1x1", 2, 2, {"notes": True, "level": {"steps_before": 0, "lags": ()}}),
    ],
)
def test_probabilities_of_all_canvases_sum_to_1_if_every_level_is_ar(shapes, pitches, steps, options, order) -> None:
    model = tiny("ar", shapes, pitches, scan_order=order, **options)
    assert total_of(model, steps) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("kinds", "shapes", "pitches", "steps", "notes"),
    [
        (("mar", "mar"), "2x2>1x1", 2, 3, False),
        (("mar", "mar"), "2x2>1x1", 2, 2, True),
        (("mar", "mar", "mar"), "4x2>2x1>1x1", 4, 2, False),
        (("ar", "mar"), "2x2>1x1", 2, 3, True),
        (("mar", "ar"), "2x2>1x1", 2, 3, True),
        (("ar", "mar", "ar"), "4x2>2x1>1x1", 4, 2, False),
        (("mar", "ar", "mar"), "4x2>2x2>1x1", 4, 2, False),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_probabilities_sum_to_1_at_a_fixed_order_if_levels_are_masked(
    kinds, shapes, pitches, steps, notes, seed
) -> None:
    model = tiny(kinds, shapes, pitches, notes=notes, scan_order=ORDERS[seed])
    canvases = all_canvases(pitches, steps, codes_of(model)).numpy()
    nats = np.concatenate(
        [follow(model, part, seed=seed) for part in np.array_split(canvases, 1 + len(canvases) // 256)]
    )
    assert np.exp(-nats).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("iterations", [(2, 2, 1), (1, 1, 1), (1, 3, 1)])
def test_probabilities_sum_to_1_however_many_children_an_iteration_decides(iterations) -> None:
    model = tiny("mar", "2x2>1x1", 2, notes=True)
    canvases = all_canvases(2, 3, codes_of(model)).numpy()
    assert np.exp(-follow(model, canvases, order=Order(iterations, 1))).sum() == pytest.approx(1, abs=1e-5)


SEQUENTIAL = [
    ("4x4>2x2>1x1", 8, 10, "column_major", True),
    ("4x4>2x2>1x1", 8, 10, "row_major", True),
    ("8x1>4x1>1x1", 8, 7, "column_major", True),
    ("2x2>1x1", 16, 5, "column_major", False),
    ("2x2>1x1", 16, 5, "row_major", False),
]


@pytest.mark.parametrize(("shapes", "pitches", "steps", "order", "notes"), SEQUENTIAL)
def test_the_walk_prices_what_sampling_would_do(shapes, pitches, steps, order, notes) -> None:
    model = tiny("ar", shapes, pitches, notes=notes, velocity_bins=3, scan_order=order)
    canvases = np.stack([some_canvas(model, steps, seed=s, density=0.1 + 0.2 * s) for s in range(3)])
    canvases[0, :, 2:] = 0
    walked = price(model, canvases)
    alone = np.concatenate([follow(model, canvas[None]) for canvas in canvases])
    np.testing.assert_allclose(alone, walked, rtol=1e-4)
    np.testing.assert_allclose(follow(model, canvases), walked, rtol=1e-4)


@pytest.mark.parametrize(
    "kinds", [("mar", "mar", "mar"), ("ar", "mar", "ar"), ("mar", "ar", "mar"), ("ar", "ar", "mar")]
)
def test_masked_canvases_cost_the_same_alone_and_in_company(kinds) -> None:
    model = tiny(kinds, "4x4>2x2>1x1", 8, notes=True, velocity_bins=3)
    canvases = np.stack([some_canvas(model, 6, seed=s, density=0.1 + 0.2 * s) for s in range(3)])
    together = follow(model, canvases, seed=5)
    alone = np.concatenate([follow(model, canvas[None], seed=5) for canvas in canvases])
    assert np.array_equal(together, alone)
    assert not np.allclose(follow(model, canvases, seed=6), alone, rtol=1e-3)


@pytest.mark.parametrize("scan_order", ORDERS)
def test_a_limited_context_is_the_same_in_the_walk_and_in_the_cache(scan_order) -> None:
    options = {"scan_order": scan_order, "level": {"steps_before": 1, "lags": (), "pitches_around": 1}}
    near = tiny("ar", "2x2>1x1", 4, model={"context_steps": 4}, **options)
    far = tiny("ar", "2x2>1x1", 4, **options)
    canvas = some_canvas(near, 12)[None]
    assert not np.allclose(price(near, canvas), price(far, canvas), rtol=1e-3)
    np.testing.assert_allclose(follow(near, canvas), price(near, canvas), rtol=1e-4)
    np.testing.assert_allclose(follow(near, canvas.repeat(2, 0)), price(near, canvas.repeat(2, 0)), rtol=1e-4)


@pytest.mark.parametrize("notes", [False, True])
def test_walking_in_chunks_and_with_padding_changes_nothing(notes) -> None:
    model = tiny("ar", "4x4>2x2>1x1", 8, notes=notes)
    canvases = np.stack([some_canvas(model, 11, seed=s) for s in range(3)])
    whole = price(model, canvases)
    np.testing.assert_allclose(price(model, canvases, chunk=2), whole, rtol=1e-5)
    np.testing.assert_allclose([price(model, canvas[None])[0] for canvas in canvases], whole, rtol=1e-5)
    steps = torch.tensor([11, 6, 1])
    for canvas, count in zip(canvases, steps.tolist(), strict=True):
        canvas[:, count:] = 0
    short = [price(model, canvas[None, :, :count])[0] for canvas, count in zip(canvases, steps.tolist(), strict=True)]
    np.testing.assert_allclose(price(model, canvases, steps_B=steps), short, rtol=1e-5)
    np.testing.assert_allclose(price(model, canvases, steps_B=steps, chunk=3), short, rtol=1e-5)


@pytest.mark.parametrize("kinds", [("ar", "ar"), ("mar", "mar"), ("ar", "mar")])
@pytest.mark.parametrize("notes", [False, True])
def test_a_silent_canvas_has_a_price_of_its_own(kinds, notes) -> None:
    model = tiny(kinds, "2x2>1x1", 4, notes=notes)
    silence = np.zeros((2, 4, 5), np.uint8)
    assert np.isfinite(price(model, silence)).all()
    assert np.isfinite(price(model, silence, chunk=4, parents=2)).all()
    assert np.isfinite(follow(model, silence)).all()


def test_drawing_parents_is_unbiased() -> None:
    model = tiny("ar", "4x4>2x2>1x1", 8, notes=True, velocity_bins=3)
    canvases = np.stack([some_canvas(model, 8, seed=s) for s in range(2)])
    exact = price(model, canvases).sum()
    draws = np.array([price(model, canvases, seed=seed, parents=3).sum() for seed in range(300)])
    error = draws.std(ddof=1) / len(draws) ** 0.5
    assert 0 < error < 0.1 * exact
    assert abs(draws.mean() - exact) < 4 * error


@pytest.mark.parametrize("kinds", [("mar", "mar"), ("ar", "mar"), ("mar", "ar")])
@pytest.mark.parametrize("parents", [None, 2])
def test_the_walk_of_masked_levels_estimates_the_mean_over_random_orders(kinds, parents) -> None:
    model = tiny(kinds, "2x2>1x1", 4, notes=True, velocity_bins=2)
    canvas = some_canvas(model, 5, density=0.4)
    copies = canvas[None].repeat(200, 0)
    orders = follow_with(model, copies, [Policy.following(model.tree, canvas, seed) for seed in range(len(copies))])
    if parents is None:
        walks = np.concatenate([price(model, copies, seed=seed) for seed in range(5)])
    else:
        walks = np.array([price(model, canvas[None], seed=seed, parents=parents)[0] for seed in range(300)])
    assert orders.std() > 0.01 * orders.mean()
    error = np.hypot(*(draws.std(ddof=1) / len(draws) ** 0.5 for draws in (orders, walks)))
    assert error < 0.1 * orders.mean()
    assert abs(orders.mean() - walks.mean()) < 4 * error


def test_the_first_of_several_given_at_least_one() -> None:
    probability = np.array([0.2, 0.5, 0.01, 0.9])
    total = 0.0
    for outcome in itertools.product((False, True), repeat=4):
        chance = 1.0
        for index, hit in enumerate(outcome):
            p = probability[index] if any(outcome[:index]) else at_least_one(probability, index, 4)
            chance *= p if hit else 1 - p
        free = np.prod(np.where(outcome, probability, 1 - probability))
        expected = free / (1 - np.prod(1 - probability)) if any(outcome) else 0.0
        assert chance == pytest.approx(expected, abs=1e-12)
        total += chance
    assert total == pytest.approx(1)
    assert at_least_one(np.array([1e-9]), 0, 1) == 1
    assert at_least_one(np.zeros(4), 0, 4) == pytest.approx(0.25)
    assert at_least_one(np.array([1.0, 0.3]), 0, 2) == pytest.approx(1)
    assert at_least_one(np.full(2, 1e-12), 0, 2) == pytest.approx(0.5, rel=1e-3)
