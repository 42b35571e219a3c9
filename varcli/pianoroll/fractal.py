"""The fractal generator: a recursion over levels, each deciding only about children of occupied parents.

`FractalModel.walk` follows a given canvas down the tree and prices every decision; training and likelihood are both
that walk. Sampling goes down the same tree in `generate`.

Shapes: B canvases, P pitches, T steps, N parents, n children of one parent, W cells of a window, D width, M decisions.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from varcli.pianoroll.config import PianorollConfig
from varcli.pianoroll.level import STATE_EMPTY, STATE_MASKED, STATE_OCCUPIED, STATE_START, UNKNOWN, LevelModel
from varcli.pianoroll.tonality import PITCH_CLASSES, heard, rotations
from varcli.pianoroll.tree import Tree

NEVER = 255
"""Reveal level of a cell that no masked level shows."""


@dataclass(frozen=True)
class Parents:
    """Nodes whose children come next: canvas index [N], first pitch and step [N], hidden vector [N, D], weight [N].

    The weight makes sums over drawn nodes unbiased: one over the probability that the node was drawn and priced.
    """

    canvas: Tensor
    pitch: Tensor
    step: Tensor
    hidden: Tensor | None
    weight: Tensor

    def take(self, index: Tensor) -> "Parents":
        """The parents at `index` (integers or booleans)."""
        hidden = None if self.hidden is None else self.hidden[index]
        return Parents(self.canvas[index], self.pitch[index], self.step[index], hidden, self.weight[index])


@dataclass(frozen=True)
class Decisions:
    """Priced decisions of one level: nats [M] and their weight [M], and where they stand: canvas, pitch, step [M].

    `total` counts the children, on the canvas or not, of all the parents that the level above left to choose from.
    """

    level: int
    nats: Tensor
    weight: Tensor
    canvas: Tensor
    pitch: Tensor
    step: Tensor
    total: int


@dataclass(frozen=True)
class Draw:
    """How a walk draws: MAR masks and parents come from `generator`; `parents` caps the parents per inner level.

    `known_share` in [0, 1), if given, takes the place of the uniform number that says how much of level 0 is known, so
    that who scores canvases one by one can spread it evenly over them.
    """

    generator: torch.Generator
    parents: int | None = None
    known_share: float | None = None


class Canvas:
    """Cell codes u8 [B, P, T] inside a margin wide enough for every window, and where cells lie in the flat memory.

    `steps_B` [B] says how long each canvas really is; what lies beyond is padding and never asked about.
    `reveal` u8 of the same size holds the masked level that shows a cell (NEVER if none does).
    """

    def __init__(self, model: "FractalModel", codes_BPT: Tensor, steps_B: Tensor | None = None) -> None:
        B, P, T = codes_BPT.shape
        low_p, high_p, low_t, high_t = model.margins
        width = model.tree.columns(T) * model.tree.shapes[0][1]
        self.columns = model.tree.columns(T)
        self.steps = T
        self.steps_B = torch.full((B,), T, device=codes_BPT.device) if steps_B is None else steps_B
        self.shape = (B, P + low_p + high_p, width + low_t + high_t)
        self.codes = codes_BPT.new_full(self.shape, 0)
        self.inner = self.codes[:, low_p : low_p + P, low_t : low_t + T]
        self.inner.copy_(codes_BPT)
        self.full = self.codes[:, low_p : low_p + P, low_t : low_t + width]
        self.reveal = torch.full_like(self.codes, NEVER) if model.masked else None
        self.heard_rows: Tensor | None = None
        self._offsets: dict[int, Tensor] = {}
        self._origin = low_p * self.shape[2] + low_t
        if model.masked:
            # Outside the canvas nothing is known: the models must work without seeing where a piece ends.
            self._hide_outside()

    def _hide_outside(self) -> None:
        """Mark everything but the canvas itself as unknown."""
        inner = self.inner.clone()
        self.codes.fill_(UNKNOWN)
        beyond = torch.arange(self.steps, device=inner.device) >= self.steps_B[:, None]
        self.inner.copy_(inner.masked_fill(beyond[:, None], UNKNOWN))

    def flat(self, canvas: Any, pitch: Any, step: Any) -> Any:
        """Index of cells in the flat memory; numbers, tensors and numpy arrays go in and come out alike."""
        return canvas * (self.shape[1] * self.shape[2]) + pitch * self.shape[2] + step + self._origin

    def flat_offsets(self, level: LevelModel) -> Tensor:
        """Window offsets of a level as distances in the flat memory, i32 [W]."""
        if level.level not in self._offsets:
            self._offsets[level.level] = (level.offsets[:, 0] * self.shape[2] + level.offsets[:, 1]).int()
        return self._offsets[level.level]

    def heard(self, model: "FractalModel") -> Tensor:
        """What nodes of each column may know of the pitch classes, as rows per class (see tonality.rotations)."""
        B, P, width = self.full.shape
        on = (self.full > 0) & (self.full < UNKNOWN)
        in_order = model.level_models[0].kind == "ar"
        if not in_order and self.reveal is not None:
            low_p, _, low_t, _ = model.margins
            on = on & (self.reveal[:, low_p : low_p + P, low_t : low_t + width] == 0)
        return rotations(heard(on.view(B, P, self.columns, -1), past_only=in_order))

    def occupancy(self, shape: tuple[int, int]) -> Tensor:
        """Whether each node of a shape holds anything, bool [B, P / h, columns]."""
        h, w = shape
        B, P, width = self.full.shape
        on = (self.full > 0) & (self.full < UNKNOWN)
        return on.reshape(B, P // h, h, width // w, w).any(4).any(2)


class FractalModel(nn.Module):
    """Levels of a piano-roll generator; built from its config alone."""

    is_ar: Tensor

    def __init__(self, config: PianorollConfig) -> None:
        super().__init__()
        self.config = config
        self.tree = Tree.of(config.model)
        levels, width = [], 0
        for index, options in enumerate(config.model.levels):
            levels.append(LevelModel(index, config.model, self.tree, width))
            width = options.width
        self.levels = nn.ModuleList(levels)
        self.masked = any(level.kind == "mar" for level in config.model.levels)
        self.mixed = self.masked and any(level.kind == "ar" for level in config.model.levels)
        is_ar = torch.tensor([level.kind == "ar" for level in config.model.levels])
        self.register_buffer("is_ar", is_ar, persistent=False)
        self.margins = self._margins()

    def _margins(self) -> tuple[int, int, int, int]:
        offsets = np.concatenate([level.offsets.numpy() for level in self.level_models])
        h, w = self.tree.shapes[0]
        reach = offsets.max(0) + 1
        low = np.maximum(0, -offsets.min(0))
        return int(low[0]), max(h, int(reach[0])), int(low[1]), max(w, int(reach[1]))

    @property
    def level_models(self) -> list[LevelModel]:
        """The levels, coarse to fine."""
        return [level for level in self.levels if isinstance(level, LevelModel)]

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.is_ar.device

    def windows(self, level: LevelModel, canvas: Canvas, at_Nn: Parents) -> Tensor:
        """Codes u8 [N, n, W] that nodes see, UNKNOWN where scan order or masks hide them."""
        # 32-bit indices and plain row gathers: this is the hottest memory traffic of training.
        first = canvas.flat(at_Nn.canvas, at_Nn.pitch, at_Nn.step).int()
        return self.look_at(level, canvas, first, self.tree.position(level.level, at_Nn.pitch, at_Nn.step))

    def look_at(self, level: LevelModel, canvas: Canvas, first_Nn: Tensor, position_Nn: Tensor) -> Tensor:
        """The same for nodes whose first cell lies at `first` i32 in the flat memory, at `position` in their patch."""
        shape = (*first_Nn.shape, len(level.offsets))  # -1 would fail where there are no nodes
        index = (first_Nn[..., None] + canvas.flat_offsets(level)).view(-1)
        position = position_Nn.reshape(-1)
        codes = canvas.codes.view(-1).index_select(0, index).view(shape)
        if canvas.reveal is None:
            return codes.masked_fill_(level.follows.index_select(0, position).view(shape), UNKNOWN)
        differs = level.differs.index_select(0, position).view(shape)
        veiled = canvas.reveal.view(-1).index_select(0, index).view(shape) > differs
        if self.mixed:
            follows = level.follows.index_select(0, position).view(shape)
            veiled = torch.where(self.is_ar[differs.int()], follows, veiled)
        return codes.masked_fill_(veiled, UNKNOWN)

    def walk(
        self, codes_BPT: Tensor, draw: Draw, *, steps_B: Tensor | None = None, chunk: int | None = None
    ) -> Iterator[Decisions]:
        """Price a batch of canvases of cell codes u8 [B, P, T], of which `steps_B` count (all), level by level.

        Sums of `nats * weight` are the exact NLL in nats where every level is AR and no parents are drawn, and an
        unbiased estimate of the (order-averaged) NLL otherwise. `chunk` bounds the parents run at once.
        """
        canvas = Canvas(self, codes_BPT, steps_B)
        B = len(codes_BPT)
        zero = torch.zeros(B, dtype=torch.long, device=codes_BPT.device)
        parents = Parents(torch.arange(B, device=zero.device), zero, zero, None, torch.ones(B, device=zero.device))
        for level in self.level_models[: self.tree.depth]:
            total = len(parents.canvas) * (level.siblings if level.level else len(self.tree.top(canvas.steps)))
            parents = _draw_parents(parents, draw if level.level else replace(draw, parents=None))
            parts = [
                self._price_level(level, canvas, parents.take(rows), draw, total)
                for rows in _chunks(len(parents.canvas), chunk if level.level else 1 if chunk else None, zero.device)
            ]
            yield _join([part for part, _ in parts])
            parents = _join_parents([children for _, children in parts])
        if self.tree.depth < len(self.levels):
            total = len(parents.canvas)
            parents = _draw_parents(parents, replace(draw, parents=draw.parents * 8) if draw.parents else draw)
            rows = _chunks(len(parents.canvas), chunk * 8 if chunk else None, zero.device)
            yield _join([self._price_values(canvas, parents.take(index), total) for index in rows])

    def _price_level(
        self, level: LevelModel, canvas: Canvas, parents: Parents, draw: Draw, total: int
    ) -> tuple[Decisions, Parents]:
        offsets = self.tree.top(canvas.steps) if level.level == 0 else self.tree.children[level.level]
        offsets = torch.from_numpy(offsets).to(parents.canvas.device)
        p_Nn = parents.pitch[:, None] + offsets[:, 0]
        t_Nn = parents.step[:, None] + offsets[:, 1]
        c_Nn = parents.canvas[:, None].expand_as(p_Nn)
        h, w = self.tree.shapes[level.level]
        occupied = canvas.occupancy((h, w))[c_Nn, p_Nn // h, t_Nn // w]
        exists = t_Nn < canvas.steps_B[c_Nn]
        if level.kind == "ar":
            asked, forced, state, scale = _in_order(occupied, exists)
        else:
            share = draw.known_share if level.level == 0 else None
            asked, forced, state, scale = _masked(occupied, exists, draw.generator, share)
            self._show(canvas, level, c_Nn, p_Nn, t_Nn, exists & ~asked)
        if level.level == 0:
            forced = torch.zeros_like(forced)
        nodes = Parents(c_Nn, p_Nn, t_Nn, None, parents.weight[:, None] * scale)
        inherited = None if parents.hidden is None else level.inherited(parents.hidden)
        seen, sounds = self.windows(level, canvas, nodes), self._listen(level, canvas, nodes)
        x = level.embed(seen, level.locate(p_Nn, t_Nn), state, inherited, sounds)
        hidden = level.attend(x, t_Nn)
        logits = level.decide(hidden, p_Nn).float()
        nats = F.binary_cross_entropy_with_logits(logits, occupied.float(), reduction="none").masked_fill(forced, 0.0)
        weight = nodes.weight.expand_as(nats)
        priced = Decisions(level.level, nats[asked], weight[asked], c_Nn[asked], p_Nn[asked], t_Nn[asked], total)
        go_on = asked & occupied
        return priced, Parents(c_Nn[go_on], p_Nn[go_on], t_Nn[go_on], hidden[go_on], weight[go_on])

    def _listen(self, level: LevelModel, canvas: Canvas, at_Nn: Parents) -> Tensor | None:
        """What nodes hear of the key, [N, n, FEATURES], or None if the model has no ear for it.

        It is counted once, when level 0 has settled what is known: whole columns before, or unmasked patches.
        """
        if not self.config.model.tonality:
            return None
        if level.level == 0:
            canvas.heard_rows = canvas.heard(self)
        assert canvas.heard_rows is not None
        column = at_Nn.canvas * canvas.columns + at_Nn.step // self.tree.shapes[0][1]
        return F.embedding(column * PITCH_CLASSES + at_Nn.pitch % PITCH_CLASSES, canvas.heard_rows)

    def _show(
        self, canvas: Canvas, level: LevelModel, c_Nn: Tensor, p_Nn: Tensor, t_Nn: Tensor, known_Nn: Tensor
    ) -> None:
        """Note in the canvas that a masked level shows the cells of known children."""
        assert canvas.reveal is not None
        h, w = self.tree.shapes[level.level]
        first = canvas.flat(c_Nn, p_Nn, t_Nn)[known_Nn]
        rows = torch.arange(h, device=first.device)[:, None] * canvas.shape[2] + torch.arange(w, device=first.device)
        canvas.reveal.view(-1)[(first[:, None] + rows.flatten()).flatten()] = level.level

    def _price_values(self, canvas: Canvas, cells: Parents, total: int) -> Decisions:
        level = self.level_models[-1]
        nodes = Parents(cells.canvas[:, None], cells.pitch[:, None], cells.step[:, None], None, cells.weight[:, None])
        seen = self.windows(level, canvas, nodes)
        assert cells.hidden is not None
        state = torch.full_like(nodes.pitch, STATE_START)
        sounds = self._listen(level, canvas, nodes)
        x = level.embed(seen, level.locate(nodes.pitch, nodes.step), state, level.inherited(cells.hidden), sounds)
        logits = level.decide(level.attend(x, nodes.step), nodes.pitch).float()
        logits = forbid_held(level, logits, seen, nodes.step).squeeze(1)
        code = canvas.codes.view(-1)[canvas.flat(cells.canvas, cells.pitch, cells.step)].long()
        nats = F.cross_entropy(logits, code - 1, reduction="none")
        return Decisions(level.level, nats, cells.weight, cells.canvas, cells.pitch, cells.step, total)


def forbid_held(level: LevelModel, logits_NnV: Tensor, seen_NnW: Tensor, t_Nn: Tensor) -> Tensor:
    """Give "held" no probability where the cell before it is known to be silent or does not exist."""
    before = ((level.offsets[:, 0] == 0) & (level.offsets[:, 1] == -1)).nonzero()
    if len(before) == 0:
        return logits_NnV
    impossible = (seen_NnW[..., int(before[0, 0])] == 0) | (t_Nn == 0)
    held = torch.zeros(logits_NnV.shape[-1], dtype=torch.bool, device=logits_NnV.device)
    held[0] = True
    return logits_NnV.masked_fill(impossible[..., None] & held, float("-inf"))


def _in_order(occupied: Tensor, exists: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """AR: every child is asked about; the last one of a parent that had none so far is forced."""
    after = torch.cumsum(occupied.int(), 1) - occupied.int()
    last = exists.shape[1] - 1 - exists.flip(1).int().argmax(1, keepdim=True)
    forced = (after == 0) & (torch.arange(exists.shape[1], device=last.device) == last)
    state = torch.where(occupied, STATE_OCCUPIED, STATE_EMPTY).roll(1, 1)
    state[:, 0] = STATE_START
    return exists, forced, state, torch.ones(len(exists), 1, device=exists.device)


def _masked(
    occupied: Tensor, exists: Tensor, generator: torch.Generator, share: float | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """MAR: a uniform number of children, drawn at random, is known; the others are asked about.

    A child asked about after k of n known ones stands for n / (n - k) decisions of a random order.
    """
    N, n = occupied.shape
    device = exists.device
    count = exists.sum(1, keepdim=True)
    # One stratified draw over the batch: less noise than independent ones, and each is still uniform.
    first = torch.rand(1, generator=generator) if share is None else torch.tensor([share])
    u = (first + torch.randperm(N, generator=generator) / N).remainder(1)[:, None].to(device)
    known_count = (u * count).long().clamp(max=count - 1)
    order = torch.rand(N, n, generator=generator).to(device).masked_fill(~exists, 2.0).argsort(1).argsort(1)
    known = order < known_count
    asked = exists & ~known
    forced = asked & (known_count == count - 1) & ~(known & occupied).any(1, keepdim=True)
    state = torch.where(occupied, STATE_OCCUPIED, STATE_EMPTY).masked_fill(asked, STATE_MASKED)
    return asked, forced, state, count / (count - known_count).float()


def _draw_parents(parents: Parents, draw: Draw) -> Parents:
    N = len(parents.canvas)
    if draw.parents is None or draw.parents >= N:
        return parents
    index = torch.randperm(N, generator=draw.generator)[: draw.parents].to(parents.canvas.device)
    return replace(parents.take(index), weight=parents.weight[index] * (N / draw.parents))


def _chunks(count: int, size: int | None, device: torch.device) -> list[Tensor]:
    index = torch.arange(count, device=device)
    return [index] if size is None or count <= size else list(index.split(size))


def _join(parts: list[Decisions]) -> Decisions:
    if len(parts) == 1:
        return parts[0]
    columns = ("nats", "weight", "canvas", "pitch", "step")
    return replace(parts[0], **{name: torch.cat([getattr(part, name) for part in parts]) for name in columns})


def _join_parents(parts: list[Parents]) -> Parents:
    if len(parts) == 1:
        return parts[0]
    hidden = torch.cat([part.hidden for part in parts if part.hidden is not None])
    joined = {
        name: torch.cat([getattr(part, name) for part in parts]) for name in ("canvas", "pitch", "step", "weight")
    }
    return Parents(**joined, hidden=hidden)


def build(config: PianorollConfig) -> FractalModel:
    """A model with fresh weights from its config."""
    return FractalModel(config)
