"""The siblings that are being decided, compiled: begun, looked at by the network, and filled by the next level."""

import numpy as np

from varcli.compiled import kernel
from varcli.compiled.pieces import call
from varcli.pianoroll.constants import GIVEN, STATE_EMPTY, STATE_MASKED, STATE_OCCUPIED, STATE_START
from varcli.pianoroll.inference import fields as f
from varcli.pianoroll.inference.decisions import decide_value
from varcli.pianoroll.inference.fields import ModelArrays, SampleArrays
from varcli.pianoroll.inference.network import inherit
from varcli.pianoroll.inference.nodes import CODE, finish, grid, is_open, log, place
from varcli.pianoroll.inference.turns import take_turns
from varcli.pianoroll.roll import HELD


@kernel(allocates=False)
def begin(number: int, model: ModelArrays, sample: SampleArrays, p: int, t: int) -> None:
    """Start on the siblings of a level within a node at pitch p and step t."""
    level, frame = model.levels[number], sample.frames[number]
    flags, rows = sample.lists[f.FLAGS], level[f.ROWS]
    for i in range(f.FRAME_FIELDS):
        frame[i] = 0
    frame[f.P], frame[f.T], frame[f.OCCUPIED] = p, t, number == 0
    for child in range(level[f.SIBLINGS]):
        own_p, own_t = place(level, model, frame, child)
        flags[rows + child], state = 0, STATE_EMPTY
        if own_t < model.run[f.CANVAS_STEPS]:
            frame[f.LAST], frame[f.ON_CANVAS] = child + 1, frame[f.ON_CANVAS] + 1
            must = sample.must[grid(level, model, own_p, own_t)] != 0
            opened = is_open(level, model, sample, own_p, own_t)
            flags[rows + child] = f.EXISTS + f.MUST * must + f.OPEN * opened
            state = STATE_OCCUPIED if must else STATE_MASKED
            frame[f.OCCUPIED] |= must
        sample.lists[f.OUTCOME, rows + child] = flags[rows + child] & f.MUST
        sample.lists[f.STATE_OF, rows + child] = state
    sample.position[f.LEVEL] = number
    turns = 0 if level[f.CAUSAL] else frame[f.ON_CANVAS]
    if not level[f.IN_ORDER]:
        turns = take_turns(number, model, sample)
    log(sample, f.STARTED, number, frame[f.ON_CANVAS], turns)


@kernel(allocates=False)
def leave(number: int, sample: SampleArrays) -> None:
    """All siblings are decided: back to their parent's."""
    sample.position[f.LEVEL] = number - 1
    if number:
        sample.frames[number - 1, f.RETURNED] = 1


@kernel(allocates=False)
def fill(number: int, model: ModelArrays, sample: SampleArrays, child: int) -> None:
    """Go on to what lies within an occupied child."""
    level, frame = model.levels[number], sample.frames[number]
    p, t = place(level, model, frame, child)
    frame[f.CHILD], frame[f.RETURNED] = child, 1
    if not is_open(level, model, sample, p, t):
        finish(number, model, sample, p, t, True)
        return
    if number + 1 < len(model.levels):
        inherit(model.levels[number + 1], model, sample, level[f.ROWS] + child)
    if number + 1 < model.run[f.DEPTH]:
        frame[f.RETURNED] = 0
        begin(number + 1, model, sample, p, t)
        return
    code = 1 if model.run[f.BINARY] else _value(number + 1, model, sample, p, t)
    sample.codes[p * model.run[f.STRIDE] + t + model.run[f.ORIGIN]] = code
    if p >= model.run[f.PLAN_ROWS]:
        _hold_beyond(model, sample, p, t)
    if model.run[f.MOVING] and p >= model.run[f.PLAN_ROWS] and not sample.tied[grid(level, model, p, t)]:
        sample.left[t] -= 1
    log(sample, f.WROTE, p, t, code)


@kernel(allocates=False)
def _hold_beyond(model: ModelArrays, sample: SampleArrays, p: int, t: int) -> None:
    """Hold a cell that sounds in the last step of its bar through the rest of the column, as `BarColumns.spread`."""
    run = model.run
    column, place = t // run[f.COLUMN], t % run[f.COLUMN]
    if place == (sample.metres[column] - 1) % run[f.COLUMN]:
        for step in range(t + 1, min((column + 1) * run[f.COLUMN], run[f.CANVAS_STEPS])):
            at = p * run[f.STRIDE] + step + run[f.ORIGIN]
            if sample.codes[at] < GIVEN:
                sample.codes[at] = HELD


@kernel(allocates=False)
def _value(number: int, model: ModelArrays, sample: SampleArrays, p: int, t: int) -> int:
    """Decide what one cell holds, "held" or an onset in a velocity bin."""
    level, weights = model.levels[number], model.weights
    n, D, row, numbers = level[f.OUTPUTS], level[f.WIDTH], level[f.ROWS], sample.numbers
    call(model.calls[f.MAKE_TOKEN], number, model, sample, 0, p, t, STATE_START)
    silent_before = t == 0 or sample.window[0, level[f.BEFORE]] & CODE == 0
    call(model.calls[f.RUN], number, model, sample, 0, 1, 0, 0)
    for i in range(n):
        logit, at = np.float32(0), level[f.HEAD] + i * D
        for k in range(D):
            logit += sample.hidden[row, k] * weights[at + k]
        numbers[i] = logit + weights[level[f.ROW_BIAS] + p // level[f.HEIGHT] * n + i]
        if i and level[f.VELOCITY_CELLS] > 0:
            numbers[i] += sample.votes[1, i - 1]
    if level[f.BEFORE] >= 0 and silent_before:
        numbers[0] = -np.inf
    return decide_value(number, model, sample, p, t, n)


@kernel(allocates=False)
def look(number: int, model: ModelArrays, sample: SampleArrays, child: int) -> None:
    """Make the token of a child, of what is known now."""
    level, rows = model.levels[number], model.levels[number, f.ROWS]
    p, t = place(level, model, sample.frames[number], child)
    if not level[f.CAUSAL]:
        state = sample.lists[f.STATE_OF, rows + child]
    elif child == 0:
        state = STATE_START
    else:
        state = STATE_OCCUPIED if sample.lists[f.OUTCOME, rows + child - 1] else STATE_EMPTY
    call(model.calls[f.MAKE_TOKEN], number, model, sample, child, p, t, state)


@kernel(allocates=False)
def ask(number: int, model: ModelArrays, sample: SampleArrays, first: int, m: int) -> None:
    """Run m siblings from `first` on, whose tokens are made, for their logits; those that must sound are sure to."""
    level, weights = model.levels[number], model.weights
    call(model.calls[f.RUN], number, model, sample, first, m, 0, 0)
    D, rows = level[f.WIDTH], level[f.ROWS]
    for child in range(first, first + m):
        p, _ = place(level, model, sample.frames[number], child)
        row = p // level[f.HEIGHT]
        logit, at = weights[level[f.ROW_BIAS] + row], level[f.HEAD] + row * D
        for k in range(D):
            logit += sample.hidden[rows + child, k] * weights[at + k]
        sample.logits[rows + child] = np.inf if sample.lists[f.FLAGS, rows + child] & f.MUST else logit
