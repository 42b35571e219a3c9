"""The arrays of one sample on its way through the compiled engine.

Shapes: P pitches, T steps, w steps of a column, C columns, K candidates, R rows (all siblings of all levels).
"""

from collections.abc import Sequence

import numpy as np

from varcli.pianoroll.constants import COUNTS, FALLS, FEATURES, GIVEN, OWN_SHARE, PLANNED, TRAITS
from varcli.pianoroll.inference import fields as f
from varcli.pianoroll.inference.fields import ModelArrays, SampleArrays
from varcli.pianoroll.model.canvas import Canvas
from varcli.pianoroll.sampling.constraints import CanvasConstraints
from varcli.pianoroll.sampling.policy import Policy

NO_LIMIT = 1 << 30
LOG_ROWS = 2048


def begin(
    model: ModelArrays,
    canvas: Canvas,
    policy: Policy,
    shapes: Sequence[tuple[int, int]],
    constraints: CanvasConstraints | None,
) -> SampleArrays:
    """A sample at its beginning: a copy of the empty `canvas`, with the cells that are known beforehand."""
    codes = canvas.codes[0].cpu().numpy().copy()
    if constraints is not None:
        low_p, _, low_t, _ = canvas.layout.margins
        inner = codes[low_p : low_p + canvas.layout.pitches, low_t : low_t + canvas.steps]
        inner[constraints.given] = constraints.codes[constraints.given] | GIVEN
    reveal = np.zeros(1, np.uint8) if canvas.reveal is None else canvas.reveal[0].cpu().numpy().ravel().copy()
    truth = np.zeros((0, 0), np.uint8) if policy.truth is None else np.ascontiguousarray(policy.truth)
    metres = np.full(canvas.columns, canvas.layout.patch[1])
    if constraints is not None and constraints.bars is not None:
        metres[:] = constraints.bars.metres
        truth = truth * constraints.in_bar if truth.size else truth
    known = {"codes": codes.ravel(), "reveal": reveal, "truth": truth, "draws": policy.draws, "metres": metres}
    return SampleArrays(**known, **_feasible(canvas, shapes, constraints), **_room(model, canvas))


def _feasible(
    canvas: Canvas, shapes: Sequence[tuple[int, int]], constraints: CanvasConstraints | None
) -> dict[str, np.ndarray]:
    """Which nodes hold free cells, of each step; which must sound, and which do for what is given after them, flat; and
    how many cells may still sound at each step: one that sounds in any case is counted from the start."""
    P, T, width = canvas.layout.pitches, canvas.steps, canvas.columns * canvas.layout.patch[1]
    pad = ((0, 0), (0, width - T))
    if constraints is None:
        constraints = CanvasConstraints.limits(np.ones((P, T), bool))
    free = np.pad(constraints.allowed & ~constraints.given, pad)
    must, tied = np.pad(constraints.must, pad), np.pad(constraints.tied, pad)
    value = (1, 1)  # the level of a cell's value has no decision of its own, but rows in the tables
    left = np.full(width, NO_LIMIT)
    if constraints.max_polyphony is not None:
        left[:] = constraints.max_polyphony - np.pad(constraints.settled, pad[1])
    return {
        "free": np.concatenate([_pooled(free, (h, 1)) for h, _ in (*shapes, value)]),
        "must": np.concatenate([_pooled(must, shape) for shape in (*shapes, value)]),
        "tied": np.concatenate([_pooled(tied, shape) for shape in (*shapes, value)]),
        "left": left,
    }


def _pooled(cells: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Whether any cell of each node of a shape is set, u8, flat."""
    h, w = shape
    P, T = cells.shape
    return cells.reshape(P // h, h, T // w, w).any(axis=(1, 3)).astype(np.uint8).ravel()


def _room(model: ModelArrays, canvas: Canvas) -> dict[str, np.ndarray]:
    levels, run = model.levels, model.run
    n, V = levels[:, f.SIBLINGS], int(levels[-1, f.OUTPUTS])
    widest = max(int(levels[:, f.WIDTH].max()), OWN_SHARE, TRAITS + PLANNED + COUNTS, V)
    R, most, K, C = int(n.sum()), int(n.max()), int(run[f.CANDIDATES]), canvas.columns
    keys = int((n * levels[:, f.BLOCKS] * levels[:, f.ATTENDS]).sum())
    shown = int(levels[:, f.COPY_CELLS].max() * run[f.CHANNELS])
    window = int(levels[:, [f.WINDOW_CELLS, f.COPY_CELLS, f.VELOCITY_CELLS]].max())
    pattern, first = int((run[f.PITCHES] - run[f.PLAN_ROWS]) * run[f.COLUMN]), int(n[0])
    many = max(most, V, FEATURES, K)
    share = OWN_SHARE * int(n[1:].max(initial=1))
    ints = {"position": (f.POSITION_FIELDS,), "frames": (len(levels), f.FRAME_FIELDS), "lists": (5, R)}
    ints |= {"shift": (C, K), "below": (first * K, 3), "counted": (C, 2)}
    ints |= {"said": (1 + 2 * C, 4)}
    floats = {"tokens": (R, widest), "inherited": (R, widest), "hidden": (R, widest), "keys": (keys, 2 * widest)}
    floats |= {"normed": (most, widest), "mixed": (most, widest), "wide": (most, max(4 * widest, share))}
    floats |= {"vector": (max(most, shown),), "votes": (2, len(FALLS) * V), "heard": (C, FEATURES)}
    floats |= {"traits": (C * K, TRAITS + PLANNED), "scores": (C, 4)}
    doubles = {"logits": (R,), "numbers": (many,), "log": (LOG_ROWS + 2 * R + 64, f.LOG_FIELDS)}
    small = {"window": (2, window), "there": (K, window), "patterns": (C, pattern)}
    kinds = ((ints, np.int64), (floats, np.float32), (doubles, np.float64), (small, np.uint8))
    room = {name: np.zeros(shape, dtype) for shapes, dtype in kinds for name, shape in shapes.items()}
    room["position"][f.KNOWN] = -1
    return room
