"""What decides a sample: uniform numbers of its own, or a canvas that it follows for what that costs."""

from dataclasses import dataclass

import numpy as np

from varcli.pianoroll.model.tree import Tree


@dataclass(frozen=True)
class Policy:
    """How one sample is decided. `draws` f64 belong to the places on its canvas: a uniform number for each node of each
    level, then their priorities in random orders, then uniform numbers for the values of cells.

    So a sample depends on its own seed alone, not on what else is written. With `truth` u8 [P, T] every decision is as
    that canvas has it.
    """

    draws: np.ndarray
    truth: np.ndarray | None = None

    @classmethod
    def drawn(cls, tree: Tree, steps: int, seed: tuple[int, ...]) -> "Policy":
        """A policy that draws from the model."""
        width = tree.columns(steps) * tree.shapes[0][1]
        nodes = sum(tree.pitches // h * (width // w) for h, w in tree.shapes)
        return cls(np.random.default_rng(list(seed)).random(2 * nodes + tree.pitches * width))

    @classmethod
    def following(cls, tree: Tree, truth: np.ndarray, seed: int | None = 0) -> "Policy":
        """A policy that follows a canvas; masked children come in a random order of a seed, or in scan order (None)."""
        drawn = cls.drawn(tree, truth.shape[1], (seed or 0,)).draws
        return cls(drawn * (seed is not None), truth)
