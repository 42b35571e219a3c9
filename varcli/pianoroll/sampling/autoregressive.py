"""Autoregressive levels: children in scan order, with runs of silence decided by one request.

The logits of some children are computed on the assumption that those between are empty (an all-silent draft); the
decisions are then taken one by one, and the assumption holds up to the first occupied child. So siblings cost one
request per occupied child rather than one per child, and the distribution is exactly that of deciding one at a time.
Masked levels without attention are decided likewise where all that comes before a child is known to it.
Children in which nothing is left to decide need no request: they are known beforehand, and in the states from the
start.
"""

import numpy as np

from varcli.pianoroll.config import AR
from varcli.pianoroll.model.level import STATE_EMPTY, STATE_OCCUPIED
from varcli.pianoroll.sampling.siblings import Siblings
from varcli.pianoroll.sampling.strategy import Decoder, Descend, LevelPlan, Request


class Autoregressive:
    """Decides children one after another, in scan order."""

    kind = AR

    def fill(self, plan: LevelPlan, siblings: Siblings, descend: Descend) -> Decoder:
        sample, n = siblings.sample, int(siblings.exists[-1]) + 1
        plan.started(siblings, 0 if plan.kind.is_causal else len(siblings.exists))
        if plan.kind.is_causal:
            siblings.begin_in_order()
        else:
            siblings.begin_masked()
        start, any_occupied = 0, plan.level == 0 or siblings.any_required
        candidates = _candidates(plan, siblings, start)
        while len(candidates):
            whole = sample.policy.needs_all_siblings and not any_occupied and plan.speculates
            stop = n if whole else min(n, start + plan.draft)
            response = yield Request(siblings, start, stop)
            assert response is not None
            drafted = candidates[candidates < stop]
            forced = not any_occupied and len(drafted) == len(candidates)
            first = None
            if len(drafted):
                logits = siblings.force(drafted, response.logits[drafted - start])
                first = sample.policy.first(plan.level, siblings.p[drafted], siblings.t[drafted], logits, forced)
            hit = stop if first is None else int(drafted[first])
            for index in range(start, hit):
                _pass_over(plan, siblings, index)
            if first is not None:
                any_occupied = True
                p, t = siblings.place(hit)
                yield from descend(sample, p, t, response.hidden[hit - start])
                sample.finish(plan.level, p, t, plan.shape, empty=False)
                _report(plan, siblings, hit)
                _inform_next(plan, siblings, hit, STATE_OCCUPIED)
            start = hit + (first is not None)
            candidates = candidates[candidates >= start] if first is None else _candidates(plan, siblings, start)
        for index in range(start, n):
            _pass_over(plan, siblings, index)


def _candidates(plan: LevelPlan, siblings: Siblings, start: int) -> np.ndarray:
    """Children from `start` on that are to be decided now.

    Of the others, those that are sure to be occupied count as such for the next one.
    """
    later = siblings.exists[siblings.exists >= start]
    if siblings.must is None:
        return later
    is_open = siblings.open(later)
    for index in later[~is_open & siblings.must[later]].tolist():
        _inform_next(plan, siblings, index, STATE_OCCUPIED)
    return later[is_open]


def _inform_next(plan: LevelPlan, siblings: Siblings, index: int, state: int) -> None:
    """Note in the state of the next child what one is; children of masked levels have states of their own."""
    if plan.kind.is_causal and index + 1 < len(siblings.state):
        siblings.state[index + 1] = state


def _pass_over(plan: LevelPlan, siblings: Siblings, index: int) -> None:
    """Leave a child as it is: empty, or holding only what was known beforehand."""
    siblings.sample.finish(plan.level, *siblings.place(index), plan.shape, empty=True)
    is_known = siblings.must is not None and siblings.must[index]
    _inform_next(plan, siblings, index, STATE_OCCUPIED if is_known else STATE_EMPTY)
    # Inner levels report when something was written; level 0 counts every patch that could be, as the bar does.
    if plan.level == 0 and not siblings.is_given(index):
        _report(plan, siblings, index)


def _report(plan: LevelPlan, siblings: Siblings, index: int) -> None:
    total = len(siblings.exists)
    number = index + 1 if total == len(siblings.p) else int(np.searchsorted(siblings.exists, index)) + 1
    # What masks would have unmasked child by child counts as an iteration each.
    turn = (0, 0, 0) if plan.kind.is_causal else (number, total, 1)
    plan.done(siblings, number, turn, (siblings.box(index, plan.shape),))
