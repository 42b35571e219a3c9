"""Blocks of cells that are unmasked in turns, filled at once: the same as `sampling.masked`.

The network runs for many groups of siblings at once in torch; the decisions between two runs are compiled here.

Shapes: R groups of siblings, n in each, c of them decided together, D' width of their level.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from varcli.compiled import REORDERED, kernel
from varcli.pianoroll.inference.fused.cells import Draws, Values, draw_value, draws_of, values_of
from varcli.pianoroll.inference.level_weights import LevelWeights
from varcli.pianoroll.inference.window_kernel import CanvasArrays, Visibility, arrays_of, visibility_of
from varcli.pianoroll.model.canvas import Canvas
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.model.level import STATE_EMPTY, STATE_OCCUPIED
from varcli.pianoroll.sampling.policy import Sampler
from varcli.pianoroll.sampling.siblings import Siblings
from varcli.pianoroll.sampling.strategy import Filled, Request
from varcli.threads import Workers

Run = Callable[[int, list[Request]], tuple[np.ndarray, torch.Tensor]]


class FusedMasked:
    """Fills blocks of one batch of samples, whose canvases it reads and writes; needs `samplers`.

    `run` gives logits [R * n] and hidden vectors [R * n, D'] of all children of groups of a level.
    """

    def __init__(
        self, model: FractalModel, canvas: Canvas, tables: LevelWeights, policies: Sequence[Sampler], run: Run
    ) -> None:
        self.level = model.tree.depth - 1
        self._canvas, self._run, self._patch = canvas, run, model.tree.shapes[0]
        self._workers = Workers()
        self._arrays, self._visibility = arrays_of(canvas), visibility_of(canvas)
        self._values, self._draws = values_of(tables, canvas), draws_of(policies)

    def __call__(self, requests: list[Request]) -> list[Filled]:
        """Decide and write all cells of some groups of siblings, each in the order of `wanted`."""
        groups = [request.siblings for request in requests]
        orders = [request.wanted for request in requests if request.wanted is not None]
        stops = [np.cumsum((0, *request.counts)).tolist() for request in requests]
        n = len(groups[0].p)
        places = np.stack([(np.full(n, siblings.sample.row), siblings.p, siblings.t) for siblings in groups])
        first = self._canvas.flat(places[:, 0], places[:, 1], places[:, 2])
        found = np.zeros((len(requests), n), np.uint8)
        for iteration in range(max(map(len, stops)) - 1):
            open_yet = [i for i, stop in enumerate(stops) if iteration < len(stop) - 1]
            chosen = [orders[i][stops[i][iteration] : stops[i][iteration + 1]] for i in open_yet]
            now = [Request(groups[i], 0, n, part) for i, part in zip(open_yet, chosen, strict=True)]
            logits, hidden = self._run(self.level, now)
            logits, hidden = logits.reshape(len(now), n), hidden.unflatten(0, (-1, n)).numpy()
            self._decide(
                open_yet,
                chosen,
                [stops[i][iteration + 1] == len(orders[i]) for i in open_yet],
                places,
                first,
                groups,
                logits,
                hidden,
                found,
            )
        return [Filled(codes) for codes in found]

    def _decide(
        self,
        open_yet: list[int],
        chosen: list[np.ndarray],
        last: list[bool],
        places: np.ndarray,
        first: np.ndarray,
        groups: list[Siblings],
        logits: np.ndarray,
        hidden: np.ndarray,
        found: np.ndarray,
    ) -> None:
        arrays, visibility, values, draws = self._arrays, self._visibility, self._values, self._draws

        def decide(at: int) -> None:
            i = open_yet[at]
            _decide(
                chosen[at],
                last[at],
                places[i],
                first[i],
                self.level,
                self._patch,
                groups[i].state,
                logits[at],
                hidden[at],
                arrays,
                visibility,
                values,
                draws,
                found[i],
            )

        # Groups side by side hide what they write until both are done.
        self._workers(decide, len(open_yet))


@kernel(fastmath=REORDERED)
def _decide(
    chosen: np.ndarray,
    last: bool,
    place: np.ndarray,
    first: np.ndarray,
    level: int,
    patch: tuple[int, int],
    state: np.ndarray,
    logits: np.ndarray,
    hidden: np.ndarray,
    arrays: CanvasArrays,
    visibility: Visibility,
    values: Values,
    draws: Draws,
    found: np.ndarray,
) -> None:
    """Decide the children `chosen` [c] of a group, the `last` ones or not, and write their codes to `found` u8 [n].

    The children stand at `place` [3, n] (sample, pitch, step) and `first` [n] in the flat arrays.
    """
    occupied = np.zeros(len(chosen), np.bool_)
    forced = last and not found.any()
    probability = np.empty(len(chosen))
    for i in range(len(chosen)):
        logit = min(max(np.float64(logits[chosen[i]]) / draws.temperature, -500.0), 500.0)
        probability[i] = 1 / (1 + np.exp(-logit))
    for i in range(len(chosen)):
        k = chosen[i]
        chance = _at_least_one(probability[i:]) if forced else probability[i]
        occupied[i] = draws.cells[place[0, k], place[1, k], place[2, k]] < chance
        forced &= not occupied[i]
        # Silence first: a cell after it cannot be held.
        if not occupied[i]:
            arrays.codes[first[k]], arrays.reveal[first[k]], state[k] = 0, level, STATE_EMPTY
    # A step after a step; those of one step do not see each other.
    hits = chosen[occupied]
    for step in np.unique(place[2][hits]):
        for k in hits:
            if place[2, k] == step:
                p, t, at = place[1, k], int(place[2, k]), int(first[k])
                position = int(p % patch[0] * patch[1] + t % patch[1])
                uniform, heat = draws.values[place[0, k]], draws.value_temperature
                found[k] = draw_value(hidden[k], at, position, int(p), t, arrays, visibility, values, uniform, heat)
                arrays.codes[at] = found[k]
        for k in hits:
            if place[2, k] == step:
                arrays.reveal[first[k]], state[k] = level, STATE_OCCUPIED


@kernel(fastmath=REORDERED)
def _at_least_one(probability: np.ndarray) -> float:
    """The same as `policy.at_least_one`."""
    if len(probability) == 1:
        return 1.0
    none = 0.0
    for one in probability:
        none += np.log1p(-min(one, 1 - 1e-15))
    some = -np.expm1(none)
    return probability[0] / some if some > 0 else 1 / len(probability)
