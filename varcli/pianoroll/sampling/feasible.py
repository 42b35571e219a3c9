"""Which nodes of the tree may and must sound on one canvas, kept up to date while it is written.

A node is open if a free cell in it may sound now; it must sound if a cell in it does in any case. Nodes that are
neither are empty, nodes that must are occupied, and both cost nothing; the network decides only the other open ones.

Shapes: P pitches, T steps, n nodes.
"""

from collections.abc import Sequence

import numpy as np

from varcli.pianoroll.sampling.constraints import CanvasConstraints


class Feasibility:
    """Follows one canvas under its constraints; `shapes` are those of the levels, `width` the steps they tile.

    `moving` says whether writing a cell changes what is open, as a limit on polyphony does: a cell that sounds in any
    case is counted from the start, whether it is written yet or not.
    """

    def __init__(self, constraints: CanvasConstraints, shapes: Sequence[tuple[int, int]], width: int) -> None:
        self.given = constraints.given
        self.moving = constraints.max_polyphony is not None
        self._shapes = shapes
        pad = ((0, 0), (0, width - self.given.shape[1]))
        free = np.pad(constraints.allowed & ~constraints.given, pad)
        tied, must = np.pad(constraints.tied, pad), np.pad(constraints.must, pad)
        self._free = [_pooled(free, (h, 1 if self.moving else w)) for h, w in shapes]
        self._carried = [_pooled(tied, shape) for shape in shapes]
        self._must = [_pooled(must, shape) for shape in shapes]
        self._reserved = constraints.tied
        self._room = np.full(width, True)
        self._left = np.zeros(width, np.int64)
        if constraints.max_polyphony is not None:
            self._left[:] = constraints.max_polyphony - np.pad(constraints.settled, pad[1])
            self._room = self._left > 0

    def must(self, level: int, p: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Which nodes of `level` at pitches `p` and steps `t` sound in any case, bool [n]."""
        h, w = self._shapes[level]
        return self._must[level][p // h, t // w]

    def open(self, level: int, p: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Which nodes hold a free cell that may sound now, bool [n]."""
        h, w = self._shapes[level]
        if not self.moving:
            return self._free[level][p // h, t // w]
        steps = t[:, None] + np.arange(w)
        free = (self._free[level][p[:, None] // h, steps] & self._room[steps]).any(1)
        return free | self._carried[level][p // h, t // w]

    def is_open(self, level: int, p: int, t: int) -> bool:
        """Whether one node does."""
        return bool(self.open(level, np.array([p]), np.array([t]))[0])

    def wrote(self, p: int, t: int) -> None:
        """Note that a free cell sounds now."""
        if self.moving and not self._reserved[p, t]:
            self._left[t] -= 1
            self._room[t] = self._left[t] > 0


def _pooled(cells: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Whether any cell of each node of a shape is set, bool [P / h, T / w]."""
    h, w = shape
    P, T = cells.shape
    return np.asarray(cells.reshape(P // h, h, T // w, w).any(axis=(1, 3)))
