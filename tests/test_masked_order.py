"""Masked models that unmask in the order of time, below level 0 or throughout."""

import numpy as np
from fractal_support import samples, tiny, unmask_counts
from hypothesis import given, settings
from hypothesis import strategies as st

from varcli.pianoroll.config import SampleConfig
from varcli.pianoroll.events import PatchDone
from varcli.pianoroll.generation.generate import SampleSettings, generate

SHAPES = "4x4>2x2>1x1"


def patches(order: str, seed: int = 0) -> list[tuple[int, int]]:
    """First cells (step, pitch) of the patches, as they are unmasked."""
    model = tiny("mar", SHAPES, 8, sample=SampleConfig(order=order, num_iter_list=(6, 2, 2)))  # type: ignore[arg-type]
    events = generate(model, SampleSettings(target_width=12, seed=seed))
    done = [event for event in events if isinstance(event, PatchDone) and event.level == 0]
    return [(bounds[2], bounds[0]) for event in done for bounds in event.bounds]


def test_patches_come_in_the_order_of_time_or_in_a_random_one():
    assert patches("scan") == sorted(patches("scan")) == patches("scan", seed=1)
    for order in ("random", "inner"):
        assert patches(order) != sorted(patches(order)) and patches(order) != patches(order, seed=1)


def test_the_order_is_a_default_of_the_checkpoint():
    by_order = {}
    for order in ("random", "scan"):
        model = tiny("mar", SHAPES, 8, sample=SampleConfig(order=order, num_iter_list=(3, 2, 2)))
        by_order[order] = samples(model, target_width=12)[0]
    assert by_order["random"].any() and not np.array_equal(by_order["random"], by_order["scan"])


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 300))
def test_in_order_iterations_differ_by_one_at_most(n: int, iterations: int):
    counts = unmask_counts(n, iterations, in_order=True)
    assert sum(counts) == n and len(counts) == min(n, iterations)
    assert max(counts) - min(counts) <= 1
