"""Masked families: children in random order, several at a time, as MaskGIT and fractal MAR unmask.

An iteration looks at everything known, decides a share of the children that grows along a cosine, and fills the
occupied ones before the next iteration. With one child per iteration this is the exact any-order model. Children that
are known to be empty are shown as such from the start; those known to sound take their turn and are sure to be filled.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from varcli.pianoroll.events import LevelStarted, PatchDone
from varcli.pianoroll.model.level import STATE_EMPTY, STATE_MASKED, STATE_OCCUPIED
from varcli.pianoroll.sampling.siblings import Concurrent, Decoder, Filled, Request, Response, Siblings, bounds, emit

if TYPE_CHECKING:
    from varcli.pianoroll.generation.scheduler import Scheduler


@dataclass
class _Turns:
    """Children that are empty beforehand, those decided in turn, how many are decided, and whether any is occupied."""

    closed: np.ndarray
    order: np.ndarray
    taken: int
    any_occupied: bool


def fill_masked(run: "Scheduler", family: Siblings) -> Decoder:
    """Unmask the children of a family over the iterations of its level and fill the occupied ones."""
    sheet, level, n = family.sheet, family.level, len(family.exists)
    turns = _take_turns(run, family)
    counts = _counts(run, level, len(turns.order))
    emit(sheet, LevelStarted(sheet.sample, level, "mar", n, len(counts)))
    size = run.batch_generate_size if level == 0 else n
    for iteration, count in enumerate(counts, 1):
        stop = turns.taken + count
        for batch, first in enumerate(range(turns.taken, stop, size), 1):
            answer = yield Request(family, 0, len(family.p), turns.order[first : min(first + size, stop)])
            assert isinstance(answer, Response)
            hits = []
            for part in _parts(run, family, turns.order[first : min(first + size, stop)]):
                hits += yield from _decide(run, family, turns, part, answer)
            written = [k for k in (turns.order[first : turns.taken] if level == 0 else hits) if not family.knows(k)]
            boxes = tuple(bounds(run, family, int(k)) for k in written)
            done = len(turns.closed) + turns.taken
            event = PatchDone(sheet.sample, level, "mar", done, n, iteration, len(counts), batch, boxes, sheet.visible)
            emit(sheet, event)


def fill_masked_at_once(run: "Scheduler", family: Siblings) -> Decoder:
    """Have all cells of a block decided and written together, and tell of them iteration by iteration."""
    sheet, level, n = family.sheet, family.level, len(family.exists)
    order, counts = _take_turns(run, family).order, _counts(run, level, n)
    emit(sheet, LevelStarted(sheet.sample, level, "mar", n, len(counts)))
    answer = yield Request(family, 0, len(family.p), order, tuple(counts))
    assert isinstance(answer, Filled)
    done = 0
    for iteration, count in enumerate(counts, 1):
        chosen = order[done : done + count]
        hits = chosen[answer.codes[chosen] > 0].tolist()
        for k in hits:
            sheet.show(int(family.p[k]), int(family.t[k]), int(answer.codes[k]))
        boxes, done = tuple(bounds(run, family, k) for k in hits), done + count
        event = PatchDone(sheet.sample, level, "mar", done, n, iteration, len(counts), 1, boxes, sheet.visible)
        emit(sheet, event)


def _counts(run: "Scheduler", level: int, n: int) -> list[int]:
    """How many of `n` children each iteration of a level unmasks."""
    return (even_counts if run.in_order(level) else unmask_counts)(n, run.iterations(level))


def _take_turns(run: "Scheduler", family: Siblings) -> _Turns:
    """Draw the order of the children, or keep that of time, and show those that are known to be empty."""
    exists, any_occupied = family.exists, family.level == 0 or family.any_required
    can = family.open(exists) if family.must is None else family.open(exists) | family.must[exists]
    order, closed = exists[can], exists[~can]
    if len(order) and not run.in_order(family.level):
        order = order[family.sheet.policy.order(family.level, family.p[order], family.t[order])]
    _finish(run, family, closed, STATE_EMPTY)
    if family.must is not None:
        family.state[family.must] = STATE_OCCUPIED
    return _Turns(closed, order, 0, any_occupied)


def _parts(run: "Scheduler", family: Siblings, chosen: np.ndarray) -> list[np.ndarray]:
    """The children of a batch that are decided together: all of them, unless each changes what is left for others."""
    feasibility = family.sheet.feasibility
    if feasibility is None or not feasibility.moving:
        return [chosen]
    if family.level == run.tree.depth - 1:
        chosen[:] = chosen[np.argsort(family.t[chosen], kind="stable")]  # a step after a step, as in _in_turn
    return list(chosen[:, None])


def _decide(
    run: "Scheduler", family: Siblings, turns: _Turns, chosen: np.ndarray, answer: Response
) -> Generator[Request | Concurrent, Response | Filled | None, list[int]]:
    """Decide the next children and fill the occupied ones; returns these."""
    sheet, level = family.sheet, family.level
    turns.taken += len(chosen)
    occupied = np.zeros(len(chosen), bool)
    can = family.open(chosen) if family.must is None else family.open(chosen) | family.must[chosen]
    if can.any():
        nodes = chosen[can]
        forced = not turns.any_occupied and not family.open(turns.order[turns.taken :]).any()
        logits = family.insist(nodes, answer.logits[nodes])
        occupied[can] = sheet.policy.each(level, family.p[nodes], family.t[nodes], logits, forced)
    turns.any_occupied |= bool(occupied.any())
    hits = chosen[occupied]
    # Silence first: a cell after it cannot be held.
    _finish(run, family, chosen[~occupied], STATE_EMPTY)
    for group in _in_turn(run, family, hits):
        yield Concurrent(
            [run.fill(level + 1, sheet, int(family.p[k]), int(family.t[k]), answer.hidden[int(k)]) for k in group]
        )
        _finish(run, family, group, STATE_OCCUPIED)
    return hits.tolist()


def _in_turn(run: "Scheduler", family: Siblings, hits: np.ndarray) -> list[np.ndarray]:
    """Occupied children that are filled together: all at once, but cells a step after a step.

    Whether a cell is held or struck hangs on the cell before it; decided side by side, notes fall to pieces.
    """
    if len(hits) == 0 or family.level < run.tree.depth - 1:
        return [hits] if len(hits) else []
    steps = family.t[hits]
    return [hits[steps == step] for step in np.unique(steps)]


def _finish(run: "Scheduler", family: Siblings, nodes: np.ndarray, state: int) -> None:
    shape = run.tree.shapes[family.level]
    for k in nodes:
        p, t = int(family.p[k]), int(family.t[k])
        family.sheet.finish(family.level, p, t, shape, empty=state == STATE_EMPTY)
        family.state[k] = state


def unmask_counts(n: int, iterations: int) -> list[int]:
    """How many of `n` children each iteration unmasks: few at first, along a cosine; none is zero, their sum is n."""
    iterations = min(iterations, math.ceil(n * math.pi / 2))  # with these, each already unmasks one child
    left = [math.floor(n * math.cos(math.pi / 2 * i / iterations)) for i in range(iterations)] + [0]
    left[0] = n
    return [a - b for a, b in pairwise(left) if a > b]


def even_counts(n: int, iterations: int) -> list[int]:
    """How many of `n` children each iteration unmasks when they come in order: equally many, but for rounding."""
    edges = np.linspace(0, n, min(n, iterations) + 1).round().astype(int).tolist()
    return [b - a for a, b in pairwise(edges)]


def masked_state(n: int, exists: np.ndarray) -> np.ndarray:
    """States of a masked family that has decided nothing: all are masked, but those off the canvas are empty."""
    state = np.full(n, STATE_EMPTY, np.int64)
    state[exists] = STATE_MASKED
    return state
