"""Blocks that are filled at once hold what their cells would hold if asked about one look at a time."""

from typing import Any

import numpy as np
import pytest
import torch
from fractal_support import tiny

from varcli.pianoroll.events import PatchDone
from varcli.pianoroll.generation.scheduler import Scheduler
from varcli.pianoroll.inference.engine import Engine
from varcli.pianoroll.inference.fused.cells import samplers
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.sampling.policy import Sampler, Scorer

torch.set_num_threads(1)


def drawn(
    model: FractalModel, steps: int, batch: int, temperature: float = 1.0, **options: Any
) -> tuple[list[np.ndarray], list[Any]]:
    """Canvases u8 [P, T] of a batch, and what was told of patches: sample, level, bounds, numbers, cells that sound."""
    policies = [Sampler(model.tree, steps, (5, sample), temperature, 1.0) for sample in range(batch)]
    run, told = Scheduler(model, policies, range(batch), steps, **options), []
    for event in run.events():
        if isinstance(event, PatchDone):
            numbers = (event.index, event.total, event.iteration, event.iterations, event.batch)
            sounding = [(event.canvas[a:b, c:d] > 0).sum() for a, b, c, d in event.bounds]
            told.append((event.sample, event.level, event.bounds, *numbers, sounding))
    return [sheet.visible for sheet in run.samples], sorted(told)


SHAPES = [
    ("4x4>1x1", 8, {}),
    ("8x8>4x4>1x1", 16, {"velocity_bins": 3}),
    ("8x8>4x2>1x1", 16, {"scan_order": "row_major", "velocity_bins": 2}),
    ("4x4>2x2>1x1", 8, {"model": {"conditioning": True}}),
]


def assert_alike(model: FractalModel, batch: int, temperature: float, monkeypatch, **options: Any) -> None:
    with torch.inference_mode():
        for level in model.level_models[:-1]:
            level.head.bias.add_(2.0 if model.masked else 0.5)
    at_once, told = drawn(model, 19, batch, temperature, **options)
    monkeypatch.setattr(Engine, "fill_at_once", lambda *_: None)
    by_look, told_by_look = drawn(model, 19, batch, temperature, **options)
    assert sum(int((cells > 0).sum()) for cells in at_once) > 10 * batch
    for one, other in zip(at_once, by_look, strict=True):
        assert np.array_equal(one, other)
    assert told == told_by_look


@pytest.mark.parametrize(("shapes", "pitches", "options"), SHAPES)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_blocks_filled_in_order_hold_what_is_decided_look_by_look(
    shapes, pitches, options, batch, temperature, monkeypatch
) -> None:
    assert_alike(tiny("ar", shapes, pitches, notes=True, **options), batch, temperature, monkeypatch)


@pytest.mark.parametrize(("shapes", "pitches", "options"), SHAPES)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("order", ["random", "inner", "scan"])
def test_blocks_unmasked_at_once_hold_what_is_decided_look_by_look(
    shapes, pitches, options, batch, order, monkeypatch
) -> None:
    model = tiny("mar", shapes, pitches, notes=True, **options)
    iterations = [3, 2, 4, 1][-len(model.level_models) :]
    assert_alike(model, batch, 0.9, monkeypatch, iterations=iterations, order=order)


def test_only_plain_sampling_of_levels_in_order_is_done_at_once() -> None:
    def sampler(model: FractalModel, top_p: Any = 1.0) -> Sampler:
        return Sampler(model.tree, 8, (0, 0), 1.0, top_p)

    model = tiny("ar", "4x4>1x1", 8, notes=True)
    assert samplers(model, [sampler(model)]) is not None
    assert samplers(model, [sampler(model, (0.9, 1.0, 1.0))]) is not None
    assert samplers(model, [sampler(model, (1.0, 1.0, 0.9))]) is None
    assert samplers(model, [sampler(model), Scorer(model.tree, np.zeros((8, 8), np.uint8))]) is None
    others = [
        tiny(("ar", "mar"), "4x4>1x1", 8, notes=True, level={"width": 20}),
        tiny(("mar", "ar"), "4x4>1x1", 8, notes=True),
        tiny("ar", "4x4>1x1", 8),
        tiny("ar", "1x1", 8, notes=True),
        tiny("ar", "4x4>1x1", 8, notes=True, level={"network": "mlp"}),
        tiny("ar", "4x4>1x1", 8, notes=True, model={"tonality": True}),
    ]
    assert all(samplers(other, [sampler(other)]) is None for other in others)
