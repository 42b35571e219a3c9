"""Blocks of cells decided in order, filled at once: the same as `sampling.autoregressive`, one token at a time.

Shapes: n siblings of a group, D width, D' that of the level above.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from varcli.compiled import REORDERED, kernel
from varcli.pianoroll.inference.fused.cells import (
    Draws,
    PlaceTable,
    Values,
    WindowWeights,
    add_window,
    draw_value,
    draws_of,
    values_of,
    window_weights_of,
)
from varcli.pianoroll.inference.fused.transformer_step import (
    Product,
    Weights,
    add_product,
    dot,
    multiply,
    product_of,
    step,
    weights_of,
)
from varcli.pianoroll.inference.level_weights import LevelWeights
from varcli.pianoroll.inference.window_kernel import CanvasArrays, Visibility, arrays_of, visibility_of
from varcli.pianoroll.model.canvas import Canvas
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.model.level import OWN_SHARE, STATE_EMPTY, STATE_OCCUPIED, STATE_START
from varcli.pianoroll.sampling.policy import Sampler
from varcli.pianoroll.sampling.strategy import Filled, Request
from varcli.threads import Workers


class Cells(NamedTuple):
    """The level that decides which cells of a block sound.

    `offsets` [n, 2] and `flat` [n] say where they lie from the block's first. Of the parent's vector all take `inherit`
    and each its own `share` [n, D', OWN_SHARE], spread by `spread` [OWN_SHARE, D]; `own` [n, D] is added.
    """

    window_weights: WindowWeights
    place: PlaceTable
    state: np.ndarray
    offsets: np.ndarray
    flat: np.ndarray
    inherit: Product
    share: np.ndarray
    share_bias: np.ndarray
    spread: np.ndarray
    own: np.ndarray
    weights: Weights
    row_weight: np.ndarray
    row_bias: np.ndarray


class FusedAutoregressive:
    """Fills blocks of one batch of samples, whose canvases it reads and writes; needs `samplers`.

    `tables` are those of the two finest levels; weights of their transformers are of the dtype that they have there.
    """

    def __init__(
        self,
        model: FractalModel,
        canvas: Canvas,
        tables: tuple[LevelWeights, LevelWeights],
        policies: Sequence[Sampler],
    ) -> None:
        self.level = model.tree.depth - 1
        self._workers = Workers()
        self._canvas, self._steps = canvas, canvas.steps
        self._arrays, self._visibility = arrays_of(canvas), visibility_of(canvas, past_only=True)
        self._cells = _cells_of(tables[0], canvas, model.tree.children[self.level])
        self._values = values_of(tables[1], canvas)
        self._draws = draws_of(policies)

    def __call__(self, requests: list[Request]) -> list[Filled]:
        """Decide and write all cells of some groups of siblings."""
        asked = [request.siblings for request in requests]
        parent = torch.stack([siblings.hidden for siblings in asked if siblings.hidden is not None]).numpy()
        place = np.array([(siblings.sample.row, siblings.p[0], siblings.t[0]) for siblings in asked])
        first = self._canvas.flat(*place.T)
        found = np.zeros((len(requests), len(self._cells.offsets)), np.uint8)
        arrays, visibility, cells, values, draws = (
            self._arrays,
            self._visibility,
            self._cells,
            self._values,
            self._draws,
        )

        def fill(i: int) -> None:
            _fill(parent[i], place[i], first[i], self._steps, arrays, visibility, cells, values, draws, found[i])

        # Each group belongs to a sample of its own, so that none sees what others write.
        self._workers(fill, len(requests))
        return [Filled(codes) for codes in found]


def _cells_of(tables: LevelWeights, canvas: Canvas, offsets: np.ndarray) -> Cells:
    network, n = tables.network, len(offsets)
    assert network.transformer is not None and tables.stack is not None
    share = network.share.weight.detach().unflatten(0, (n, OWN_SHARE)).transpose(1, 2)
    return Cells(
        window_weights=window_weights_of(tables, canvas),
        place=PlaceTable(tables.place.numpy(), tables.columns),
        state=tables.state.numpy(),
        offsets=offsets,
        flat=offsets[:, 0] * canvas.shape[2] + offsets[:, 1],
        inherit=product_of(network.inherit.weight, network.inherit.bias),
        share=share.contiguous().numpy(),
        share_bias=network.share.bias.detach().view(n, OWN_SHARE).numpy(),
        spread=network.spread.weight.detach().t().contiguous().numpy(),
        own=network.place.weight.detach().numpy(),
        weights=weights_of(network.transformer, tables.stack.dtype),
        row_weight=tables.row_weight.numpy(),
        row_bias=tables.row_bias.view(-1).numpy(),
    )


@kernel(fastmath=REORDERED)
def _fill(
    parent: np.ndarray,
    place: np.ndarray,
    first: int,
    steps: int,
    arrays: CanvasArrays,
    visibility: Visibility,
    cells: Cells,
    values: Values,
    draws: Draws,
    found: np.ndarray,
) -> None:
    """Fill siblings whose parent is f32 [D'] and whose first cell stands at `place` [3] (sample, pitch, step) and
    `first` in the flat arrays; the codes go there and to `found` u8 [n]."""
    D, sample, last = cells.own.shape[1], place[0], -1
    for k in range(len(found)):
        if place[2] + cells.offsets[k, 1] < steps:
            last = k
    inherited, x, own = np.empty(D, np.float32), np.empty(D, np.float32), np.empty(OWN_SHARE, np.float32)
    multiply(cells.inherit.weight, cells.inherit.bias, parent, inherited)
    kept = np.empty((len(cells.weights.qkv), last + 1, 2 * D), np.float32)
    window_codes = np.empty(len(cells.window_weights.window.offsets), np.uint8)
    state, any_occupied = STATE_START, False
    for k in range(last + 1):
        p, t, at = place[1] + cells.offsets[k, 0], place[2] + cells.offsets[k, 1], first + cells.flat[k]
        where = cells.place.table[p * cells.place.columns + t % cells.place.columns]
        for i in range(D):
            x[i] = inherited[i] + cells.own[k, i] + cells.state[state, i] + where[i]
        multiply(cells.share[k], cells.share_bias[k], parent, own)
        add_product(cells.spread, own, x)
        add_window(at, 0, arrays, cells.window_weights, visibility, window_codes, x)
        step(x, k, kept, cells.weights)
        occupied = False
        if t < steps:
            logit = np.float64(dot(x, cells.row_weight[p]) + cells.row_bias[p]) / draws.temperature
            occupied = draws.cells[sample, p, t] < 1 / (1 + np.exp(-min(max(logit, -500.0), 500.0)))
            occupied |= k == last and not any_occupied
        if occupied:
            any_occupied = True
            found[k] = draw_value(
                x, at, 0, p, t, arrays, visibility, values, draws.values[sample], draws.value_temperature
            )
            arrays.codes[at] = found[k]
        state = STATE_OCCUPIED if occupied else STATE_EMPTY
