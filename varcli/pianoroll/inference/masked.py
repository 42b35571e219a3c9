"""Masked levels, compiled: children in turns, each iteration by all that is known before it.

An iteration decides a share of the children, in batches of which the occupied ones are filled before the next. With one
child per iteration this is the exact any-order model. Children that are known to sound take their turn and are sure to
be filled.
"""

from varcli.compiled import kernel
from varcli.pianoroll.constants import STATE_EMPTY, STATE_OCCUPIED
from varcli.pianoroll.inference import fields as f
from varcli.pianoroll.inference.decisions import decide_each
from varcli.pianoroll.inference.fields import ModelArrays, SampleArrays
from varcli.pianoroll.inference.nodes import finish, is_open, log, log_done, place
from varcli.pianoroll.inference.siblings import ask, fill, leave, look
from varcli.pianoroll.inference.turns import iterations_of, unmasked_after


@kernel(allocates=False)
def step_masked(number: int, model: ModelArrays, sample: SampleArrays) -> None:
    """Fill the next child, decide the next ones, begin a batch, or go back to the parent."""
    level, frame, chosen = model.levels[number], sample.frames[number], sample.lists[f.CHOSEN]
    if frame[f.RETURNED]:
        frame[f.RETURNED] = 0
        frame[f.HIT] += 1
        _show(number, model, sample)
    if frame[f.HIT] < frame[f.HITS]:
        fill(number, model, sample, chosen[level[f.ROWS] + frame[f.HIT]])
    elif frame[f.TAKEN] < frame[f.BATCH_STOP]:
        _decide(number, model, sample)
    elif frame[f.BATCH_FIRST] < frame[f.BATCH_STOP]:
        _report(number, model, sample)
    elif frame[f.TAKEN] < frame[f.TURNS]:
        _begin_batch(number, model, sample)
    else:
        leave(number, sample)


@kernel(allocates=False)
def _show(number: int, model: ModelArrays, sample: SampleArrays) -> None:
    """Show those that are filled to the others: all of them together, but cells a step after a step.

    Whether a cell is held or struck hangs on the cell before it; decided side by side, notes fall to pieces.
    """
    level, frame = model.levels[number], sample.frames[number]
    rows, chosen = level[f.ROWS], sample.lists[f.CHOSEN]
    if frame[f.HIT] < frame[f.HITS]:
        _, t = place(level, model, frame, chosen[rows + frame[f.HIT]])
        _, before = place(level, model, frame, chosen[rows + frame[f.HIT] - 1])
        if number + 1 < model.run[f.DEPTH] or t == before:
            return
    for i in range(frame[f.GROUP], frame[f.HIT]):
        child = chosen[rows + i]
        p, t = place(level, model, frame, child)
        finish(number, model, sample, p, t, False)
        sample.lists[f.STATE_OF, rows + child] = STATE_OCCUPIED
    frame[f.GROUP] = frame[f.HIT]


@kernel(allocates=False)
def _begin_batch(number: int, model: ModelArrays, sample: SampleArrays) -> None:
    """Take the next children of an iteration, and run them."""
    level, frame = model.levels[number], sample.frames[number]
    rows, order, taken = level[f.ROWS], sample.lists[f.ORDER], frame[f.TAKEN]
    if taken == frame[f.TURN_STOP]:
        iterations = iterations_of(frame[f.TURNS], level[f.ITERATIONS], level[f.SORTED])
        while frame[f.TURN_STOP] == taken:
            frame[f.ITERATION] += 1
            frame[f.TURN_STOP] = unmasked_after(frame[f.TURNS], iterations, frame[f.ITERATION], level[f.SORTED])
        frame[f.TOLD] += 1
        frame[f.BATCH] = 0
    frame[f.BATCH] += 1
    frame[f.BATCH_STOP] = min(taken + level[f.TOGETHER], frame[f.TURN_STOP])
    if number == 0 and (model.run[f.SIDES] == f.BOTH or frame[f.BATCH_STOP] - frame[f.BATCH_FIRST] > 1):
        sample.position[f.KNOWN] = -1  # more may be known of it than when it was last looked at
    if level[f.ATTENDS]:
        for child in range(level[f.SIBLINGS]):
            look(number, model, sample, child)
        ask(number, model, sample, 0, level[f.SIBLINGS])
    else:
        for i in range(taken, frame[f.BATCH_STOP]):
            child = order[rows + i]
            look(number, model, sample, child)
            ask(number, model, sample, child, 1)
    frame[f.BATCH_FIRST] = taken
    if model.run[f.MOVING] and number + 1 == model.run[f.DEPTH]:
        _sort_by_step(number, model, sample, order, rows + taken, rows + frame[f.BATCH_STOP])


@kernel(allocates=False)
def _sort_by_step(number: int, model: ModelArrays, sample: SampleArrays, children, first: int, stop: int) -> None:
    """Sort children in a list by their steps; those of one step stay in their order."""
    level, frame = model.levels[number], sample.frames[number]
    for i in range(first + 1, stop):
        child, at = children[i], i
        _, t = place(level, model, frame, child)
        while at > first:
            _, before = place(level, model, frame, children[at - 1])
            if before <= t:
                break
            children[at] = children[at - 1]
            at -= 1
        children[at] = child


@kernel(allocates=False)
def _decide(number: int, model: ModelArrays, sample: SampleArrays) -> None:
    """Decide the children of a batch: all of them together, unless each changes what is left for others."""
    level, frame = model.levels[number], sample.frames[number]
    rows, order, outcome = level[f.ROWS], sample.lists[f.ORDER], sample.lists[f.OUTCOME]
    chosen = sample.lists[f.CHOSEN]
    first = frame[f.TAKEN]
    stop = first + 1 if model.run[f.MOVING] else frame[f.BATCH_STOP]
    frame[f.TAKEN], count = stop, 0
    for i in range(first, stop):
        child = order[rows + i]
        p, t = place(level, model, frame, child)
        outcome[rows + child] = 0
        if sample.lists[f.FLAGS, rows + child] & f.MUST or is_open(level, model, sample, p, t):
            chosen[rows + count] = child
            count += 1
    if count:
        forced = not (frame[f.OCCUPIED] or _any_left(number, model, sample))
        frame[f.OCCUPIED] |= decide_each(number, level, model, sample, chosen[rows : rows + count], count, forced)
    frame[f.HITS] = frame[f.HIT] = frame[f.GROUP] = 0
    for i in range(first, stop):
        child = order[rows + i]
        if outcome[rows + child]:
            chosen[rows + frame[f.HITS]] = child
            frame[f.HITS] += 1
        else:
            # Silence first: a cell after it cannot be held.
            p, t = place(level, model, frame, child)
            finish(number, model, sample, p, t, True)
            sample.lists[f.STATE_OF, rows + child] = STATE_EMPTY
    if number + 1 == model.run[f.DEPTH]:
        _sort_by_step(number, model, sample, chosen, rows, rows + frame[f.HITS])


@kernel(allocates=False)
def _any_left(number: int, model: ModelArrays, sample: SampleArrays) -> bool:
    """Whether any of the children whose turn comes later holds a free cell that may sound now."""
    level, frame = model.levels[number], sample.frames[number]
    for i in range(frame[f.TAKEN], frame[f.TURNS]):
        p, t = place(level, model, frame, sample.lists[f.ORDER, level[f.ROWS] + i])
        if is_open(level, model, sample, p, t):
            return True
    return False


@kernel(allocates=False)
def _report(number: int, model: ModelArrays, sample: SampleArrays) -> None:
    """Tell that a batch is done: of level 0 all of it, of others what sounds."""
    level, frame = model.levels[number], sample.frames[number]
    rows, order, boxes = level[f.ROWS], sample.lists[f.ORDER], 0
    row = sample.position[f.LOGGED]
    log_done(
        sample,
        number,
        frame[f.CLOSED] + frame[f.TAKEN],
        frame[f.ON_CANVAS],
        frame[f.TOLD],
        frame[f.ITERATION_COUNT],
        frame[f.BATCH],
        boxes,
    )
    for i in range(frame[f.BATCH_FIRST], frame[f.BATCH_STOP]):
        child = order[rows + i]
        written = number == 0 or sample.lists[f.OUTCOME, rows + child]
        if written and sample.lists[f.FLAGS, rows + child] & f.OPEN:
            p, t = place(level, model, frame, child)
            log(sample, f.BOX, number, p, t)
            boxes += 1
    sample.log[row, 7] = boxes
    frame[f.BATCH_FIRST] = frame[f.BATCH_STOP]
    sample.position[f.PAUSE] = number == 0
