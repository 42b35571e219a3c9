"""Masked levels: children in random order, several at a time, as MaskGIT and fractal MAR unmask.

An iteration takes everything known, decides a share of the children that grows along a cosine, and fills the
occupied ones before the next iteration. With one child per iteration this is the exact any-order model. Children that
are known to be empty are shown as such from the start; those known to sound take their turn and are sure to be filled.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from varcli.pianoroll.config import MAR
from varcli.pianoroll.model.level import STATE_EMPTY, STATE_OCCUPIED
from varcli.pianoroll.sampling.siblings import Siblings
from varcli.pianoroll.sampling.strategy import Concurrent, Decoder, Descend, LevelPlan, Request, Response


@dataclass
class _Turns:
    """Children that are empty beforehand, those decided in turn, how many are decided, and whether any is occupied."""

    closed: np.ndarray
    order: np.ndarray
    any_occupied: bool
    taken: int = 0


class Masked:
    """Unmasks children over the iterations of their level."""

    kind = MAR

    def fill(self, plan: LevelPlan, siblings: Siblings, descend: Descend) -> Decoder:
        siblings.begin_masked()
        turns = _take_turns(plan, siblings)
        counts = _counts(plan, len(turns.order))
        plan.started(siblings, len(counts))
        size = plan.batch or len(siblings.exists)
        for iteration, count in enumerate(counts, 1):
            stop = turns.taken + count
            for batch, first in enumerate(range(turns.taken, stop, size), 1):
                chosen = turns.order[first : min(first + size, stop)]
                response = yield Request(siblings, 0, len(siblings.p), chosen)
                assert response is not None
                hits = []
                for part in _parts(plan, siblings, chosen):
                    hits += yield from _decide(plan, siblings, turns, part, response, descend)
                written = chosen if plan.level == 0 else hits
                boxes = tuple(siblings.box(int(k), plan.shape) for k in written if not siblings.is_given(k))
                done = len(turns.closed) + turns.taken
                plan.done(siblings, done, (iteration, len(counts), batch), boxes)


def _counts(plan: LevelPlan, n: int) -> list[int]:
    """How many of `n` children each iteration of a level unmasks."""
    return (even_counts if plan.in_order else unmask_counts)(n, plan.iterations)


def _take_turns(plan: LevelPlan, siblings: Siblings) -> _Turns:
    """Draw the order of the children, or keep that of time, and show those that are known to be empty."""
    exists, any_occupied = siblings.exists, plan.level == 0 or siblings.any_required
    can = siblings.possible(exists)
    order, closed = exists[can], exists[~can]
    if len(order) and not plan.in_order:
        order = order[siblings.sample.policy.order(plan.level, siblings.p[order], siblings.t[order])]
    _finish(plan, siblings, closed, STATE_EMPTY)
    return _Turns(closed, order, any_occupied)


def _parts(plan: LevelPlan, siblings: Siblings, chosen: np.ndarray) -> list[np.ndarray]:
    """The children of a batch that are decided together: all of them, unless each changes what is left for others."""
    feasibility = siblings.sample.feasibility
    if feasibility is None or not feasibility.moving:
        return [chosen]
    if plan.is_finest:
        chosen[:] = chosen[np.argsort(siblings.t[chosen], kind="stable")]  # a step after a step, as in _in_turn
    return list(chosen[:, None])


def _decide(
    plan: LevelPlan, siblings: Siblings, turns: _Turns, chosen: np.ndarray, response: Response, descend: Descend
) -> Generator[Request | Concurrent, Response | None, list[int]]:
    """Decide the next children and fill the occupied ones; returns these."""
    sample = siblings.sample
    turns.taken += len(chosen)
    occupied = np.zeros(len(chosen), bool)
    can = siblings.possible(chosen)
    if can.any():
        nodes = chosen[can]
        forced = not turns.any_occupied and not siblings.open(turns.order[turns.taken :]).any()
        logits = siblings.force(nodes, response.logits[nodes])
        occupied[can] = sample.policy.each(plan.level, siblings.p[nodes], siblings.t[nodes], logits, forced)
    turns.any_occupied |= bool(occupied.any())
    hits = chosen[occupied]
    # Silence first: a cell after it cannot be held.
    _finish(plan, siblings, chosen[~occupied], STATE_EMPTY)
    for group in _in_turn(plan, siblings, hits):
        yield Concurrent([descend(sample, *siblings.place(k), response.hidden[int(k)]) for k in group])
        _finish(plan, siblings, group, STATE_OCCUPIED)
    return hits.tolist()


def _in_turn(plan: LevelPlan, siblings: Siblings, hits: np.ndarray) -> list[np.ndarray]:
    """Occupied children that are filled together: all at once, but cells a step after a step.

    Whether a cell is held or struck hangs on the cell before it; decided side by side, notes fall to pieces.
    """
    if len(hits) == 0 or not plan.is_finest:
        return [hits] if len(hits) else []
    steps = siblings.t[hits]
    return [hits[steps == step] for step in np.unique(steps)]


def _finish(plan: LevelPlan, siblings: Siblings, nodes: np.ndarray, state: int) -> None:
    for k in nodes:
        siblings.sample.finish(plan.level, *siblings.place(k), plan.shape, empty=state == STATE_EMPTY)
        siblings.state[k] = state


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
