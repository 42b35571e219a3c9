"""The cells of a block, decided and given their values in one compiled go.

The two finest levels have most of the tokens and the least to do for each of them: asked one look at a time, what
surrounds a look costs more than the look. Where both are transformers that decide in order, and nothing but a sampler
decides, the whole family runs here: the same tokens, logits and random numbers as `answer` and `ar` would take.

Shapes: R families, n children of each, W cells of a window, C channels of a cell, D width, D' that of the level above,
V vocabulary of cell values.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numba import njit

from varcli.nn.stepping import FLAGS, Product, Weights, add_product, dot, multiply, product_of, step, weights_of
from varcli.pianoroll.choose import Chooser, Sampler
from varcli.pianoroll.family import Ask, Filled
from varcli.pianoroll.fractal import Canvas, FractalModel
from varcli.pianoroll.level import GIVEN, OWN_SHARE, STATE_EMPTY, STATE_OCCUPIED, STATE_START, UNKNOWN
from varcli.pianoroll.looking import Memory, Rules, Window, look_around, memory_of, rules_of, window_of
from varcli.pianoroll.tables import Tables


class Sight(NamedTuple):
    """A window and what its cells say: channels `heard` [256, C] by `rows` [W * C, D], `known` [W, D] for cells that
    are known ([0, D] if that is no channel), and a bias [D]."""

    window: Window
    heard: np.ndarray
    rows: np.ndarray
    known: np.ndarray
    bias: np.ndarray


class Place(NamedTuple):
    """What the place of a node says, [rows * columns, D]; a row has so many pitches, and a bar so many columns."""

    table: np.ndarray
    columns: int


class Cells(NamedTuple):
    """The level that decides which cells of a block sound.

    `offsets` [n, 2] and `flat` [n] say where they lie from the block's first. Of the parent's vector all take `inherit`
    and each its own `share` [n, D', OWN_SHARE], spread by `spread` [OWN_SHARE, D]; `own` [n, D] is added.
    """

    sight: Sight
    place: Place
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


class Values(NamedTuple):
    """The level of values. `before` is the cell of the window before the node, -1 if it is not in sight; `head`
    [D, V - 1] and `row_bias` [rows, V - 1] give the logits."""

    sight: Sight
    place: Place
    inherit: Product
    weights: Weights
    head: np.ndarray
    row_bias: np.ndarray
    before: int


class Draws(NamedTuple):
    """Uniform numbers f64 [sheets, P, width] of cells and of their values, and the two temperatures."""

    cells: np.ndarray
    values: np.ndarray
    temperature: float
    value_temperature: float


def samplers(model: FractalModel, choosers: Sequence[Chooser]) -> list[Sampler] | None:
    """The choosers, if they leave it to others to draw and the two finest levels of the model can be run here."""
    options, levels = model.config.model, model.level_models
    plain = not (options.tonality or options.voices or len(model.echoes) or model.masked)
    able = (
        model.device.type == "cpu"
        and plain
        and levels[-1].is_value
        and model.tree.depth > 1
        and model.tree.shapes[-1] == (1, 1)
        and not any(level.stateless for level in levels[-2:])
        and all(level.width % 8 == 0 for level in levels[-3:])
    )
    # Those of a kind of its own may want to be asked.
    drawn = [chooser for chooser in choosers if isinstance(chooser, Sampler)]
    able = able and all(type(chooser) is Sampler and chooser.draws_plainly for chooser in drawn)
    return drawn if able and len(drawn) == len(choosers) else None


class Inner:
    """Fills blocks of one batch of samples, whose canvases it reads and writes; needs `samplers`.

    `tables` are those of the two finest levels; weights of their transformers are of the dtype that they have there.
    """

    def __init__(
        self,
        model: FractalModel,
        canvas: Canvas,
        tables: tuple[Tables, Tables],
        choosers: Sequence[Sampler],
    ) -> None:
        self.level = model.tree.depth - 1
        self._threads = torch.get_num_threads()
        self._workers = ThreadPoolExecutor(self._threads)
        self._canvas, self._steps = canvas, canvas.steps
        self._memory, self._rules = memory_of(canvas), rules_of(model, canvas, past_only=True)
        self._cells = _cells_of(tables[0], canvas, model.tree.children[self.level])
        self._values = _values_of(tables[1], canvas)
        cells, values = zip(*(chooser.draws() for chooser in choosers), strict=True)
        self._draws = Draws(np.stack(cells), np.stack(values), *choosers[0].temperatures[-2:])

    def __call__(self, asks: list[Ask]) -> list[Filled]:
        """Decide and write all cells of some families."""
        asked = [ask.family for ask in asks]
        parent = torch.stack([family.hidden for family in asked if family.hidden is not None]).numpy()
        place = np.array([(family.sheet.row, family.p[0], family.t[0]) for family in asked])
        first = self._canvas.flat(*place.T)
        found = np.zeros((len(asks), len(self._cells.offsets)), np.uint8)
        families = iter(range(len(asks)))

        def work() -> None:
            for i in families:
                _fill(
                    parent[i],
                    place[i],
                    first[i],
                    self._steps,
                    self._memory,
                    self._rules,
                    self._cells,
                    self._values,
                    self._draws,
                    found[i],
                )

        # Families lie on sheets of their own, so that nobody sees what others write.
        others = [self._workers.submit(work) for _ in range(min(self._threads, len(asks)) - 1)]
        work()
        for other in others:
            other.result()
        return [Filled(codes) for codes in found]


def _sight_of(tables: Tables, canvas: Canvas) -> Sight:
    seeing, network = tables.seeing, tables.network
    window = window_of(network, canvas)
    return Sight(
        window, seeing.heard.numpy(), seeing.rows.numpy(), seeing.known_rows.contiguous().numpy(), seeing.bias.numpy()
    )


def _cells_of(tables: Tables, canvas: Canvas, offsets: np.ndarray) -> Cells:
    network, n = tables.network, len(offsets)
    assert network.transformer is not None and tables.stack is not None
    share = network.share.weight.detach().unflatten(0, (n, OWN_SHARE)).transpose(1, 2)
    return Cells(
        sight=_sight_of(tables, canvas),
        place=Place(tables.place.numpy(), tables.columns),
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


def _values_of(tables: Tables, canvas: Canvas) -> Values:
    network = tables.network
    assert network.transformer is not None and tables.stack is not None
    # A cell has one value: what it inherits in common and what is its own are one linear map.
    spread, share = network.spread.weight, network.share
    inherit = network.inherit.weight + spread @ share.weight
    bias = network.inherit.bias + spread @ share.bias + network.place.weight[0] + network.state.weight[STATE_START]
    return Values(
        sight=_sight_of(tables, canvas),
        place=Place(tables.place.numpy(), tables.columns),
        inherit=product_of(inherit, bias),
        weights=weights_of(network.transformer, tables.stack.dtype),
        head=tables.row_weight.t().contiguous().numpy(),
        row_bias=tables.row_bias.numpy(),
        before=-1 if tables.before is None else tables.before,
    )


@njit(**FLAGS)
def _look(
    first: int, position: int, memory: Memory, sight: Sight, rules: Rules, seen: np.ndarray, x: np.ndarray
) -> None:
    """Write the codes that a node sees [W], and add to its token x [D] what they say."""
    if rules.past_only:
        for cell in range(len(seen)):
            seen[cell] = memory.codes[first + sight.window.offsets[cell]]
    else:
        look_around(first, position, memory, sight.window, rules, seen)
    C, has_known = sight.heard.shape[1], len(sight.known) > 0
    _add(x, np.float32(1), sight.bias)
    for cell in range(len(seen)):
        code = seen[cell]
        if code == UNKNOWN:
            continue
        if has_known:
            _add(x, np.float32(1), sight.known[cell])
        if code != 0:
            for channel in range(C):
                share = sight.heard[code, channel]
                if share != 0:
                    _add(x, share, sight.rows[cell * C + channel])


@njit(**FLAGS)
def _add(x: np.ndarray, share: np.float32, row: np.ndarray) -> None:
    for i in range(len(x)):
        x[i] += share * row[i]


@njit(**FLAGS)
def _fill(
    parent: np.ndarray,
    place: np.ndarray,
    first: int,
    steps: int,
    memory: Memory,
    rules: Rules,
    cells: Cells,
    values: Values,
    draws: Draws,
    found: np.ndarray,
) -> None:
    """Fill a family whose parent is f32 [D'] and whose first cell stands at `place` [3] (sheet, pitch, step) and
    `first` in the flat memory; the codes go there and to `found` u8 [n]."""
    D, sheet, last = cells.own.shape[1], place[0], -1
    for k in range(len(found)):
        if place[2] + cells.offsets[k, 1] < steps:
            last = k
    inherited, x, own = np.empty(D, np.float32), np.empty(D, np.float32), np.empty(OWN_SHARE, np.float32)
    multiply(cells.inherit.weight, cells.inherit.bias, parent, inherited)
    kept = np.empty((len(cells.weights.qkv), last + 1, 2 * D), np.float32)
    seen = np.empty(len(cells.sight.window.offsets), np.uint8)
    state, any_occupied = STATE_START, False
    for k in range(last + 1):
        p, t, at = place[1] + cells.offsets[k, 0], place[2] + cells.offsets[k, 1], first + cells.flat[k]
        where = cells.place.table[p * cells.place.columns + t % cells.place.columns]
        for i in range(D):
            x[i] = inherited[i] + cells.own[k, i] + cells.state[state, i] + where[i]
        multiply(cells.share[k], cells.share_bias[k], parent, own)
        add_product(cells.spread, own, x)
        _look(at, 0, memory, cells.sight, rules, seen, x)
        step(x, k, kept, cells.weights)
        occupied = False
        if t < steps:
            logit = np.float64(dot(x, cells.row_weight[p]) + cells.row_bias[p]) / draws.temperature
            occupied = draws.cells[sheet, p, t] < 1 / (1 + np.exp(-min(max(logit, -500.0), 500.0)))
            occupied |= k == last and not any_occupied
        if occupied:
            any_occupied = True
            found[k] = _value(x, at, 0, p, t, memory, rules, values, draws.values[sheet], draws.value_temperature)
            memory.codes[at] = found[k]
        state = STATE_OCCUPIED if occupied else STATE_EMPTY


@njit(**FLAGS)
def _value(
    parent: np.ndarray,
    first: int,
    position: int,
    p: int,
    t: int,
    memory: Memory,
    rules: Rules,
    values: Values,
    uniform: np.ndarray,
    temperature: float,
) -> int:
    """The code of an occupied cell with the vector `parent` [D'], drawn by inversion at its `uniform` [P, width]."""
    D, outputs = len(values.inherit.bias), values.head.shape[1]
    x, logits = np.empty(D, np.float32), np.empty(outputs, np.float32)
    multiply(values.inherit.weight, values.inherit.bias, parent, x)
    _add(x, np.float32(1), values.place.table[p * values.place.columns + t % values.place.columns])
    seen = np.empty(len(values.sight.window.offsets), np.uint8)
    _look(first, position, memory, values.sight, rules, seen, x)
    step(x, 0, np.empty((len(values.weights.qkv), 1, 2 * D), np.float32), values.weights)
    multiply(values.head, values.row_bias[p], x, logits)
    # Nothing is held where the cell before is known to be silent or does not exist.
    held = 0
    if values.before >= 0 and (seen[values.before] & (GIVEN - 1) == 0 or t == 0):
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
