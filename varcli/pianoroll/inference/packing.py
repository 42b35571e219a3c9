"""A trained model laid out for the compiled engine: flat arrays, and a table that says where everything stands.

Shapes: n siblings, W cells of a window, C channels of a cell, D width, V vocabulary of cell values.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from varcli.pianoroll.config import FORM_ROWS
from varcli.pianoroll.inference import fields as f
from varcli.pianoroll.inference.fields import ModelArrays
from varcli.pianoroll.model.canvas import Canvas
from varcli.pianoroll.model.copy_attention import CopyAttention
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.model.level import LevelModel, View
from varcli.pianoroll.model.networks import Block, rotary_tables
from varcli.pianoroll.model.velocity_attention import VelocityAttention

ALIGNED = 16
"""Weights begin at multiples of so many numbers, a cache line."""
ONE_BY_ONE = 1_000_000
"""Iterations that are enough to unmask one child in each."""


@dataclass(frozen=True)
class Order:
    """How masked children come: `iterations` per level (None: one by one), at most `together` patches of level 0 at
    once, in `order` "random", "inner" (that of time below level 0), "scan" (at every level), or "time": one child after
    another, as levels in order have it, for models whose masked levels have no attention."""

    iterations: Sequence[int] | None = None
    together: int = 16
    order: str = "random"

    @property
    def one_by_one(self) -> bool:
        """Whether masked levels are decided as levels in order are."""
        return self.order == "time" and self.iterations is None

    def is_sorted(self, level: int) -> bool:
        """Whether children of a masked level come in the order of time."""
        return self.order in ("scan", "time") or (self.order == "inner" and level > 0)


class _Flat:
    """Arrays one after another in one, each from an aligned place on."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []
        self.size = 0

    def add(self, *arrays: Tensor | np.ndarray) -> int:
        """Append arrays, side by side; returns where the first begins."""
        at = self.size
        for array in arrays:
            part = array.detach().cpu().numpy() if isinstance(array, Tensor) else array
            self._parts.append(part.ravel())
            self.size += part.size
        padding = -self.size % ALIGNED
        self._parts.append(np.zeros(padding, np.uint8))
        self.size += padding
        return at

    def array(self, dtype: type) -> np.ndarray:
        """All of them, from a cache line on."""
        found = np.zeros(self.size + 64, dtype)
        skipped = -found.ctypes.data % 64 // found.itemsize
        found = found[skipped : skipped + self.size]
        np.concatenate(self._parts or [found], out=found, casting="unsafe")
        return found


def pack(
    model: FractalModel, canvas: Canvas, order: Order, sharp: np.ndarray, *, follows: bool, moving: bool
) -> ModelArrays:
    """The arrays of a model, for canvases like one; `sharp` f64 [L, 2] are temperature and top-p of each level.

    `follows`: decisions are those of given canvases; `moving`: what is written changes where cells may sound.
    """
    weights, offsets, rules = _Flat(), _Flat(), _Flat()
    levels = np.full((len(model.levels), f.LEVEL_FIELDS), -1, np.int64)
    for network, row in zip(model.level_models, levels, strict=True):
        _describe(model, network, canvas, order, row)
        _pack_token(network, weights, row)
        _pack_network(network, canvas, weights, row)
        children = model.tree.top(canvas.steps) if network.level == 0 else _children(model, network)
        row[f.SIBLINGS], row[f.CHILDREN] = len(children), offsets.add(children)
        row[f.WINDOW], row[f.WINDOW_CELLS] = offsets.add(canvas.flat_offsets(network)), len(network.offsets)
        row[f.WINDOW_RULES] = rules.add(_rules(network, canvas))
        if len(model.echoes):
            echo = model.echoes[network.level]
            assert isinstance(echo, CopyAttention)
            _pack_copying(echo, canvas, (weights, offsets, rules), row)
        if network.is_value and model.velocities is not None:
            _pack_velocities(model.velocities, canvas, (weights, offsets, rules), row)
    _count_rows(levels, model, canvas)
    run = _run(model, canvas, levels)
    run[f.CHANNEL_TABLE], run[f.FOLLOWS], run[f.MOVING] = weights.add(model.level_models[0].channels), follows, moving
    return ModelArrays(
        weights=weights.array(np.float32),
        levels=levels,
        run=run,
        offsets=offsets.array(np.int64),
        rules=rules.array(np.uint8),
        sharp=sharp,
        calls=np.zeros(2, np.int64),
    )


def _children(model: FractalModel, network: LevelModel) -> np.ndarray:
    return np.zeros((1, 2), np.int64) if network.is_value else model.tree.children[network.level]


def _describe(model: FractalModel, network: LevelModel, canvas: Canvas, order: Order, row: np.ndarray) -> None:
    """What a level is, and how its children come."""
    level = network.level
    row[f.CAUSAL], row[f.IN_ORDER] = network.is_causal, network.is_causal or order.one_by_one
    row[f.ATTENDS], row[f.WIDTH] = not network.stateless, network.width
    row[f.PARENT_WIDTH] = model.level_models[level - 1].width if level else 0
    row[f.HEIGHT], row[f.STEPS], row[f.OUTPUTS] = network.child_pitches, network.child_steps, network.head.out_features
    row[f.BAR_UNIT], row[f.STARTS] = network.bar_unit, network.start.num_embeddings if level == 0 else 0
    before = np.flatnonzero((network.offsets.cpu().numpy() == (0, -1)).all(1))
    row[f.BEFORE] = before[0] if network.is_value and len(before) else -1
    row[f.ITERATIONS] = ONE_BY_ONE if order.iterations is None else order.iterations[level]
    row[f.TOGETHER], row[f.SORTED] = order.together if level == 0 else ONE_BY_ONE, order.is_sorted(level)


def _pack_token(network: LevelModel, weights: _Flat, row: np.ndarray) -> None:
    row[f.CELLS_WEIGHT], row[f.BIAS] = weights.add(network.see.weight.t()), weights.add(network.see.bias)
    row[f.PITCH], row[f.BAR] = weights.add(network.pitch.weight), weights.add(network.bar.weight)
    row[f.STATE] = weights.add(network.state.weight)
    if network.level == 0:
        row[f.START] = weights.add(network.start.weight)
    else:
        row[f.PLACE], row[f.SPREAD] = weights.add(network.place.weight), weights.add(network.spread.weight.t())
        row[f.INHERIT] = weights.add(network.inherit.weight, network.inherit.bias)
        row[f.SHARE] = weights.add(network.share.weight, network.share.bias)
    if network.hear is not None:
        row[f.PITCH_CLASSES] = weights.add(network.hear.weight.t())
    if network.plan is not None:
        row[f.PLAN] = weights.add(network.plan.weight)
    if network.polyphony is not None:
        row[f.POLYPHONY] = weights.add(network.polyphony.weight)
    if network.metre is not None:
        row[f.METRE] = weights.add(network.metre.weight)
    head = network.head.weight if network.is_value else network.row_head.weight + network.head.weight
    row[f.HEAD], row[f.ROW_BIAS] = weights.add(head), weights.add(network.row_bias.weight + network.head.bias)


def _pack_network(network: LevelModel, canvas: Canvas, weights: _Flat, row: np.ndarray) -> None:
    """The network's weights in the order in which they are read, nothing between them."""
    parts: list[Tensor] = []

    def take(*modules: torch.nn.Module) -> None:
        for module in modules:
            parts.extend((module.weight, module.bias))  # type: ignore[arg-type]

    if network.perceptron is not None:
        take(network.perceptron.norm_in)
        for block in network.perceptron.blocks:
            norm, up, _, _, down = block.children()
            take(norm, up, down)
        take(network.perceptron.norm)
        row[f.BLOCKS] = len(network.perceptron.blocks)
    else:
        assert network.transformer is not None
        for block in network.transformer.blocks:
            assert isinstance(block, Block)
            take(block.norm1, block.attention.qkv, block.attention.out, block.norm2, block.up, block.down)
        take(network.transformer.norm)
        row[f.BLOCKS], row[f.HEADS] = len(network.transformer.blocks), network.transformer.heads
        if network.level == 0:
            tables = rotary_tables(torch.arange(canvas.columns), network.width // network.transformer.heads)
            row[f.ROTARY] = weights.add(torch.cat([table.chunk(2, -1)[0] for table in tables], -1))
    row[f.NETWORK] = weights.add(*parts)


def _pack_copying(echo: CopyAttention, canvas: Canvas, to: tuple[_Flat, _Flat, _Flat], row: np.ndarray) -> None:
    weights, offsets, rules = to
    hidden, _, last = echo.judge
    row[f.JUDGE] = weights.add(hidden.weight, hidden.bias, last.weight, last.bias)  # type: ignore[arg-type]
    row[f.COPIED_CELLS], row[f.COPIED_TRAITS] = weights.add(echo.show.weight.t()), weights.add(echo.tell.weight.t())
    later = 2 * echo.offsets[:, 1].cpu().numpy()
    later[echo.centre] += 1
    cells = canvas.flat_offsets(echo).cpu().numpy()
    row[f.COPY_WINDOW], row[f.COPY_CELLS] = offsets.add(cells, later), len(cells)
    row[f.COPY_RULES] = rules.add(_rules(echo, canvas))


def _pack_velocities(
    attention: VelocityAttention, canvas: Canvas, to: tuple[_Flat, _Flat, _Flat], row: np.ndarray
) -> None:
    weights, offsets, rules = to
    into_token, into_logits = attention.into_token, attention.into_logits
    row[f.VELOCITY_SCORES] = weights.add(attention.score)
    row[f.VELOCITY_TOKEN] = weights.add(into_token.weight, into_token.bias)
    row[f.VELOCITY_LOGITS] = weights.add(into_logits.weight, np.zeros(into_logits.out_features))
    row[f.VELOCITY_WINDOW] = offsets.add(canvas.flat_offsets(attention))
    row[f.VELOCITY_CELLS], row[f.VELOCITY_RULES] = len(attention.offsets), rules.add(_rules(attention, canvas))


def _rules(view: View, canvas: Canvas) -> np.ndarray:
    """When the cells of a window are known, u8 [positions, W], see `tokens.read_window`."""
    differs, follows = view.differs.cpu().numpy(), view.follows.cpu().numpy()
    by_mask = ~np.array(canvas.layout.is_causal)[differs] if canvas.reveal is not None else False
    return (2 * differs + follows + 128 * np.asarray(by_mask)).astype(np.uint8)


def _count_rows(levels: np.ndarray, model: FractalModel, canvas: Canvas) -> None:
    """Where the nodes of each level begin in the arrays of a sample."""
    siblings, width = levels[:, f.SIBLINGS], canvas.columns * model.tree.shapes[0][1]
    rows = model.tree.pitches // levels[:, f.HEIGHT]
    kept = siblings * levels[:, f.BLOCKS] * levels[:, f.ATTENDS]
    sizes = ((f.ROWS, siblings), (f.KEYS, kept), (f.GRID, rows * (width // levels[:, f.STEPS])), (f.FREE, rows * width))
    for field, size in sizes:
        levels[:, field] = np.cumsum(size) - size


def _run(model: FractalModel, canvas: Canvas, levels: np.ndarray) -> np.ndarray:
    options, tree = model.config.model, model.tree
    sides = f.PAST if model.layout.is_causal[0] else f.GIVEN_LATER if canvas.columns_in_order else f.BOTH
    first = model.level_models[0]
    known: dict[int, int] = {
        f.DEPTH: tree.depth,
        f.PITCHES: tree.pitches,
        f.PLAN_ROWS: tree.plan_rows,
        f.FORM_ROWS: min(tree.plan_rows, FORM_ROWS),
        f.CANVAS_STEPS: canvas.steps,
        f.STRIDE: canvas.shape[2],
        f.ORIGIN: canvas.flat(0, 0, 0),
        f.PATCH_HEIGHT: tree.shapes[0][0],
        f.COLUMN: tree.shapes[0][1],
        f.COLUMNS: canvas.columns,
        f.MASKED: canvas.reveal is not None,
        f.CONDITIONING: options.conditioning,
        f.COLUMNS_IN_ORDER: canvas.columns_in_order,
        f.KNOWS_BELOW: model.layout.knows_column_below,
        f.SIDES: sides,
        f.CANDIDATES: options.echo.candidates and options.echo.candidates + options.form,
        f.HEARS: options.tonality,
        f.CHANNELS: first.channels.shape[1],
        f.STEPS_PER_BAR: options.steps_per_bar,
        f.CONTEXT_COLUMNS: first.context_columns,
        f.BINARY: options.vocabulary == "binary",
        f.GRID_NODES: levels[tree.depth - 1, f.GRID] + tree.pitches * canvas.columns * tree.shapes[0][1],
    }
    run = np.zeros(f.RUN_FIELDS, np.int64)
    run[list(known)] = list(known.values())
    return run
