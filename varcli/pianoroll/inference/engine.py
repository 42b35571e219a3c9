"""The compiled engine: one sample is written from the first decision to the last, depth first through the tree.

`advance` goes on from where a sample stands until there is something to tell, so that Python may show it. Nothing in it
runs in several threads, and it lets go of the interpreter's lock: samples run side by side. Where a sample stands is
in its arrays: a frame for each level, with the siblings that are being decided there.

Levels in order decide one child after another, each by all that comes before it; those that are masked take their
children in turns, see `turns`. An occupied child is filled, by all finer levels, before its parent's next decision.
"""

from typing import Any, cast

import numpy as np

from varcli.compiled import Kernel, kernel
from varcli.pianoroll.inference import fields as f
from varcli.pianoroll.inference.fields import ModelArrays, SampleArrays
from varcli.pianoroll.inference.in_order import step_in_order
from varcli.pianoroll.inference.masked import step_masked
from varcli.pianoroll.inference.network import run_network
from varcli.pianoroll.inference.siblings import begin
from varcli.pianoroll.inference.velocities import look


@kernel(allocates=False)
def advance(model: ModelArrays, sample: SampleArrays) -> int:
    """Go on until a node of level 0 is done or the log is nearly full; returns the rows of the log, less than none at
    the end: -1 - rows."""
    position, frame = sample.position, sample.frames[0]
    position[f.LOGGED] = position[f.PAUSE] = 0
    room = len(sample.log) - 2 * sample.lists.shape[1] - 64
    if frame[f.LAST] == 0:
        begin(position[f.LEVEL], model, sample, frame[f.P], frame[f.T])
    while position[f.LEVEL] >= 0 and position[f.LOGGED] < room and not position[f.PAUSE]:
        number = position[f.LEVEL]
        if model.levels[number, f.IN_ORDER]:
            step_in_order(number, model, sample)
        else:
            step_masked(number, model, sample)
    return position[f.LOGGED] if position[f.LEVEL] >= 0 else -1 - position[f.LOGGED]


def prepare(model: ModelArrays, sample: SampleArrays) -> None:
    """Compile what is not yet compiled, and tell `advance` where the pieces are that it calls."""
    # The other piece may be on its way in a process of its own.
    for number, example in ((f.RUN, network_example), (f.MAKE_TOKEN, look_example)):
        model.calls[number] = cast(Kernel, example()[0]).address((0, model, sample, 0, 0, 0, 0))


def advance_example() -> tuple[Any, tuple[Any, ...]]:
    """The engine, and arguments like those that it will have, for `compile_beside`."""
    return advance, _records()


def look_example() -> tuple[Any, tuple[Any, ...]]:
    """The same of what makes tokens."""
    return look, (0, *_records(), 0, 0, 0, 0)


def network_example() -> tuple[Any, tuple[Any, ...]]:
    """The same of what runs networks."""
    return run_network, (0, *_records(), 0, 0, 0, 0)


def _records() -> tuple[ModelArrays, SampleArrays]:
    def empty(kinds: dict[str, tuple[type, int]]) -> dict[str, np.ndarray]:
        return {name: np.zeros((0,) * n, dtype) for name, (dtype, n) in kinds.items()}

    return ModelArrays(**empty(ModelArrays.kinds)), SampleArrays(**empty(SampleArrays.kinds))
