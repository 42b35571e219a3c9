"""The tree: children tile their parents, and what comes before what is told as a path comparison would tell it."""

import itertools

import numpy as np
import pytest

from varcli.pianoroll.config import LevelConfig
from varcli.pianoroll.model.tree import LAG_REACH, Tree

ORDERS = ("column_major", "row_major")
TREES = (
    ((4, 4), (2, 2), (1, 1)),
    ((8, 1), (4, 1), (1, 1)),
    ((2, 6), (2, 2), (1, 1)),
    ((4, 4), (4, 2), (1, 1)),
    ((1, 1),),
)
CASES = tuple(itertools.product(TREES, ORDERS))


def path(tree: Tree, level: int, p: int, t: int) -> list[tuple[int, int]]:
    """Where a node lies in its parent, from level 0 down to `level`: pairs that sort in scan order."""
    steps, area = [], None
    for h, w in tree.shapes[: min(level, tree.depth - 1) + 1]:
        row, column = (p // h, t // w) if area is None else (p % area[0] // h, t % area[1] // w)
        steps.append((column, row) if tree.scan_order == "column_major" else (row, column))
        area = (h, w)
    return steps


@pytest.mark.parametrize(("shapes", "order"), CASES)
def test_children_tile_their_parents_in_scan_order(shapes, order) -> None:
    tree = Tree(shapes, 8, order)
    assert len(tree.children[0]) == 0
    for level in range(1, tree.depth):
        (H, W), (h, w) = shapes[level - 1], shapes[level]
        count = np.zeros((H, W), int)
        for p, t in tree.children[level]:
            count[p : p + h, t : t + w] += 1
        assert (count == 1).all()
        keys = [(t, p) if order == "column_major" else (p, t) for p, t in tree.children[level].tolist()]
        assert keys == sorted(keys)


@pytest.mark.parametrize(("shapes", "order"), CASES)
@pytest.mark.parametrize("steps", [1, 3, 4, 12, 13, 37])
def test_patches_cover_any_width_and_each_begins_inside_it(shapes, order, steps) -> None:
    tree = Tree(shapes, 8, order)
    h, w = shapes[0]
    top = tree.top(steps)
    assert len(top) == 8 // h * tree.columns(steps)
    count = np.zeros((8, tree.columns(steps) * w), int)
    for p, t in top:
        count[p : p + h, t : t + w] += 1
    assert (count == 1).all()
    assert count.shape[1] - w < steps <= count.shape[1]
    assert (top[:, 1] < steps).all()
    assert [path(tree, 0, p, t) for p, t in top.tolist()] == sorted(path(tree, 0, p, t) for p, t in top.tolist())


def test_the_grid_of_a_long_roll_is_carried_not_guessed() -> None:
    tree = Tree(((16, 16), (4, 4), (1, 1)), 128, "row_major")
    assert tree.columns(512) == 32
    assert len(tree.top(512)) == 8 * 32
    assert tree.top(512)[31].tolist() == [0, 496]
    assert tree.top(512)[32].tolist() == [16, 0]


@pytest.mark.parametrize(("shapes", "order", "kind"), list(itertools.product(TREES, ORDERS, ("ar", "mar"))))
def test_windows_know_what_precedes_and_where_paths_part(shapes, order, kind) -> None:
    tree = Tree(shapes, 8, order)
    options = LevelConfig.model_validate(
        {"kind": kind, "steps_before": 5, "steps_after": 3, "pitches_around": 5, "lags": (7, 12)}
    )
    for level in range(tree.depth + 1):
        last = min(level, tree.depth - 1)
        window = tree.window(level, options)
        seen = set()
        for p, t in itertools.product(range(0, 8, shapes[last][0]), range(0, 2 * shapes[0][1], shapes[last][1])):
            place = tree.position(level, p, t)
            seen.add(int(place))
            # Paths sort only for cells that exist; far to the right and up all do.
            node_p, node_t = p + 8 * 4, t + 24 * shapes[0][1]
            node = path(tree, level, node_p, node_t)
            for index, (dp, dt) in enumerate(window.offsets.tolist()):
                cell = path(tree, level, node_p + dp, node_t + dt)
                assert window.precedes[place, index] == (cell < node)
                parted = [a != b for a, b in zip(cell, node, strict=True)]
                assert window.differs[place, index] == (parted.index(True) if True in parted else last)
        assert seen == set(range(tree.positions(level)))


@pytest.mark.parametrize("kind", ["ar", "mar"])
def test_windows_hold_the_cells_their_options_say(kind) -> None:
    tree = Tree(((4, 4), (2, 2), (1, 1)), 8, "column_major")
    options = LevelConfig.model_validate(
        {"kind": kind, "steps_before": 3, "steps_after": 1, "pitches_around": 2, "lags": (9,)}
    )
    offsets = {tuple(pair) for pair in tree.window(1, options).offsets.tolist()}
    near = set(itertools.product(range(-2, 4), range(-3, 3)))
    behind = set(itertools.product(range(-LAG_REACH, 2 + LAG_REACH), range(-10, -6)))
    ahead = set(itertools.product(range(-LAG_REACH, 2 + LAG_REACH), range(8, 12)))
    # Only a masked model can know anything of what comes later.
    assert offsets == near | behind | (ahead if kind == "mar" else set())
    assert len(tree.window(1, options).offsets) == len(offsets)
