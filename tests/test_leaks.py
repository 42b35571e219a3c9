"""No leak: changing a cell moves no logit of a node that may not know it.

Who may know what is worked out here from paths in the tree, on its own: nodes see a cell if, at the level where their
paths part, the cell's side comes earlier in scan order (AR) or is among the known ones (MAR).
"""

import itertools

import numpy as np
import pytest
import torch
from fractal_support import Looks, Node, looks, some_canvas, tiny

from varcli.pianoroll.constants import UNKNOWN
from varcli.pianoroll.model.canvas import Canvas
from varcli.pianoroll.model.fractal import FractalModel

ORDERS = ("column_major", "row_major")
STEPS = 10


def ancestor(model: FractalModel, level: int, p: int, t: int) -> Node:
    """The node of a level that a cell lies in."""
    h, w = model.tree.shapes[level]
    return level, p // h * h, t // w * w


def scan_key(model: FractalModel, node: Node) -> tuple[int, int]:
    """Sorts siblings as they are scanned."""
    _, p, t = node
    return (t, p) if model.tree.scan_order == "column_major" else (p, t)


def may_know(model: FractalModel, node: Node, cell: tuple[int, int], masked: set[Node]) -> bool:
    """Whether a node may know what a cell holds, given the nodes that masked levels have yet to decide."""
    level, p, t = node
    for index in range(min(level + 1, model.tree.depth)):
        own, other = ancestor(model, index, p, t), ancestor(model, index, *cell)
        inside = own == other
        if inside and index < min(level, model.tree.depth - 1):
            continue
        if not model.level_models[index].is_causal:
            # A known sibling is shown whole; so is a known node to itself, which nobody asks about.
            return other not in masked
        return not inside and scan_key(model, other) < scan_key(model, own)
    raise AssertionError("paths part at the level of the node at the latest")


def moved(before: Looks, after: Looks) -> set[Node]:
    """Nodes whose logits differ between two walks that looked at them, by more than rounding explains."""
    both = before.logits.keys() & after.logits.keys()
    return {n for n in both if not np.allclose(before.logits[n], after.logits[n], rtol=1e-5, atol=1e-5)}


def changes(model: FractalModel, canvas: np.ndarray) -> list[tuple[int, int, int]]:
    """(pitch, step, new code) of changes that leave every parent of cells as occupied as it was."""
    h, w = model.tree.shapes[-2]
    found = []
    for p, t in itertools.product(range(canvas.shape[0]), range(canvas.shape[1])):
        old = int(canvas[p, t])
        parent = canvas[p // h * h : p // h * h + h, t // w * w : t // w * w + w]
        if np.count_nonzero(parent) > (old > 0):
            found.append((p, t, 0 if old else 2))
        if old:
            found.append((p, t, 3 if old == 2 else 2))
    return found


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "kinds",
    [("ar",) * 3, ("mar",) * 3, ("ar", "mar", "mar"), ("mar", "ar", "ar"), ("ar", "mar", "ar"), ("mar", "ar", "mar")],
    ids="-".join,
)
def test_a_changed_cell_moves_only_those_who_may_know_it(kinds, seed) -> None:
    model = tiny(kinds, "4x4>2x2>1x1", 8, notes=True, velocity_bins=2, scan_order=ORDERS[seed], seed=seed)
    canvas = some_canvas(model, STEPS, seed=seed, density=0.4)
    before = looks(model, canvas, seed)
    ignorant = informed = 0
    for p, t, code in changes(model, canvas)[:: 3 if kinds[0] == "ar" else 2]:
        other = canvas.copy()
        other[p, t] = code
        after = looks(model, other, seed)
        assert after.masked == before.masked
        allowed = {node for node in before.logits if may_know(model, node, (p, t), before.masked)}
        leaked = moved(before, after) - allowed
        assert leaked == set(), f"cell {p, t} is known to {sorted(leaked)[:3]}"
        informed += bool(moved(before, after))
        ignorant += len(before.logits) - len(allowed)
    # The test looks at something: most changes are felt by someone, and many nodes must not feel them.
    assert ignorant > 150 and informed > 3


def test_nobody_knows_what_no_masked_level_has_shown() -> None:
    model = tiny("mar", "4x4>2x2>1x1", 8, notes=True, velocity_bins=2)
    canvas = some_canvas(model, STEPS, density=0.4)
    count = 0
    for seed in range(6):
        before = looks(model, canvas, seed)
        asked = [(p, t) for level, p, t in before.logits if level == model.tree.depth]
        for p, t in asked:
            other = canvas.copy()
            other[p, t] = 3 if canvas[p, t] == 2 else 2
            assert moved(before, looks(model, other, seed)) == set()
        count += len(asked)
    assert count > 10


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shapes", ["4x4>2x2>1x1", "8x1>2x1>1x1", "2x2>1x1"])
def test_emptying_or_filling_a_patch_moves_nothing_before_it(shapes, order) -> None:
    model = tiny("ar", shapes, 8, notes=True, velocity_bins=2, scan_order=order)
    canvas = some_canvas(model, STEPS, density=0.15)
    before = looks(model, canvas)
    h, w = model.tree.shapes[0]
    later = 0
    for p, t in model.tree.top(STEPS).tolist():
        other = canvas.copy()
        patch = other[p : p + h, t : t + w]
        patch[:] = 0 if patch.any() else 2
        after = looks(model, other)
        early = {n for n in before.logits if scan_key(model, ancestor(model, 0, *n[1:])) < scan_key(model, (0, p, t))}
        # Until the patch is decided, everything is as it was: the same questions, and the same answers.
        assert moved(before, after) & (early | {(0, p, t)}) == set()
        assert early <= after.logits.keys()
        later += len(moved(before, after))
    assert later > 10


def test_the_first_level_looks_back_as_far_as_its_context_and_no_farther() -> None:
    level = {"steps_before": 0, "steps_after": 0, "pitches_around": 0, "lags": ()}
    model = tiny("ar", "8x2>1x1", 8, level=level, model={"context_steps": 6})
    canvas = some_canvas(model, 20, density=0.2)
    other = canvas.copy()
    other[:, 4:6] = 0 if canvas[:, 4:6].any() else 1
    moves = moved(looks(model, canvas), looks(model, other))
    # Three patches of two steps each: the state of the changed one is first felt by its neighbour.
    assert [t for level, _, t in sorted(moves) if level == 0] == [6, 8, 10]


@pytest.mark.parametrize("kinds", [("mar", "mar"), ("ar", "mar")], ids="-".join)
def test_masked_models_know_nothing_of_what_lies_beyond_the_canvas(kinds) -> None:
    model = tiny(kinds, "4x4>1x1", 8, notes=True)
    live = Canvas(model.layout, torch.zeros(2, 8, 6, dtype=torch.uint8), torch.tensor([6, 3]))
    assert (live.inner[0] == 0).all() and (live.inner[1, :, :3] == 0).all()
    live.inner[0] = UNKNOWN
    live.inner[1, :, :3] = UNKNOWN
    assert (live.codes == UNKNOWN).all()


@pytest.mark.parametrize("order", ORDERS)
def test_nothing_is_told_of_how_long_the_piece_goes_on(order) -> None:
    model = tiny("ar", "8x4>4x2>1x1", 8, notes=True, scan_order=order)
    canvas = some_canvas(model, 17, density=0.4)
    canvas[:, 9:] = 0
    long = looks(model, canvas)
    for steps in (9, 10, 12, 16):
        short = looks(model, canvas[:, :steps])
        assert moved(short, long) == set()
        assert len(short.logits.keys() & long.logits.keys()) > 50
