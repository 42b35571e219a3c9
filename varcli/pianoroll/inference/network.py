"""The networks of levels, compiled: linear maps, norms, transformer blocks with kept keys and values, perceptrons.

Weights stand flat, as PyTorch has them: a row of inputs for each output, and the biases after them. A row is read once
for all nodes that run together.

Shapes: m nodes that run together, K inputs, N outputs, D width, H heads.
"""

import numpy as np

from varcli.compiled import REORDERED, kernel
from varcli.pianoroll.constants import OWN_SHARE
from varcli.pianoroll.inference import fields as f
from varcli.pianoroll.inference.fields import ModelArrays, SampleArrays

EPSILON = np.float32(1e-5)
ONE, TWO, HALF = np.float32(1), np.float32(2), np.float32(0.5)
GELU_SCALE, GELU_CUBE = np.float32(2 * (2 / np.pi) ** 0.5), np.float32(0.044715)
LOG2_E, LN2_HIGH, LN2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
EXP_0, EXP_1, EXP_2, EXP_3, EXP_4 = map(
    np.float32, (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1)
)
LOWEST, HIGHEST = np.float32(-87), np.float32(88)
EXPONENT, BIAS = np.int32(23), np.int32(127)


@kernel(fastmath=REORDERED, allocates=False)
def exponential(x: np.float32) -> np.float32:
    """exp(x) to the last digit or two, by the polynomial of Cephes' expf: a loop of it becomes vector instructions."""
    x = min(max(x, LOWEST), HIGHEST)
    n = np.floor(x * LOG2_E + HALF)
    r = x - n * LN2_HIGH - n * LN2_LOW
    y = ((((EXP_0 * r + EXP_1) * r + EXP_2) * r + EXP_3) * r + EXP_4) * r + HALF
    return (y * r * r + r + ONE) * np.int32(np.int32(np.int32(n) + BIAS) << EXPONENT).view(np.float32)


@kernel(fastmath=REORDERED, allocates=False)
def linear(x: np.ndarray, m: int, K: int, weights: np.ndarray, at: int, N: int, out: np.ndarray) -> int:
    """Write to out [m, N] the linear map of x [m, K] whose weights begin `at`; returns where they end."""
    for n in range(N):
        row = weights[at + n * K : at + n * K + K]
        bias = weights[at + N * K + n]
        for i in range(m):
            total = np.float32(0)
            for k in range(K):
                total += x[i, k] * row[k]
            out[i, n] = total + bias
    return at + N * K + N


@kernel(fastmath=REORDERED, allocates=False)
def normalise(x: np.ndarray, first: int, m: int, D: int, weights: np.ndarray, at: int, out: np.ndarray) -> int:
    """Write to out [m, D] the layer norm of rows of x [R, D] from `first` on; returns where its weights end."""
    scale, shift = weights[at : at + D], weights[at + D : at + D + D]
    for i in range(m):
        row, to = x[first + i], out[i]
        mean = np.float32(0)
        for k in range(D):
            mean += row[k]
        mean /= np.float32(D)
        square = np.float32(0)
        for k in range(D):
            square += (row[k] - mean) * (row[k] - mean)
        factor = ONE / np.sqrt(square / np.float32(D) + EPSILON)
        for k in range(D):
            to[k] = (row[k] - mean) * factor * scale[k] + shift[k]
    return at + D + D


@kernel(fastmath=REORDERED, allocates=False)
def add(x: np.ndarray, first: int, y: np.ndarray, m: int, D: int) -> None:
    """Add y [m, D] to rows of x [R, D] from `first` on."""
    for i in range(m):
        row, more = x[first + i], y[i]
        for k in range(D):
            row[k] += more[k]


@kernel(fastmath=REORDERED, allocates=False)
def gelu(x: np.ndarray, m: int, N: int) -> None:
    """Replace x [m, N] by its GELU, as tanh approximates it."""
    for i in range(m):
        row = x[i]
        for k in range(N):
            y = row[k]
            row[k] = y / (ONE + exponential(-GELU_SCALE * (y + GELU_CUBE * y * y * y)))


@kernel(fastmath=REORDERED, allocates=False)
def silu(x: np.ndarray, first: int, m: int, N: int) -> None:
    """Replace rows of x [R, N] from `first` on by their SiLU."""
    for i in range(m):
        row = x[first + i]
        for k in range(N):
            row[k] = row[k] / (ONE + exponential(-row[k]))


@kernel(fastmath=REORDERED, allocates=False)
def turn(row: np.ndarray, begin: int, level: np.ndarray, weights: np.ndarray, column: int) -> None:
    """Turn queries or keys of a node, from `begin` on, by the column it stands in (rotary, half-split)."""
    F = level[f.WIDTH] // level[f.HEADS]
    half = F // 2
    table = level[f.ROTARY] + column * F
    for head in range(level[f.HEADS]):
        at = begin + head * F
        for k in range(half):
            cos, sin = weights[table + k], weights[table + half + k]
            left, right = row[at + k], row[at + half + k]
            row[at + k] = left * cos - right * sin
            row[at + half + k] = right * cos + left * sin


@kernel(fastmath=REORDERED, allocates=False)
def attend(level: np.ndarray, model: ModelArrays, sample: SampleArrays, block: int, first: int, m: int) -> None:
    """Write to `mixed` [m, D] what nodes from `first` on, whose queries stand in `wide`, take from keys and values.

    They look at all before them and themselves, or at all siblings; on level 0, as far as the context reaches.
    """
    D, H, n = level[f.WIDTH], level[f.HEADS], level[f.SIBLINGS]
    F = D // H
    scale = ONE / np.sqrt(np.float32(F))
    keys, scores = level[f.KEYS] + block * n, sample.vector
    is_top, rows = level[f.PARENT_WIDTH] == 0, model.offsets
    for i in range(m):
        query, out = sample.wide[i], sample.mixed[i]
        own = first + i
        stop = own + 1 if level[f.CAUSAL] else n
        column = rows[level[f.CHILDREN] + 2 * own + 1] // level[f.STEPS]
        for head in range(H):
            at = head * F
            most = np.float32(-1e30)
            for j in range(stop):
                far = is_top * abs(rows[level[f.CHILDREN] + 2 * j + 1] // level[f.STEPS] - column)
                key, score = sample.keys[keys + j], np.float32(0)
                for k in range(F):
                    score += query[at + k] * key[at + k]
                scores[j] = np.float32(-1e30) if far >= model.run[f.CONTEXT_COLUMNS] else score * scale
                most = max(most, scores[j])
            total = np.float32(0)
            for k in range(F):
                out[at + k] = np.float32(0)
            for j in range(stop):
                weight, value = exponential(scores[j] - most), sample.keys[keys + j]
                if scores[j] <= np.float32(-1e29):
                    continue
                total += weight
                for k in range(F):
                    out[at + k] += weight * value[D + at + k]
            for k in range(F):
                out[at + k] /= total


@kernel(fastmath=REORDERED, allocates=False)
def run_transformer(level: np.ndarray, model: ModelArrays, sample: SampleArrays, first: int, m: int) -> None:
    """Run the tokens of m siblings from `first` on through the blocks, to `hidden`; keys and values are kept."""
    D, n, weights = level[f.WIDTH], level[f.SIBLINGS], model.weights
    x, row, at = sample.hidden, level[f.ROWS] + first, level[f.NETWORK]
    for i in range(m):
        for k in range(D):
            x[row + i, k] = sample.tokens[row + i, k]
    for block in range(level[f.BLOCKS]):
        at = normalise(x, row, m, D, weights, at, sample.normed)
        at = linear(sample.normed, m, D, weights, at, 3 * D, sample.wide)
        for i in range(m):
            if level[f.PARENT_WIDTH] == 0:
                column = model.offsets[level[f.CHILDREN] + 2 * (first + i) + 1] // level[f.STEPS]
                for begin in range(0, D + D, D):
                    turn(sample.wide[i], begin, level, weights, column)
            kept = sample.keys[level[f.KEYS] + block * n + first + i]
            for k in range(D + D):
                kept[k] = sample.wide[i, D + k]
        attend(level, model, sample, block, first, m)
        at = linear(sample.mixed, m, D, weights, at, D, sample.normed)
        add(x, row, sample.normed, m, D)
        at = normalise(x, row, m, D, weights, at, sample.normed)
        at = linear(sample.normed, m, D, weights, at, 4 * D, sample.wide)
        gelu(sample.wide, m, 4 * D)
        at = linear(sample.wide, m, 4 * D, weights, at, D, sample.normed)
        add(x, row, sample.normed, m, D)
    _finish(x, row, m, D, weights, at, sample.normed)


@kernel(fastmath=REORDERED, allocates=False)
def run_perceptron(level: np.ndarray, model: ModelArrays, sample: SampleArrays, first: int, m: int) -> None:
    """Run the tokens of m siblings from `first` on through the blocks, to `hidden`."""
    D, weights = level[f.WIDTH], model.weights
    x, row = sample.hidden, level[f.ROWS] + first
    at = normalise(sample.tokens, row, m, D, weights, level[f.NETWORK], sample.normed)
    silu(sample.normed, 0, m, D)
    for i in range(m):
        for k in range(D):
            x[row + i, k] = sample.normed[i, k]
    for _ in range(level[f.BLOCKS]):
        at = normalise(x, row, m, D, weights, at, sample.normed)
        at = linear(sample.normed, m, D, weights, at, D, sample.wide)
        silu(sample.wide, 0, m, D)
        at = linear(sample.wide, m, D, weights, at, D, sample.normed)
        add(x, row, sample.normed, m, D)
    _finish(x, row, m, D, weights, at, sample.normed)


@kernel(fastmath=REORDERED, allocates=False)
def _finish(x: np.ndarray, row: int, m: int, D: int, weights: np.ndarray, at: int, room: np.ndarray) -> None:
    """The last norm, in place."""
    normalise(x, row, m, D, weights, at, room)
    for i in range(m):
        for k in range(D):
            x[row + i, k] = room[i, k]


@kernel(fastmath=REORDERED, allocates=False)
def add_row(factor: np.float32, weights: np.ndarray, at: int, out: np.ndarray, D: int) -> None:
    """Add to out [D] a row of weights, times a factor."""
    row = weights[at : at + D]
    for i in range(D):
        out[i] += factor * row[i]


@kernel(allocates=False)
def inherit(level: np.ndarray, model: ModelArrays, sample: SampleArrays, parent: int) -> None:
    """Write what each sibling takes from its parent, whose vector is row `parent` of `hidden`, to `inherited`."""
    D, n, weights, rows = level[f.WIDTH], level[f.SIBLINGS], model.weights, level[f.ROWS]
    vector = sample.hidden[parent : parent + 1]
    linear(vector, 1, level[f.PARENT_WIDTH], weights, level[f.INHERIT], D, sample.normed)
    width = n * OWN_SHARE
    linear(vector, 1, level[f.PARENT_WIDTH], weights, level[f.SHARE], width, sample.wide)
    for child in range(n):
        to = sample.inherited[rows + child]
        for i in range(D):
            to[i] = sample.normed[0, i] + weights[level[f.PLACE] + child * D + i]
        for k in range(OWN_SHARE):
            add_row(sample.wide[0, child * OWN_SHARE + k], weights, level[f.SPREAD] + k * D, to, D)


@kernel(allocates=False)
def run_network(
    number: int, model: ModelArrays, sample: SampleArrays, first: int, m: int, _third: int, _fourth: int
) -> int:
    """Run the tokens of m siblings of a level from `first` on; a piece, see `pieces.call`."""
    level = model.levels[number]
    if level[f.ATTENDS]:
        run_transformer(level, model, sample, first, m)
    else:
        run_perceptron(level, model, sample, first, m)
    return m
