"""Nodes of one sample, compiled: where they stand, whether they may sound, and what is told of them."""

import numpy as np

from varcli.compiled import kernel
from varcli.pianoroll.constants import GIVEN, UNKNOWN
from varcli.pianoroll.inference import fields as f
from varcli.pianoroll.inference.fields import ModelArrays, SampleArrays

CODE = np.uint8(GIVEN - 1)
"""What is left of a code without the flag of given cells."""


@kernel(allocates=False)
def grid(level: np.ndarray, model: ModelArrays, p: int, t: int) -> int:
    """Index of a node among all nodes of all levels."""
    width = model.run[f.COLUMNS] * model.run[f.COLUMN]
    return level[f.GRID] + p // level[f.HEIGHT] * (width // level[f.STEPS]) + t // level[f.STEPS]


@kernel(allocates=False)
def place(level: np.ndarray, model: ModelArrays, frame: np.ndarray, child: int) -> tuple[int, int]:
    """Pitch and step of a child."""
    at = level[f.CHILDREN] + 2 * child
    return frame[f.P] + model.offsets[at], frame[f.T] + model.offsets[at + 1]


@kernel(allocates=False)
def is_open(level: np.ndarray, model: ModelArrays, sample: SampleArrays, p: int, t: int) -> bool:
    """Whether a node holds a free cell that may sound now."""
    width, sounds = model.run[f.COLUMNS] * model.run[f.COLUMN], p >= model.run[f.PLAN_ROWS]
    first = level[f.FREE] + p // level[f.HEIGHT] * width + t
    for i in range(level[f.STEPS]):
        if sample.free[first + i] and (sample.left[t + i] > 0 or not sounds):
            return True
    return sample.tied[grid(level, model, p, t)] != 0


@kernel(allocates=False)
def log(sample: SampleArrays, kind: int, a: int, b: int, c: int) -> None:
    """Add a row to the log."""
    row = sample.log[sample.position[f.LOGGED]]
    row[0], row[1], row[2], row[3] = kind, a, b, c
    sample.position[f.LOGGED] += 1


@kernel(allocates=False)
def finish(number: int, model: ModelArrays, sample: SampleArrays, p: int, t: int, empty: bool) -> None:
    """Note that a node is done: where masks hide it, it is hidden from its siblings no more, and silent if `empty`."""
    level, run = model.levels[number], model.run
    if run[f.MASKED]:
        for row in range(p, p + level[f.HEIGHT]):
            for step in range(t, min(t + level[f.STEPS], run[f.CANVAS_STEPS])):
                at = row * run[f.STRIDE] + step + run[f.ORIGIN]
                sample.reveal[at] = number
                if empty and (sample.codes[at] < GIVEN or sample.codes[at] == UNKNOWN):
                    sample.codes[at] = 0


@kernel(allocates=False)
def log_done(
    sample: SampleArrays, number: int, index: int, total: int, iteration: int, iterations: int, batch: int, boxes: int
) -> None:
    """Add to the log that children of a level are done; rows of their bounds follow."""
    row = sample.log[sample.position[f.LOGGED]]
    row[4], row[5], row[6], row[7] = iteration, iterations, batch, boxes
    row[0], row[1], row[2], row[3] = f.DONE, number, index, total
    sample.position[f.LOGGED] += 1
