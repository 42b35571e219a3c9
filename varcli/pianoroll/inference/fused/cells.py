"""The cells of a block, filled at once: what both fused generators share, above all the values of cells.

The two finest levels have most of the tokens and the least to do for each of them: run one request at a time,
launching operations costs more than what they compute. Where both are transformers, and
nothing but samplers decides, all siblings run compiled, with the tokens, logits and random numbers of single requests.

Shapes: W cells of a window, C channels of a cell, D width, D' that of the level above, V vocabulary of cell values.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from varcli.compiled import REORDERED, kernel
from varcli.pianoroll.inference.fused.transformer_step import (
    Product,
    Weights,
    multiply,
    product_of,
    step,
    weights_of,
)
from varcli.pianoroll.inference.level_weights import LevelWeights
from varcli.pianoroll.inference.window_kernel import CanvasArrays, Visibility, WindowArrays, read_window, window_of
from varcli.pianoroll.model.canvas import Canvas
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.model.level import GIVEN, STATE_START, UNKNOWN
from varcli.pianoroll.sampling.policy import DecisionPolicy, Sampler


class WindowWeights(NamedTuple):
    """A window and the weights of its cells: `channels` [256, C] by `rows` [W * C, D], `known` [W, D] for cells that
    are known ([0, D] if that is no channel), and a bias [D]."""

    window: WindowArrays
    channels: np.ndarray
    rows: np.ndarray
    known: np.ndarray
    bias: np.ndarray


class PlaceTable(NamedTuple):
    """Embeddings of nodes' places [rows * columns, D], and the columns of a bar."""

    table: np.ndarray
    columns: int


class Values(NamedTuple):
    """The level of values. `before` is the cell of the window before the node, -1 if outside it; `head`
    [D, V - 1] and `row_bias` [rows, V - 1] give the logits."""

    window_weights: WindowWeights
    place: PlaceTable
    inherit: Product
    weights: Weights
    head: np.ndarray
    row_bias: np.ndarray
    before: int


class Draws(NamedTuple):
    """Uniform numbers f64 [samples, P, width] of cells and of their values, and the two temperatures."""

    cells: np.ndarray
    values: np.ndarray
    temperature: float
    value_temperature: float


def samplers(model: FractalModel, policies: Sequence[DecisionPolicy]) -> list[Sampler] | None:
    """The policies, if they leave it to others to draw and the two finest levels of the model can be run here."""
    options, levels = model.config.model, model.level_models
    plain = not (options.tonality or options.voices or len(model.echoes))
    able = (
        model.device.type == "cpu"
        and plain
        and levels[-1].is_value
        and model.tree.depth > 1
        and model.tree.shapes[-1] == (1, 1)
        and all(level.is_causal != model.masked and not level.stateless for level in levels[-2:])
        and all(level.width % 8 == 0 for level in levels[-3:])
    )
    # Those of a kind of its own may want to be asked.
    drawn = [policy for policy in policies if isinstance(policy, Sampler)]
    able = able and all(type(policy) is Sampler and policy.draws_plainly for policy in drawn)
    return drawn if able and len(drawn) == len(policies) else None


def draws_of(policies: Sequence[Sampler]) -> Draws:
    """What the samplers of a batch draw with."""
    cells, values = zip(*(policy.draws() for policy in policies), strict=True)
    return Draws(np.stack(cells), np.stack(values), *policies[0].temperatures[-2:])


def window_weights_of(tables: LevelWeights, canvas: Canvas) -> WindowWeights:
    """The windows of nodes of a level on a canvas."""
    embedding, network = tables.window_embedding, tables.network
    window = window_of(network, canvas)
    return WindowWeights(
        window,
        embedding.channels.numpy(),
        embedding.rows.numpy(),
        embedding.known_rows.contiguous().numpy(),
        embedding.bias.numpy(),
    )


def values_of(tables: LevelWeights, canvas: Canvas) -> Values:
    """The level of values, laid out."""
    network = tables.network
    assert network.transformer is not None and tables.stack is not None
    # A cell has one value: what it inherits in common and what is its own are one linear map.
    spread, share = network.spread.weight, network.share
    inherit = network.inherit.weight + spread @ share.weight
    bias = network.inherit.bias + spread @ share.bias + network.place.weight[0] + network.state.weight[STATE_START]
    return Values(
        window_weights=window_weights_of(tables, canvas),
        place=PlaceTable(tables.place.numpy(), tables.columns),
        inherit=product_of(inherit, bias),
        weights=weights_of(network.transformer, tables.stack.dtype),
        head=tables.row_weight.t().contiguous().numpy(),
        row_bias=tables.row_bias.numpy(),
        before=-1 if tables.before is None else tables.before,
    )


@kernel(fastmath=REORDERED)
def add_window(
    first: int,
    position: int,
    arrays: CanvasArrays,
    window_weights: WindowWeights,
    visibility: Visibility,
    window_codes: np.ndarray,
    x: np.ndarray,
) -> None:
    """Write the codes in a node's window [W], and add their embedding to its token x [D]."""
    if visibility.past_only:
        for cell in range(len(window_codes)):
            window_codes[cell] = arrays.codes[first + window_weights.window.offsets[cell]]
    else:
        read_window(first, position, arrays, window_weights.window, visibility, window_codes)
    C, has_known = window_weights.channels.shape[1], len(window_weights.known) > 0
    add(x, np.float32(1), window_weights.bias)
    for cell in range(len(window_codes)):
        code = window_codes[cell]
        if code == UNKNOWN:
            continue
        if has_known:
            add(x, np.float32(1), window_weights.known[cell])
        if code != 0:
            for channel in range(C):
                share = window_weights.channels[code, channel]
                if share != 0:
                    add(x, share, window_weights.rows[cell * C + channel])


@kernel(fastmath=REORDERED)
def add(x: np.ndarray, share: np.float32, row: np.ndarray) -> None:
    """Add a share of a row [D] to x [D]."""
    for i in range(len(x)):
        x[i] += share * row[i]


@kernel(fastmath=REORDERED)
def draw_value(
    parent: np.ndarray,
    first: int,
    position: int,
    p: int,
    t: int,
    arrays: CanvasArrays,
    visibility: Visibility,
    values: Values,
    uniform: np.ndarray,
    temperature: float,
) -> int:
    """The code of an occupied cell with the vector `parent` [D'], drawn by inversion at its `uniform` [P, width]."""
    D, outputs = len(values.inherit.bias), values.head.shape[1]
    x, logits = np.empty(D, np.float32), np.empty(outputs, np.float32)
    multiply(values.inherit.weight, values.inherit.bias, parent, x)
    add(x, np.float32(1), values.place.table[p * values.place.columns + t % values.place.columns])
    window_codes = np.empty(len(values.window_weights.window.offsets), np.uint8)
    add_window(first, position, arrays, values.window_weights, visibility, window_codes, x)
    step(x, 0, np.empty((len(values.weights.qkv), 1, 2 * D), np.float32), values.weights)
    multiply(values.head, values.row_bias[p], x, logits)
    # Nothing is held where the cell before is known to be silent or does not exist.
    held = 0
    if values.before >= 0 and (window_codes[values.before] & (GIVEN - 1) == 0 or t == 0):
        held = 1
    mass, most, total = np.zeros(outputs), logits[held:].max(), 0.0
    for code in range(held, outputs):
        mass[code] = np.exp(np.float64(logits[code] - most) / temperature)
        total += mass[code]
    below = 0.0
    for code in range(outputs):
        below += mass[code] / total
        if below > uniform[p, t]:
            return code + 1
    return outputs
