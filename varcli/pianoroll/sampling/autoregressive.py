"""Autoregressive families: children in scan order, with runs of silence decided in one look.

The logits of some children ahead are computed on the assumption that they are empty; the decisions are then taken
one by one, and the assumption holds up to the first occupied child. So a family costs one look per occupied child
rather than one per child, and the distribution is exactly that of deciding one at a time. Masked levels without
attention are decided likewise where each of their children may see all that comes before it. Children in which nothing
is left to decide are not asked about: they are known beforehand, and stand in the states from the start.
"""

from typing import TYPE_CHECKING

import numpy as np

from varcli.pianoroll.events import LevelStarted, PatchDone
from varcli.pianoroll.model.level import STATE_EMPTY, STATE_OCCUPIED
from varcli.pianoroll.sampling.siblings import Decoder, Filled, Request, Response, Siblings, bounds, emit

if TYPE_CHECKING:
    from varcli.pianoroll.generation.scheduler import Scheduler


def fill_in_order(run: "Scheduler", family: Siblings) -> Decoder:
    """Decide the children of a family one after another and fill the occupied ones."""
    sheet, level, n = family.sheet, family.level, int(family.exists[-1]) + 1
    shape = run.tree.shapes[level]
    ahead = run.ahead[level]
    kind = run.model.level_models[level].kind
    emit(sheet, LevelStarted(sheet.sample, level, kind, len(family.exists), len(family.exists) if kind == "mar" else 0))
    if kind == "mar" and family.must is not None:
        family.state[family.must] = STATE_OCCUPIED
    start, any_occupied = 0, level == 0 or family.any_required
    candidates = _candidates(run, family, start)
    while len(candidates):
        whole = sheet.policy.needs_all_siblings and not any_occupied and run.speculates
        stop = n if whole else min(n, start + ahead)
        answer = yield Request(family, start, stop)
        assert isinstance(answer, Response)
        asked = candidates[candidates < stop]
        forced = not any_occupied and len(asked) == len(candidates)
        logits = family.insist(asked, answer.logits[asked - start])
        first = sheet.policy.first(level, family.p[asked], family.t[asked], logits, forced) if len(asked) else None
        hit = stop if first is None else int(asked[first])
        for index in range(start, hit):
            _empty(run, family, index, shape)
        if first is not None:
            any_occupied = True
            p, t = int(family.p[hit]), int(family.t[hit])
            yield from run.fill(level + 1, sheet, p, t, answer.hidden[hit - start])
            sheet.finish(level, p, t, shape, empty=False)
            _done(run, family, hit)
            _tell(run, family, hit, STATE_OCCUPIED)
        start = hit + (first is not None)
        candidates = candidates[candidates >= start] if first is None else _candidates(run, family, start)
    for index in range(start, n):
        _empty(run, family, index, shape)


def fill_at_once(run: "Scheduler", family: Siblings) -> Decoder:
    """Have all cells of a block decided and written together, and tell of them one by one."""
    sheet, level = family.sheet, family.level
    emit(sheet, LevelStarted(sheet.sample, level, "ar", len(family.exists), 0))
    answer = yield Request(family, 0, len(family.p))
    assert isinstance(answer, Filled)
    for index in np.flatnonzero(answer.codes).tolist():
        sheet.show(int(family.p[index]), int(family.t[index]), int(answer.codes[index]))
        _done(run, family, index)


def _candidates(run: "Scheduler", family: Siblings, start: int) -> np.ndarray:
    """Children from `start` on that are to be asked about now.

    Of the others, those that are sure to be occupied say so to the next one.
    """
    later = family.exists[family.exists >= start]
    if family.must is None:
        return later
    is_open = family.open(later)
    for index in later[~is_open & family.must[later]].tolist():
        _tell(run, family, index, STATE_OCCUPIED)
    return later[is_open]


def _tell(run: "Scheduler", family: Siblings, index: int, state: int) -> None:
    """Note in the state of the next child what one is; children of masked levels have states of their own."""
    if run.model.level_models[family.level].kind == "ar" and index + 1 < len(family.state):
        family.state[index + 1] = state


def _empty(run: "Scheduler", family: Siblings, index: int, shape: tuple[int, int]) -> None:
    if run.model.masked:
        family.sheet.finish(family.level, int(family.p[index]), int(family.t[index]), shape, empty=True)
    known = family.must is not None and family.must[index]
    _tell(run, family, index, STATE_OCCUPIED if known else STATE_EMPTY)
    # Inner levels say when something was written; level 0 counts every patch that could be, as the bar does.
    if family.level == 0 and not family.knows(index):
        _done(run, family, index)


def _done(run: "Scheduler", family: Siblings, index: int) -> None:
    sheet, total = family.sheet, len(family.exists)
    box = (bounds(run, family, index),)
    number = index + 1 if total == len(family.p) else int(np.searchsorted(family.exists, index)) + 1
    # What masks would have unmasked child by child counts as an iteration each.
    kind = run.model.level_models[family.level].kind
    turn = (number, total, 1) if kind == "mar" else (0, 0, 0)
    emit(sheet, PatchDone(sheet.sample, family.level, kind, number, total, *turn, box, sheet.visible))


def fresh_state(n: int) -> np.ndarray:
    """States of an AR family that has decided nothing: a start, then silence assumed."""
    return np.concatenate([[0], np.full(n - 1, STATE_EMPTY)]).astype(np.int64)
