"""Masked models that unmask in the order of time, below level 0 or throughout."""

from typing import Any

import numpy as np
import pytest
import torch
from fractal_support import samples, tiny
from hypothesis import given
from hypothesis import strategies as st

from varcli.pianoroll.config import SampleConfig
from varcli.pianoroll.generation.scheduler import Scheduler
from varcli.pianoroll.sampling.masked import even_counts
from varcli.pianoroll.sampling.policy import Sampler

SHAPES = "4x4>2x2>1x1"


class Watched(Sampler):
    """Notes which children are decided together, and in which order, per level."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.orders: list[int] = []
        self.decided: dict[int, list[tuple[int, int]]] = {}

    def order(self, level: int, p: np.ndarray, t: np.ndarray) -> np.ndarray:
        self.orders.append(level)
        return super().order(level, p, t)

    def each(self, level: int, p: np.ndarray, t: np.ndarray, logits: np.ndarray, forced: bool) -> np.ndarray:
        self.decided.setdefault(level, []).extend(zip(t.tolist(), p.tolist(), strict=True))
        return super().each(level, p, t, logits, forced)


def watched(order: str) -> Watched:
    model = tiny("mar", SHAPES, 8)
    policy = Watched(model.tree, 12, (0, 0), 1.0, 1.0)
    with torch.inference_mode():
        for _ in Scheduler(model, [policy], [0], 12, iterations=(3, 2, 2), order=order).events():
            pass
    return policy


@pytest.mark.parametrize(("order", "drawn"), [("random", {0, 1, 2}), ("inner", {0}), ("scan", set())])
def test_an_order_is_drawn_only_where_it_is_random(order: str, drawn: set[int]):
    policy = watched(order)
    assert set(policy.decided) == {0, 1, 2}
    assert set(policy.orders) == drawn


def test_patches_come_in_the_order_of_time():
    assert watched("scan").decided[0] == sorted(watched("scan").decided[0])
    assert watched("inner").decided[0] != sorted(watched("inner").decided[0])


def test_the_order_is_a_default_of_the_checkpoint():
    by_order = {}
    for order in ("random", "scan"):
        model = tiny("mar", SHAPES, 8, sample=SampleConfig(order=order, num_iter_list=(3, 2, 2)))
        by_order[order] = samples(model, target_width=12)[0]
    assert by_order["random"].any() and not np.array_equal(by_order["random"], by_order["scan"])


@given(st.integers(1, 200), st.integers(1, 300))
def test_even_counts_add_up_and_differ_by_one_at_most(n: int, iterations: int):
    counts = even_counts(n, iterations)
    assert sum(counts) == n and len(counts) == min(n, iterations)
    assert max(counts) - min(counts) <= 1
