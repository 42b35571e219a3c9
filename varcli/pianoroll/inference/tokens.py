"""The token of a node, compiled: the same sum as `LevelModel.embed`, with what copy attention and polyphony add.

Most cells of a window are silent and add nothing, so that the cost is that of the sounding ones; "known", a channel of
masked models, is that of the known ones.

Shapes: n siblings, W cells of a window, M of that of copy attention, C channels of a cell, K candidates, D width.
"""

import numpy as np

from varcli.compiled import REORDERED, kernel
from varcli.pianoroll.constants import (
    CHORD_KINDS,
    COUNTS,
    FEATURES,
    GIVEN,
    JUDGED,
    MOST_BELOW,
    PITCH_CLASSES,
    PLAN_OF_DENSITY,
    PLAN_OF_KEY,
    PLANNED,
    TRAITS,
    UNKNOWN,
)
from varcli.pianoroll.inference import fields as f
from varcli.pianoroll.inference.fields import ModelArrays, SampleArrays
from varcli.pianoroll.inference.network import add_row, exponential, linear
from varcli.pianoroll.inference.nodes import CODE

HIDDEN = np.uint8(UNKNOWN)
ONE, FOUR = np.float32(1), np.float32(4)


@kernel(allocates=False)
def sounds(code: np.uint8) -> bool:
    """Whether a code is that of a cell known to sound."""
    return code != HIDDEN and code & CODE != 0


@kernel(allocates=False)
def position(level: np.ndarray, run: np.ndarray, p: int, t: int) -> int:
    """Which of the places inside a patch a node has, as `Tree.position`."""
    across = run[f.COLUMN] // level[f.STEPS]
    return p % run[f.PATCH_HEIGHT] // level[f.HEIGHT] * across + t % run[f.COLUMN] // level[f.STEPS]


@kernel(allocates=False)
def read_window(
    model: ModelArrays,
    sample: SampleArrays,
    window: int,
    cells: int,
    rules: int,
    first: int,
    place: int,
    codes: np.ndarray,
) -> None:
    """Write the codes u8 [cells] in a node's window, UNKNOWN where hidden, as `Canvas.windows`.

    `rules` of a cell are twice the first level at which the paths of cell and node part, and one more if scan order
    hides it; 128 more if that level is masked, so that what has been revealed counts.
    """
    given = GIVEN if model.run[f.CONDITIONING] else UNKNOWN + 1
    rows = model.rules[rules + place * cells : rules + place * cells + cells]
    for cell in range(cells):
        at = first + model.offsets[window + cell]
        code, rule = sample.codes[at], rows[cell]
        hidden = sample.reveal[at] > (rule & 127) >> 1 if rule >= 128 else rule & 1
        codes[cell] = HIDDEN if hidden and code < given else code


@kernel(allocates=False)
def embed_window(level: np.ndarray, model: ModelArrays, codes: np.ndarray, token: np.ndarray) -> None:
    """Add to a token [D] the embedding of the codes in its window."""
    C, D, table = model.run[f.CHANNELS], level[f.WIDTH], model.run[f.CHANNEL_TABLE]
    for cell in range(level[f.WINDOW_CELLS]):
        code = codes[cell]
        for channel in range(C):
            share = model.weights[table + code * C + channel]
            if share != 0:
                add_row(share, model.weights, level[f.CELLS_WEIGHT] + (cell * C + channel) * D, token, D)


@kernel(allocates=False)
def make_token(
    level: np.ndarray, model: ModelArrays, sample: SampleArrays, child: int, p: int, t: int, state: int
) -> None:
    """Write the token of a child at pitch `p` and step `t` to `tokens`; the codes of its window stay in `window`."""
    D, weights, run = level[f.WIDTH], model.weights, model.run
    token = sample.tokens[level[f.ROWS] + child]
    for i in range(D):
        token[i] = weights[level[f.BIAS] + i]
    row = p // level[f.HEIGHT]
    add_row(ONE, weights, level[f.PITCH] + row * D, token, D)
    add_row(ONE, weights, level[f.BAR] + t % run[f.STEPS_PER_BAR] // level[f.BAR_UNIT] * D, token, D)
    add_row(ONE, weights, level[f.STATE] + state * D, token, D)
    if level[f.PARENT_WIDTH] == 0:
        add_row(ONE, weights, level[f.START] + min(t // level[f.STEPS], level[f.STARTS] - 1) * D, token, D)
    else:
        inherited = sample.inherited[level[f.ROWS] + child]
        for i in range(D):
            token[i] += inherited[i]
    if level[f.METRE] >= 0:
        add_row(ONE, weights, level[f.METRE] + sample.metres[t // run[f.COLUMN]] * D, token, D)
    first, place = p * run[f.STRIDE] + t + run[f.ORIGIN], position(level, run, p, t)
    codes, cells = sample.window[0], level[f.WINDOW_CELLS]
    read_window(model, sample, level[f.WINDOW], cells, level[f.WINDOW_RULES], first, place, codes)
    embed_window(level, model, codes, token)
    if run[f.HEARS]:
        _hear(level, model, sample.heard[t // run[f.COLUMN]], p, token)
    if level[f.PLAN] >= 0:
        _hear_plan(level, model, sample, p, t, token)
    if run[f.CANDIDATES] and p >= run[f.FORM_ROWS]:  # what the plan of the form decides is where to copy from
        _copy(level, model, sample, first, place, p, t, token)
    if level[f.POLYPHONY] >= 0:
        below = 0
        for pitch in range(p):
            below += sounds(sample.codes[pitch * run[f.STRIDE] + t + run[f.ORIGIN]])
        add_row(ONE, weights, level[f.POLYPHONY] + min(below, MOST_BELOW) * D, token, D)


@kernel(allocates=False)
def _hear(level: np.ndarray, model: ModelArrays, heard: np.ndarray, p: int, token: np.ndarray) -> None:
    """Add what pitch classes relative to a node's own say, as `pitch_class_features`; heard f32 [FEATURES]."""
    D = level[f.WIDTH]
    for feature in range(FEATURES):
        turned = feature if feature >= 24 else feature // 12 * 12 + (feature + p) % 12
        add_row(heard[turned], model.weights, level[f.PITCH_CLASSES] + feature * D, token, D)


@kernel(allocates=False)
def _hear_plan(level: np.ndarray, model: ModelArrays, sample: SampleArrays, p: int, t: int, token: np.ndarray) -> None:
    """Add what the plan says of the harmony, relative to a node's own pitch class, as `Context.harmony`."""
    run, D = model.run, level[f.WIDTH]
    column, inside = t // run[f.COLUMN], t % run[f.COLUMN]
    said = sample.said[2 * column if p < run[f.PLAN_ROWS] else 1 + 2 * column + (inside >= run[f.COLUMN] // 2)]
    now, then = _turned(said[0], p, CHORD_KINDS - 2), CHORD_KINDS + _turned(said[1], p, CHORD_KINDS - 2)
    add_row(ONE, model.weights, level[f.PLAN] + now * D, token, D)
    add_row(ONE, model.weights, level[f.PLAN] + then * D, token, D)
    add_row(ONE, model.weights, level[f.PLAN] + (PLAN_OF_KEY + _turned(said[2], p, 2 * PITCH_CLASSES)) * D, token, D)
    add_row(ONE, model.weights, level[f.PLAN] + (PLAN_OF_DENSITY + said[3]) * D, token, D)


@kernel(allocates=False)
def _turned(kind: int, p: int, turning: int) -> int:
    """A kind, of which 1 to `turning` stand for a root or tonic, with that relative to a pitch."""
    if kind < 1 or kind > turning:
        return kind
    return 1 + (kind - 1) // PITCH_CLASSES * PITCH_CLASSES + ((kind - 1) % PITCH_CLASSES - p) % PITCH_CLASSES


@kernel(allocates=False)
def _copy(
    level: np.ndarray,
    model: ModelArrays,
    sample: SampleArrays,
    first: int,
    place: int,
    p: int,
    t: int,
    token: np.ndarray,
) -> None:
    """Add what the candidates of a node's column show it, weighted by how well they fit, as `CopyAttention`."""
    run, weights, D, M = model.run, model.weights, level[f.WIDTH], level[f.COPY_CELLS]
    K, C, column, table = run[f.CANDIDATES], run[f.CHANNELS], t // run[f.COLUMN], run[f.CHANNEL_TABLE]
    own, scores = sample.window[1], sample.numbers
    below = (p // run[f.PATCH_HEIGHT] * run[f.COLUMNS] + column) * K
    read_window(model, sample, level[f.COPY_WINDOW], M, level[f.COPY_RULES], first, place, own)
    most = 0.0
    for k in range(K):
        shift = sample.shift[column, k]
        if shift != 0:
            _read_there(level, model, sample, first, t % run[f.COLUMN], shift, sample.there[k])
            scores[k] = _judge(level, model, sample, own, below + k, column * K + k, k)
            most = max(most, scores[k])
    total = np.exp(-most)  # leading nowhere has a score of zero
    for k in range(K):
        if sample.shift[column, k] != 0:
            total += np.exp(scores[k] - most)
    shown = sample.vector
    for i in range(M * C):
        shown[i] = 0
    for k in range(K):
        if sample.shift[column, k] == 0:
            continue
        weight = np.float32(np.exp(scores[k] - most) / total)
        add_row(weight, weights, level[f.COPIED_TRAITS] + k * D, token, D)
        there, centre = sample.there[k], False
        for m in range(M):
            code = there[m]
            offset = level[f.COPY_WINDOW] + M + m
            centre |= sounds(code) and model.offsets[offset] & 1 != 0
            if code != HIDDEN:
                for channel in range(C):
                    shown[m * C + channel] += weight * weights[table + code * C + channel]
        if centre:
            add_row(ONE, weights, level[f.COPIED_TRAITS] + (K + k) * D, token, D)
            add_row(FOUR * weight, weights, level[f.COPIED_TRAITS] + (K + K + k) * D, token, D)
    for i in range(M * C):
        if shown[i] != 0:
            add_row(shown[i], weights, level[f.COPIED_CELLS] + i * D, token, D)


@kernel(allocates=False)
def _read_there(
    level: np.ndarray, model: ModelArrays, sample: SampleArrays, first: int, inside: int, shift: int, codes: np.ndarray
) -> None:
    """Write codes u8 [M] around a candidate's place, of a node that stands `inside` its column; UNKNOWN what level 0
    does not know of this column."""
    given = GIVEN if model.run[f.CONDITIONING] else UNKNOWN + 1
    for m in range(level[f.COPY_CELLS]):
        at = first + shift + model.offsets[level[f.COPY_WINDOW] + m]
        later = model.offsets[level[f.COPY_WINDOW] + level[f.COPY_CELLS] + m] >> 1
        code = sample.codes[at]
        hidden = later >= -inside - shift if model.run[f.COLUMNS_IN_ORDER] else sample.reveal[at] != 0
        codes[m] = HIDDEN if hidden and code < given else code


@kernel(fastmath=REORDERED, allocates=False)
def _judge(
    level: np.ndarray, model: ModelArrays, sample: SampleArrays, own: np.ndarray, below: int, traits: int, k: int
) -> np.float32:
    """The score of a candidate: its traits, and how many cells sound in both windows, here alone, and there alone."""
    there, weights, at = sample.there[k], model.weights, level[f.JUDGE]
    both = here_only = there_only = 0
    for m in range(level[f.COPY_CELLS]):
        if own[m] != HIDDEN and there[m] != HIDDEN:
            here, far = sounds(own[m]), sounds(there[m])
            both += here and far
            here_only += here and not far
            there_only += far and not here
    inputs = sample.normed[0]
    T = TRAITS + PLANNED if model.run[f.PLAN_ROWS] else TRAITS
    for i in range(T):
        inputs[i] = sample.traits[traits, i]
    _count(inputs, T, both, here_only, there_only)
    agreed = sample.below[below]
    _count(inputs, T + 3, agreed[0], agreed[1], agreed[2])
    end = linear(sample.normed, 1, T + COUNTS, weights, at, JUDGED, sample.mixed)
    score = weights[end + JUDGED]
    for i in range(JUDGED):
        unit = sample.mixed[0, i]
        score += weights[end + i] * unit / (ONE + exponential(-unit))
    return score


@kernel(allocates=False)
def _count(inputs: np.ndarray, at: int, both: int, here_only: int, there_only: int) -> None:
    inputs[at] = np.log1p(np.float64(both)) / 2
    inputs[at + 1] = np.log1p(np.float64(here_only)) / 2
    inputs[at + 2] = np.log1p(np.float64(there_only)) / 2
