"""Levels in order, compiled: children one after another, each knowing all that comes before it."""

from varcli.compiled import kernel
from varcli.pianoroll.inference import fields as f
from varcli.pianoroll.inference.decisions import decide, decide_first
from varcli.pianoroll.inference.fields import ModelArrays, SampleArrays
from varcli.pianoroll.inference.nodes import finish, is_open, log, log_done, place
from varcli.pianoroll.inference.siblings import ask, fill, leave, look


@kernel(allocates=False)
def step_in_order(number: int, model: ModelArrays, sample: SampleArrays) -> None:
    """Go on to the next child that sounds and fill it, or back to the parent; level 0 stops at each of its nodes."""
    level, frame = model.levels[number], sample.frames[number]
    if frame[f.RETURNED]:
        _take_back(number, model, sample)
        return
    if not frame[f.OCCUPIED] and not model.run[f.MASKED] and model.sharp[number, 1] < 1:
        fill(number, model, sample, _find_first(number, model, sample))
        return
    while frame[f.TAKEN] < frame[f.LAST]:
        child = frame[f.TAKEN]
        p, t = place(level, model, frame, child)
        flags = sample.lists[f.FLAGS, level[f.ROWS] + child]
        frame[f.TAKEN] += 1
        if flags & f.EXISTS and is_open(level, model, sample, p, t):
            _evaluate(number, model, sample, child)
            forced = not (frame[f.OCCUPIED] or _any_open(number, model, sample, child + 1))
            if decide(number, level, model, sample, p, t, sample.logits[level[f.ROWS] + child], forced):
                fill(number, model, sample, child)
                return
        finish(number, model, sample, p, t, True)
        # Inner levels report when something was written; level 0 counts every patch that could be, as the bar does.
        if number == 0 and flags & f.OPEN:
            _report(number, model, sample, child)
            return
    leave(number, sample)


@kernel(allocates=False)
def _take_back(number: int, model: ModelArrays, sample: SampleArrays) -> None:
    """A child is filled."""
    level, frame = model.levels[number], sample.frames[number]
    child = frame[f.CHILD]
    p, t = place(level, model, frame, child)
    frame[f.RETURNED] = 0
    frame[f.OCCUPIED] = sample.lists[f.OUTCOME, level[f.ROWS] + child] = 1
    frame[f.TAKEN] = child + 1
    finish(number, model, sample, p, t, False)
    _report(number, model, sample, child)


@kernel(allocates=False)
def _evaluate(number: int, model: ModelArrays, sample: SampleArrays, child: int) -> None:
    """Run a child for its logit, and with attention those before it that have no keys yet."""
    frame = sample.frames[number]
    first = frame[f.FILLED] if model.levels[number, f.ATTENDS] else child
    for other in range(first, child + 1):
        look(number, model, sample, other)
    ask(number, model, sample, first, child + 1 - first)
    frame[f.FILLED] = child + 1


@kernel(allocates=False)
def _find_first(number: int, model: ModelArrays, sample: SampleArrays) -> int:
    """The first child to sound, of which there is one, from the logits of all if those before it are silent."""
    level, frame = model.levels[number], sample.frames[number]
    rows, chosen, count = level[f.ROWS], sample.lists[f.CHOSEN], 0
    for child in range(frame[f.LAST]):
        p, t = place(level, model, frame, child)
        if sample.lists[f.FLAGS, rows + child] & f.EXISTS and is_open(level, model, sample, p, t):
            chosen[rows + count] = child
            count += 1
    last = chosen[rows + count - 1]
    for child in range(last + 1):
        look(number, model, sample, child)
    ask(number, model, sample, 0, last + 1)
    for i in range(count):
        sample.numbers[i] = sample.logits[rows + chosen[rows + i]]
    p, t = place(level, model, frame, chosen[rows])
    first = chosen[rows + decide_first(number, level, model, sample, count, p, t)]
    frame[f.FILLED] = first + 1
    return first


@kernel(allocates=False)
def _any_open(number: int, model: ModelArrays, sample: SampleArrays, first: int) -> bool:
    """Whether any of the children from `first` on holds a free cell that may sound now."""
    level, frame = model.levels[number], sample.frames[number]
    for child in range(first, frame[f.LAST]):
        p, t = place(level, model, frame, child)
        if sample.lists[f.FLAGS, level[f.ROWS] + child] & f.EXISTS and is_open(level, model, sample, p, t):
            return True
    return False


@kernel(allocates=False)
def _report(number: int, model: ModelArrays, sample: SampleArrays, child: int) -> None:
    """Tell that a child is done; what masks would have unmasked child by child counts as an iteration each."""
    level, frame = model.levels[number], sample.frames[number]
    index = 0
    for other in range(child + 1):
        index += sample.lists[f.FLAGS, level[f.ROWS] + other] & f.EXISTS
    turn = 0 if level[f.CAUSAL] else 1
    log_done(sample, number, index, frame[f.ON_CANVAS], turn * index, turn * frame[f.ON_CANVAS], turn, 1)
    p, t = place(level, model, frame, child)
    log(sample, f.BOX, number, p, t)
    sample.position[f.PAUSE] = number == 0
