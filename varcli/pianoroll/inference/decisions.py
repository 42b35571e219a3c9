"""Decisions, compiled: which children sound, and what a cell holds; drawn, or as a given canvas has it, for a price.

Every draw is by inversion from the uniform number that belongs to its place on the canvas. Temperature divides the
logits; top-p keeps the likeliest outcomes of each decision up to that probability.

Shapes: n children.
"""

import numpy as np

from varcli.compiled import kernel
from varcli.pianoroll.inference import fields as f
from varcli.pianoroll.inference.fields import ModelArrays, SampleArrays
from varcli.pianoroll.inference.nodes import grid, log, place

SURE = 1 - 1e-15


@kernel(allocates=False)
def _pay(sample: SampleArrays, number: int, p: int, t: int, probability: float) -> None:
    """Tell what a decision costs."""
    row = sample.log[sample.position[f.LOGGED]]
    log(sample, f.PRICED, number, p, t)
    row[4] = -np.log(probability)


@kernel(allocates=False)
def _probability(model: ModelArrays, number: int, logit: float, sharpened: bool) -> float:
    """Probability that a node sounds, at the level's temperature; with its top-p if `sharpened`."""
    z = min(max(logit / model.sharp[number, 0], -500.0), 500.0)
    occupied, top_p = 1 / (1 + np.exp(-z)), model.sharp[number, 1]
    if sharpened and top_p < 1:
        return 1.0 if occupied >= top_p else 0.0 if 1 - occupied >= top_p else occupied
    return occupied


@kernel(allocates=False)
def _is_occupied(level: np.ndarray, sample: SampleArrays, p: int, t: int) -> bool:
    """Whether a node of the canvas that is followed holds anything."""
    for row in range(p, p + level[f.HEIGHT]):
        for step in range(t, min(t + level[f.STEPS], sample.truth.shape[1])):
            if sample.truth[row, step]:
                return True
    return False


@kernel(allocates=False)
def decide(
    number: int, level: np.ndarray, model: ModelArrays, sample: SampleArrays, p: int, t: int, logit: float, forced: bool
) -> bool:
    """Whether a child sounds; it does if `forced`, which costs nothing."""
    if model.run[f.FOLLOWS]:
        occupied = _is_occupied(level, sample, p, t)
        if not forced:
            chance = 1 / (1 + np.exp(-logit))
            _pay(sample, number, p, t, chance if occupied else 1 - chance)
        return occupied
    return forced or sample.draws[grid(level, model, p, t)] < _probability(model, number, logit, True)


@kernel(allocates=False)
def draw(mass: np.ndarray, n: int, top_p: float, uniform: float) -> int:
    """Outcome at a uniform number, of those likeliest ones of `mass` [n], which adds up to one, that reach `top_p`.

    Of equally likely ones the first comes first. What is ruled out becomes zero.
    """
    kept = 1.0
    if top_p < 1:
        reached = kept = 0.0
        # From the likeliest on: each is marked by a sign, until enough is reached.
        while reached < top_p:
            best = -1
            for i in range(n):
                if mass[i] >= 0 and (best < 0 or mass[i] > mass[best]):
                    best = i
            if best < 0:
                break
            reached += mass[best]
            mass[best] = -mass[best] - 1
        for i in range(n):
            mass[i] = -mass[i] - 1 if mass[i] < 0 else 0.0
            kept += mass[i]
    total, last = 0.0, 0
    for i in range(n):
        total += mass[i] / kept
        if uniform < total:
            return i
        last = i
    return last


@kernel(allocates=False)
def decide_first(
    number: int, level: np.ndarray, model: ModelArrays, sample: SampleArrays, n: int, p: int, t: int
) -> int:
    """Which of n children is the first to sound, by `numbers` [n], their logits; p and t are those of the first child.

    Where one child must be occupied, the nucleus is over which comes first: child by child it would rule each of them
    out until the last.
    """
    mass, silent = sample.numbers, 1.0
    for i in range(n):
        occupied = _probability(model, number, mass[i], False)
        mass[i] = silent - (silent * (1 - occupied) if i + 1 < n else 0.0)
        silent *= 1 - occupied
    return draw(mass, n, model.sharp[number, 1], sample.draws[grid(level, model, p, t)])


@kernel(allocates=False)
def at_least_one(probability: np.ndarray, first: int, n: int) -> float:
    """Probability that the first of independent events `first` to n happens, given that at least one of them does."""
    if first + 1 == n:
        return 1.0
    none = 0.0
    for i in range(first, n):
        none += np.log1p(-min(probability[i], SURE))
    some = -np.expm1(none)
    return probability[first] / some if some > 0 else 1.0 / (n - first)


@kernel(allocates=False)
def decide_each(
    number: int, level: np.ndarray, model: ModelArrays, sample: SampleArrays, chosen: np.ndarray, n: int, forced: bool
) -> bool:
    """Decide the first n children in `chosen`, by `logits`, into `lists`; with `forced` at least one of them sounds.
    Returns whether any does."""
    probability, outcome, rows = sample.numbers, sample.lists[f.OUTCOME], level[f.ROWS]
    frame, any_occupied, follows = sample.frames[number], False, model.run[f.FOLLOWS] != 0
    for i in range(n):
        probability[i] = _probability(model, number, sample.logits[rows + chosen[i]], not (follows or forced))
    for i in range(n):
        p, t = place(level, model, frame, chosen[i])
        chance = at_least_one(probability, i, n) if forced and not any_occupied else probability[i]
        if follows:
            occupied = _is_occupied(level, sample, p, t)
            _pay(sample, number, p, t, chance if occupied else 1 - chance)
        elif forced and model.sharp[number, 1] < 1:
            logit = sample.logits[rows + chosen[i]]
            occupied = sample.draws[grid(level, model, p, t)] < _probability(model, number, logit, True)
        else:
            occupied = sample.draws[grid(level, model, p, t)] < chance
        outcome[rows + chosen[i]] = occupied
        any_occupied = any_occupied or occupied
    if forced and not follows and model.sharp[number, 1] < 1:
        # One child is drawn by its odds of being the only one, in whatever order they come; the others as ever.
        total = 0.0
        for i in range(n):
            probability[i] /= max(1 - probability[i], 1e-300)
            total += probability[i]
        for i in range(n):
            probability[i] /= total
        p, t = place(level, model, frame, chosen[0])
        drawn = draw(probability, n, model.sharp[number, 1], sample.draws[grid(level, model, p, t)])
        outcome[rows + chosen[drawn]] = any_occupied = True
    return any_occupied


@kernel(allocates=False)
def decide_value(number: int, model: ModelArrays, sample: SampleArrays, p: int, t: int, n: int) -> int:
    """The code of an occupied cell, by `numbers` [n], the logits of codes 1, 2, ..."""
    z, most, total = sample.numbers, -np.inf, 0.0
    for i in range(n):
        z[i] /= model.sharp[number, 0]
        most = max(most, z[i])
    for i in range(n):
        z[i] = np.exp(z[i] - most)
        total += z[i]
    if model.run[f.FOLLOWS]:
        code = sample.truth[p, t]
        _pay(sample, number, p, t, z[code - 1] / total)
        return int(code)
    for i in range(n):
        z[i] /= total
    width = model.run[f.COLUMNS] * model.run[f.COLUMN]
    at = 2 * model.run[f.GRID_NODES] + p * width + t
    return 1 + draw(z, n, model.sharp[number, 1], sample.draws[at])
