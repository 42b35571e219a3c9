"""Masked families: children in random order, several at a time, as MaskGIT and fractal MAR unmask.

An iteration looks at everything known, decides a share of the children that grows along a cosine, and fills the
occupied ones before the next iteration. With one child per iteration this is the exact any-order model.
"""

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from varcli.events import LevelStarted, PatchDone
from varcli.pianoroll.family import Answer, Ask, Family, Together, Worker, bounds, emit
from varcli.pianoroll.level import STATE_EMPTY, STATE_MASKED, STATE_OCCUPIED

if TYPE_CHECKING:
    from varcli.pianoroll.run import Run


def fill_masked(run: "Run", family: Family) -> Worker:
    """Unmask the children of a family over the iterations of its level and fill the occupied ones."""
    sheet, level, n = family.sheet, family.level, len(family.exists)
    order = family.exists[sheet.chooser.order(level, family.p[family.exists], family.t[family.exists])]
    counts = unmask_counts(n, run.iterations(level))
    emit(sheet, LevelStarted(sheet.sample, level, "mar", n, len(counts)))
    size = run.batch_generate_size if level == 0 else n
    done, any_occupied = 0, level == 0
    for iteration, count in enumerate(counts, 1):
        for batch, first in enumerate(range(done, done + count, size), 1):
            chosen = order[first : min(first + size, done + count)]
            answer = yield Ask(family, 0, len(family.p))
            assert isinstance(answer, Answer)
            forced = not any_occupied and first + len(chosen) == n
            p, t = family.p[chosen], family.t[chosen]
            occupied = sheet.chooser.each(level, p, t, answer.logits[chosen], forced)
            any_occupied = any_occupied or bool(occupied.any())
            hits = chosen[occupied]
            for group in _in_turn(run, family, hits):
                parts = [
                    run.fill(level + 1, sheet, int(family.p[k]), int(family.t[k]), answer.hidden[int(k)]) for k in group
                ]
                yield Together(parts)
                _finish(run, family, group, STATE_OCCUPIED)
            _finish(run, family, chosen[~occupied], STATE_EMPTY)
            index = first + len(chosen)
            boxes = tuple(bounds(run, family, int(k)) for k in (chosen if level == 0 else hits))
            event = PatchDone(sheet.sample, level, "mar", index, n, iteration, len(counts), batch, boxes, sheet.visible)
            emit(sheet, event)
        done += count


def _in_turn(run: "Run", family: Family, hits: np.ndarray) -> list[np.ndarray]:
    """Occupied children that are filled together: all at once, but cells a step after a step.

    Whether a cell is held or struck hangs on the cell before it; decided side by side, notes fall to pieces.
    """
    if len(hits) == 0 or family.level < run.tree.depth - 1:
        return [hits] if len(hits) else []
    steps = family.t[hits]
    return [hits[steps == step] for step in np.unique(steps)]


def _finish(run: "Run", family: Family, nodes: np.ndarray, state: int) -> None:
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


def masked_state(n: int, exists: np.ndarray) -> np.ndarray:
    """States of a masked family that has decided nothing: all are masked, but those off the canvas are empty."""
    state = np.full(n, STATE_EMPTY, np.int64)
    state[exists] = STATE_MASKED
    return state
