"""The tree over a canvas: how levels divide it, in which order, and which cells a node's window shows.

A level's children tile their parent; level 0 tiles the canvas. Pure numpy geometry, no model.
Shapes: P pitches, T steps, n children of one parent, W cells of a window.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from varcli.pianoroll.config import LevelConfig, ModelConfig, parse_shape

LAG_REACH = 2
"""Cells around a child, in pitch (and one in time), that a window at a lag shows."""
PLANE_REACH, PLANE_STEPS = 8, 2
"""Cells around a child, in pitch and time, that a window shows of the other planes."""


@dataclass(frozen=True)
class CellWindow:
    """Cells of a node's window, as offsets from its first cell, and when they are known.

    offsets [W, 2]: (pitch, step). precedes [positions, W]: the cell is generated before the node, in scan order.
    differs [positions, W]: first level at which the paths of cell and node part; its own if it holds the cell.
    `positions` counts the node's places inside a patch of level 0.
    """

    offsets: np.ndarray
    precedes: np.ndarray
    differs: np.ndarray


def rectangle(pitches: range, steps: range) -> np.ndarray:
    """Places (pitch, step) [n, 2], pitch by pitch."""
    return np.stack(np.meshgrid(pitches, steps, indexing="ij"), -1).reshape(-1, 2)


@dataclass(frozen=True)
class Tree:
    """Levels of shapes [(pitches, steps)], coarse to fine, over `pitches` rows, scanned in one order throughout.

    Rows may be those of planes, one above the other, of `plane_rows` each above the first `plan_rows`, see `planes`.
    """

    shapes: tuple[tuple[int, int], ...]
    pitches: int
    scan_order: str
    plane_rows: int | None = None
    plan_rows: int = 0

    @classmethod
    def of(cls, config: ModelConfig) -> "Tree":
        """The tree that a model's config describes."""
        shapes = tuple(parse_shape(level.shape) for level in config.levels if level.shape)
        return cls(shapes, config.rows, config.scan_order, config.plane_rows, config.plan_rows)

    @property
    def depth(self) -> int:
        """Number of levels with a shape."""
        return len(self.shapes)

    def columns(self, steps: int) -> int:
        """Patches of level 0 side by side in `steps` steps; the last may reach beyond them."""
        return -(-steps // self.shapes[0][1])

    def top(self, steps: int) -> np.ndarray:
        """Origins (pitch, step) [n, 2] of the patches of level 0 over `steps` steps, in scan order."""
        return self._grid((self.pitches, self.columns(steps) * self.shapes[0][1]), self.shapes[0])

    @cached_property
    def children(self) -> tuple[np.ndarray, ...]:
        """For every level but the first: offsets (pitch, step) [n, 2] of the children of one parent, in scan order."""
        pairs = zip(self.shapes, self.shapes[1:], strict=False)
        return (np.zeros((0, 2), np.int64), *(self._grid(parent, child) for parent, child in pairs))

    def _grid(self, area: tuple[int, int], child: tuple[int, int]) -> np.ndarray:
        p, t = np.meshgrid(np.arange(0, area[0], child[0]), np.arange(0, area[1], child[1]), indexing="ij")
        if self.scan_order == "column_major":
            p, t = p.T, t.T
        return np.stack([p.ravel(), t.ravel()], 1).astype(np.int64)

    def positions(self, level: int) -> int:
        """Places that a node of `level` can have inside a patch of level 0."""
        (h0, w0), (h, w) = self.shapes[0], self.shapes[min(level, self.depth - 1)]
        return (h0 // h) * (w0 // w)

    def position(self, level: int, p, t):
        """Index of those places for nodes at pitch `p`, step `t` (numbers or arrays)."""
        (h0, w0), (h, w) = self.shapes[0], self.shapes[min(level, self.depth - 1)]
        return (p % h0) // h * (w0 // w) + (t % w0) // w

    def window(self, level: int, config: LevelConfig) -> CellWindow:
        """The window of nodes of `level` (the last level, a cell's value, has its node at the cell itself)."""
        h, w = self.shapes[min(level, self.depth - 1)]
        around = config.pitches_around
        parts = [rectangle(range(-around, h + around), range(-config.steps_before, w + config.steps_after))]
        lags = [sign * lag for lag in config.lags for sign in ((-1,) if config.is_causal else (-1, 1))]
        parts += [rectangle(range(-LAG_REACH, h + LAG_REACH), range(lag - 1, lag + w + 1)) for lag in lags]
        reach = min(around, LAG_REACH if level == 0 else PLANE_REACH)
        after = min(PLANE_STEPS, config.steps_after)
        parts += [
            rectangle(range(away - reach, away + h + reach), range(-PLANE_STEPS, w + after))
            for away in self.planes_away
        ]
        return self.window_weights(level, np.unique(np.concatenate(parts), axis=0))

    @property
    def planes_away(self) -> list[int]:
        """How many rows away the same pitch lies in other planes."""
        if self.plane_rows is None:
            return []
        planes = (self.pitches - self.plan_rows) // self.plane_rows
        return [away * self.plane_rows for away in range(1 - planes, planes) if away]

    def window_weights(self, level: int, offsets: np.ndarray) -> CellWindow:
        """When cells at `offsets` [W, 2] from nodes of `level` are known."""
        h, w = self.shapes[min(level, self.depth - 1)]
        w0, n = self.shapes[0][1], self.positions(level)
        index = np.arange(n)
        node_p, node_t = index // (w0 // w) * h, index % (w0 // w) * w
        precedes, differs = self._compare(
            level, node_p[:, None], node_t[:, None], offsets[None, :, 0], offsets[None, :, 1]
        )
        return CellWindow(offsets, precedes, differs)

    def _compare(self, level: int, node_p, node_t, dp, dt) -> tuple[np.ndarray, np.ndarray]:
        """Whether cells at (node + offset) come before nodes of `level`, and at which level their paths part."""
        # An origin far inside the grid keeps every quotient positive.
        far_p, far_t = self.shapes[0][0] * 64, self.shapes[0][1] * 100_000
        cell_p, cell_t = node_p + dp + far_p, node_t + dt + far_t
        node_p, node_t = node_p + far_p + 0 * dp, node_t + far_t + 0 * dt
        same = np.ones(cell_p.shape, bool)
        before = np.zeros(cell_p.shape, bool)
        last = min(level, self.depth - 1)
        differs = np.full(cell_p.shape, last, np.uint8)
        for index, (h, w) in enumerate(self.shapes[: last + 1]):
            a, b = (cell_t // w, cell_p // h), (node_t // w, node_p // h)
            if self.scan_order == "row_major":
                a, b = a[::-1], b[::-1]
            parted = same & ((a[0] != b[0]) | (a[1] != b[1]))
            before |= parted & ((a[0] < b[0]) | ((a[0] == b[0]) & (a[1] < b[1])))
            differs[parted] = index
            same &= ~parted
            cell_p, cell_t, node_p, node_t = cell_p % h, cell_t % w, node_p % h, node_t % w
        return before, differs
