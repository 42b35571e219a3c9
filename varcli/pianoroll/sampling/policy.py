"""Who decides: a sampler that draws from the model, or a scorer that follows a given canvas and keeps the price.

Both get the same logits in the same order, so that what is sampled is what is scored.
"""

from typing import Protocol

import numpy as np

from varcli.pianoroll.config import PerLevel, at_levels
from varcli.pianoroll.model.tree import Tree


class DecisionPolicy(Protocol):
    """Decides the children of a node and the values of cells, from logits of the model.

    `needs_all_siblings` says whether `first` needs the logits of all children that are left where one is occupied.
    """

    needs_all_siblings: bool

    def order(self, level: int, p: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Random order of nodes [n] of a masked level, as indices."""
        ...

    def first(self, level: int, p: np.ndarray, t: np.ndarray, logits: np.ndarray, forced: bool) -> int | None:
        """Index of the first occupied node; with `forced` the last is occupied if no other is."""
        ...

    def each(self, level: int, p: np.ndarray, t: np.ndarray, logits: np.ndarray, forced: bool) -> np.ndarray:
        """Whether each of several nodes is occupied, bool [n]; with `forced` at least one is."""
        ...

    def value(self, p: int, t: int, logits: np.ndarray) -> int:
        """Code of an occupied cell, from logits [V - 1] of codes 1, 2, ..."""
        ...


class Sampler:
    """Draws every decision by inversion from uniform numbers that belong to its place on the canvas.

    So a sample depends on its own seed alone, not on the order in which a batch is worked through.
    Temperature divides the logits; `top_p` keeps the likeliest outcomes of each decision up to that probability. Both
    are one number, or one per level from coarse to fine, a cell's value last.
    """

    def __init__(self, tree: Tree, steps: int, seed: tuple[int, int], temperature: PerLevel, top_p: PerLevel) -> None:
        rng = np.random.default_rng(list(seed))
        width = tree.columns(steps) * tree.shapes[0][1]
        sizes = [(tree.pitches // h, width // w) for h, w in tree.shapes]
        self._uniform = [rng.random(size) for size in sizes]
        self._priority = [rng.random(size) for size in sizes]
        self._values = rng.random((tree.pitches, width))
        self._shapes = tree.shapes
        levels = len(tree.shapes) + 1
        self._temperature, self._top_p = at_levels(temperature, levels), at_levels(top_p, levels)
        self.needs_all_siblings = min(self._top_p[: len(tree.shapes)]) < 1

    def order(self, level: int, p: np.ndarray, t: np.ndarray) -> np.ndarray:
        h, w = self._shapes[level]
        return np.argsort(self._priority[level][p // h, t // w], kind="stable")

    def _draws(self, level: int, p: np.ndarray, t: np.ndarray) -> np.ndarray:
        h, w = self._shapes[level]
        return self._uniform[level][p // h, t // w]

    def _tempered(self, level: int, logits: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-np.clip(logits.astype(np.float64) / self._temperature[level], -500, 500)))

    def _probability(self, level: int, logits: np.ndarray) -> np.ndarray:
        occupied, top_p = self._tempered(level, logits), self._top_p[level]
        if top_p < 1:
            occupied = np.where(occupied >= top_p, 1.0, np.where(1 - occupied >= top_p, 0.0, occupied))
        return occupied

    def first(self, level: int, p: np.ndarray, t: np.ndarray, logits: np.ndarray, forced: bool) -> int | None:
        draws, top_p = self._draws(level, p, t), self._top_p[level]
        if forced and top_p < 1:
            # Where one child must be occupied, the nucleus is over which comes first: child by child it would
            # rule each of them out until the last.
            empty = np.cumprod(1 - self._tempered(level, logits))
            mass = -np.diff(np.concatenate([[1.0], empty[:-1], [0.0]]))
            return _draw(_nucleus(mass, top_p), float(draws[0]))
        hits = np.flatnonzero(draws < self._probability(level, logits))
        return int(hits[0]) if len(hits) else len(p) - 1 if forced else None

    def each(self, level: int, p: np.ndarray, t: np.ndarray, logits: np.ndarray, forced: bool) -> np.ndarray:
        draws, top_p = self._draws(level, p, t), self._top_p[level]
        if not forced:
            return draws < self._probability(level, logits)
        probability = self._tempered(level, logits)
        if top_p < 1:
            # One child is drawn by its odds of being the only one, in whatever order they come; the others as ever.
            odds = probability / np.maximum(1 - probability, 1e-300)
            chosen = draws < self._probability(level, logits)
            chosen[_draw(_nucleus(odds / odds.sum(), top_p), float(draws[0]))] = True
            return chosen
        chosen = np.zeros(len(p), bool)
        for i in range(len(p)):
            chosen[i] = draws[i] < (probability[i] if chosen.any() else at_least_one(probability[i:]))
        return chosen

    def value(self, p: int, t: int, logits: np.ndarray) -> int:
        z = logits.astype(np.float64) / self._temperature[-1]
        mass = np.exp(z - z.max())
        mass /= mass.sum()
        if self._top_p[-1] < 1:
            mass = _nucleus(mass, self._top_p[-1])
        return 1 + _draw(mass, float(self._values[p, t]))


def _nucleus(mass: np.ndarray, top_p: float) -> np.ndarray:
    """Probabilities [n] of the likeliest outcomes that together reach `top_p`, the others zero."""
    rank = np.argsort(-mass, kind="stable")
    kept = mass.copy()
    kept[rank[np.cumsum(mass[rank]) - mass[rank] >= top_p]] = 0
    return kept / kept.sum()


def _draw(mass: np.ndarray, uniform: float) -> int:
    """Outcome of probabilities [n] at a uniform number in [0, 1)."""
    return min(int(np.searchsorted(np.cumsum(mass), uniform, side="right")), len(mass) - 1)


class Scorer:
    """Follows a canvas of codes u8 [P, T] and adds up what its decisions cost, in `nats`."""

    def __init__(self, tree: Tree, codes: np.ndarray, seed: int = 0) -> None:
        self.nats, self.needs_all_siblings = 0.0, False
        self._codes, self._shapes = codes, tree.shapes
        self._rng_seed = seed

    def order(self, level: int, p: np.ndarray, t: np.ndarray) -> np.ndarray:
        return np.random.default_rng([self._rng_seed, level, int(p[0]), int(t[0])]).permutation(len(p))

    def _occupied(self, level: int, p: np.ndarray, t: np.ndarray) -> np.ndarray:
        h, w = self._shapes[level]
        return np.array([self._codes[i : i + h, j : j + w].any() for i, j in zip(p, t, strict=True)])

    def spend(self, level: int, p: int, t: int, nats: float) -> None:
        """Take note of what a decision at a node costs."""
        self.nats += nats

    def _pay(self, level: int, p: int, t: int, occupied: bool, probability: float) -> None:
        with np.errstate(divide="ignore"):
            self.spend(level, int(p), int(t), -float(np.log(probability if occupied else 1 - probability)))

    def first(self, level: int, p: np.ndarray, t: np.ndarray, logits: np.ndarray, forced: bool) -> int | None:
        for i, occupied in enumerate(self._occupied(level, p, t)):
            if not (forced and i == len(p) - 1):
                self._pay(level, p[i], t[i], occupied, float(1 / (1 + np.exp(-np.float64(logits[i])))))
            if occupied:
                return i
        return None

    def each(self, level: int, p: np.ndarray, t: np.ndarray, logits: np.ndarray, forced: bool) -> np.ndarray:
        truth = self._occupied(level, p, t)
        probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
        for i, occupied in enumerate(truth):
            open_yet = forced and not truth[:i].any()
            chance = at_least_one(probability[i:]) if open_yet else float(probability[i])
            self._pay(level, p[i], t[i], occupied, chance)
        return truth

    def value(self, p: int, t: int, logits: np.ndarray) -> int:
        z = logits.astype(np.float64)
        code = int(self._codes[p, t])
        self.spend(len(self._shapes), p, t, float(np.log(np.exp(z - z.max()).sum()) + z.max() - z[code - 1]))
        return code


def at_least_one(probability: np.ndarray) -> float:
    """Probability that the first of independent events happens, given that at least one of them does.

    Exactly 1 for a single event, whatever its own probability: an occupied parent has an occupied child.
    """
    if len(probability) == 1:
        return 1.0
    some = -np.expm1(np.log1p(-np.minimum(probability.astype(np.float64), 1 - 1e-15)).sum())
    return float(probability[0] / some) if some > 0 else 1.0 / len(probability)
