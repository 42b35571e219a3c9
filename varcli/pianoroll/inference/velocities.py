"""How loud the notes around a cell are, compiled: the same as `VelocityAttention`.

Shapes: M cells of the window, H heads, V classes of velocity, D width.
"""

import numpy as np

from varcli.compiled import kernel
from varcli.pianoroll.constants import FALLS
from varcli.pianoroll.inference import fields as f
from varcli.pianoroll.inference.context import count_below, refresh
from varcli.pianoroll.inference.fields import ModelArrays, SampleArrays
from varcli.pianoroll.inference.network import linear
from varcli.pianoroll.inference.nodes import CODE
from varcli.pianoroll.inference.tokens import HIDDEN, make_token, position, read_window
from varcli.pianoroll.roll import ONSET

HEADS = len(FALLS)


@kernel(allocates=False)
def attend_velocities(level: np.ndarray, model: ModelArrays, sample: SampleArrays, p: int, t: int) -> None:
    """Add to a cell's token what the velocities around say, and write what they add to the logits of its own to
    `votes`."""
    run, M, D, V = model.run, level[f.VELOCITY_CELLS], level[f.WIDTH], level[f.OUTPUTS] - 1
    codes, votes, scores = sample.window[1], sample.votes[0], level[f.VELOCITY_SCORES]
    first = p * run[f.STRIDE] + t + run[f.ORIGIN]
    place = position(level, run, p, t)
    read_window(model, sample, level[f.VELOCITY_WINDOW], M, level[f.VELOCITY_RULES], first, place, codes)
    for head in range(HEADS):
        at = head * (V + 1)
        for i in range(V + 1):
            votes[at + i] = 0
        total = 1.0
        votes[at + V] = 1  # beside the onsets a head may attend to nothing
        for m in range(M):
            loud = (codes[m] & CODE) - ONSET
            if codes[m] != HIDDEN and loud >= 0:
                weight = np.exp(np.float64(model.weights[scores + head * M + m]))
                votes[at + loud] += weight
                total += weight
        for i in range(V + 1):
            votes[at + i] /= total
    inputs = HEADS * (V + 1)
    linear(sample.votes, 1, inputs, model.weights, level[f.VELOCITY_TOKEN], D, sample.normed)
    token = sample.tokens[level[f.ROWS]]
    for i in range(D):
        token[i] += sample.normed[0, i]
    linear(sample.votes, 1, inputs, model.weights, level[f.VELOCITY_LOGITS], V, sample.mixed)
    for i in range(V):
        sample.votes[1, i] = sample.mixed[0, i]


@kernel(allocates=False)
def look(number: int, model: ModelArrays, sample: SampleArrays, child: int, p: int, t: int, state: int) -> int:
    """Make the token of a child at pitch `p` and step `t`, of all that is known now; a piece, see `pieces.call`."""
    level, run = model.levels[number], model.run
    known = 3 * (t // run[f.COLUMN]) + (p >= run[f.FORM_ROWS]) + (p >= run[f.PLAN_ROWS])
    if number == 0 and (run[f.CANDIDATES] or run[f.HEARS]) and sample.position[f.KNOWN] != known:
        refresh(model, sample, t // run[f.COLUMN])
        sample.position[f.KNOWN] = known
    if run[f.CANDIDATES] and (number == 0 or run[f.KNOWS_BELOW]):
        count_below(model, sample, p, t)
    make_token(level, model, sample, child, p, t, state)
    if level[f.VELOCITY_CELLS] > 0:
        attend_velocities(level, model, sample, p, t)
    return child
