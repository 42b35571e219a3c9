"""The fractal generator: a recursion over levels, each deciding only about children of occupied parents.

`FractalModel.walk` follows a given canvas down the tree and prices every decision; training and likelihood are both
that walk. Sampling goes down the same tree, see `generation.scheduler`.

Shapes: B canvases, P pitches, T steps, N parents, n children of one parent, W cells of a window, D width, M decisions.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from varcli.pianoroll.config import PianorollConfig
from varcli.pianoroll.constants import GIVEN, STATE_START
from varcli.pianoroll.model.canvas import Canvas, CanvasLayout, Limits
from varcli.pianoroll.model.context import Context
from varcli.pianoroll.model.copy_attention import Candidates, CopyAttention
from varcli.pianoroll.model.decisions import (
    Decisions,
    Draw,
    Parents,
    chunks,
    draw_parents,
    in_order,
    join,
    masked,
)
from varcli.pianoroll.model.level import LevelModel, View, plain
from varcli.pianoroll.model.tree import Tree
from varcli.pianoroll.model.velocity_attention import VelocityAttention


class FractalModel(nn.Module):
    """Levels of a piano-roll generator; built from its config alone."""

    def __init__(self, config: PianorollConfig) -> None:
        super().__init__()
        self.config = config
        self.tree = Tree.of(config.model)
        levels, echoes, width = [], [], 0
        for index, options in enumerate(config.model.levels):
            levels.append(LevelModel(index, config.model, self.tree, width))
            if config.model.echo.candidates:
                echoes.append(CopyAttention(index, config.model, self.tree, options.width))
            width = options.width
        self.levels = nn.ModuleList(levels)
        self.echoes = nn.ModuleList(echoes)
        self.velocities = VelocityAttention(config.model, self.tree) if config.model.velocity_attention else None
        self.masked = not all(level.is_causal for level in config.model.levels)
        self.scannable = self.masked and all(x.network == "mlp" for x in config.model.levels if not x.is_causal)
        self.layout = self._layout()

    def _layout(self) -> CanvasLayout:
        views = [view for view in (*self.levels, *self.echoes, self.velocities) if isinstance(view, View)]
        offsets = np.concatenate([view.offsets.numpy() for view in views])
        options, (h, w) = self.config.model, self.tree.shapes[0]
        low, high = np.maximum(0, -offsets.min(0)), np.maximum((h, w), offsets.max(0) + 1)
        return CanvasLayout(
            pitches=options.rows,
            patch=(h, w),
            margins=(int(low[0]), int(high[0]), int(low[1]), int(high[1])),
            is_causal=tuple(level.is_causal for level in options.levels),
            conditioning=options.conditioning,
            has_held=options.vocabulary == "notes",
            plan_rows=options.plan_rows,
        )

    @property
    def level_models(self) -> list[LevelModel]:
        """The levels, coarse to fine."""
        return [level for level in self.levels if isinstance(level, LevelModel)]

    @property
    def parts(self) -> "list[FractalModel]":
        """The models it is made of: itself."""
        return [self]

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.level_models[0].offsets.device

    def windows(self, level: View, canvas: Canvas, nodes: Parents) -> Tensor:
        """Codes u8 [N, n, W] in the windows of nodes, UNKNOWN where scan order or masks hide them."""
        first = canvas.flat(nodes.canvas, nodes.pitch, nodes.step).int()
        return canvas.windows(level, first, self.tree.position(level.level, nodes.pitch, nodes.step))

    def more(self, level: LevelModel, context: Context, nodes: Parents) -> Tensor | None:
        """What copy attention, the plan, the number of notes and the metre add to nodes, [N, n, D], or None."""
        below = self.polyphony(level, context, nodes)
        if level.metre is not None:
            metre = level.metre(context.canvas.metres(nodes))
            below = metre if below is None else below + metre
        said = context.harmony(level.level, nodes)
        if said is not None and level.plan is not None:
            planned = F.embedding_bag(said.view(-1, said.shape[-1]), level.plan.weight, mode="sum").view(
                *said.shape[:-1], -1
            )
            below = planned if below is None else below + planned
        if not len(self.echoes):
            return below
        assert context.candidates is not None
        position = self.tree.position(level.level, nodes.pitch, nodes.step)
        copied = self.echoes[level.level](context.canvas, context.candidates, nodes, position)
        return copied if below is None else copied + below

    def polyphony(self, level: LevelModel, context: Context, nodes: Parents) -> Tensor | None:
        """What the number of notes below them adds to nodes, [N, n, D], or None."""
        return None if level.polyphony is None else level.polyphony(context.notes_below(nodes))

    def walk(
        self,
        codes_BPT: Tensor,
        draw: Draw,
        *,
        steps_B: Tensor | None = None,
        limits: Limits | None = None,
        candidates: Candidates | None = None,
        chunk: int | None = None,
    ) -> Iterator[Decisions]:
        """Price a batch of canvases of cell codes u8 [B, P, T], of which `steps_B` count (all), level by level.

        Sums of `nats * weight` are the exact NLL in nats where every level is AR, or masked levels are walked as such
        (`draw.scan`), and nothing is drawn; they are an unbiased estimate of the (order-averaged) NLL otherwise; under
        `limits`, that of the free cells among what is possible. `candidates` are those that
        `Context.find_candidates` would find in all-AR models. `chunk` bounds the parents run at once.
        """
        if draw.scan and not self.scannable:
            raise ValueError("attention of masked levels reaches all siblings: they cannot be walked in order")
        canvas = Canvas(self.layout, codes_BPT, steps_B, limits, in_order=draw.scan)
        context = Context(self.config.model, canvas, candidates)
        B = len(codes_BPT)
        zero = torch.zeros(B, dtype=torch.long, device=codes_BPT.device)
        parents = Parents(torch.arange(B, device=zero.device), zero, zero, None, torch.ones(B, device=zero.device))
        for level in self.level_models[: self.tree.depth]:
            total = canvas.decisions(self.tree.shapes, level.level)
            parents = draw_parents(parents, draw.parents if level.level else None, draw.generator)
            parts = [
                self._price_level(level, context, parents.take(rows), draw, total)
                for rows in chunks(len(parents.canvas), chunk if level.level else 1 if chunk else None, zero.device)
            ]
            yield join([part for part, _ in parts])
            parents = join([children for _, children in parts])
        if self.tree.depth < len(self.levels):
            given = canvas.given_at(parents)
            parents = parents if given is None else parents.take(~given)
            total = canvas.decisions(self.tree.shapes, self.tree.depth)
            parents = draw_parents(parents, draw.parents and draw.parents * 8, draw.generator)
            rows = chunks(len(parents.canvas), chunk * 8 if chunk else None, zero.device)
            yield join([self._price_values(context, parents.take(index), total) for index in rows])

    def _children(self, level: LevelModel, canvas: Canvas, parents: Parents) -> tuple[Tensor, Tensor, Tensor]:
        offsets = self.tree.top(canvas.steps) if level.level == 0 else self.tree.children[level.level]
        offsets = torch.from_numpy(offsets).to(parents.canvas.device)
        p_Nn = parents.pitch[:, None] + offsets[:, 0]
        return parents.canvas[:, None].expand_as(p_Nn), p_Nn, parents.step[:, None] + offsets[:, 1]

    def _price_level(
        self, level: LevelModel, context: Context, parents: Parents, draw: Draw, total: int
    ) -> tuple[Decisions, Parents]:
        canvas = context.canvas
        c_Nn, p_Nn, t_Nn = self._children(level, canvas, parents)
        h, w = self.tree.shapes[level.level]
        at = (c_Nn, p_Nn // h, t_Nn // w)
        occupied = canvas.occupancy((h, w))[at]
        can, must = canvas.feasible((h, w))
        can, must = can[at], None if must is None else must[at]
        top = level.level == 0
        if level.is_causal or canvas.reveal is None:
            masks = in_order(occupied, can, must, top=top, is_masked=not level.is_causal)
        else:
            masks = masked(occupied, can, must, draw, top=top)
            known = (t_Nn < canvas.steps_B[c_Nn]) & ~masks.asked
            canvas.show(level.level, (h, w), canvas.flat(c_Nn, p_Nn, t_Nn)[known])
        if top and context.candidates is None and len(self.echoes):
            context.find_candidates()
        nodes = Parents(c_Nn, p_Nn, t_Nn, None, parents.weight[:, None] * masks.scale)
        asked, free, forced, state = masks.asked, masks.free, masks.forced, masks.state
        inherited = None if parents.hidden is None else level.inherited(parents.hidden)
        if level.stateless:
            # There is no attention between nodes: only those that matter are run, a row each.
            pick = asked.nonzero(as_tuple=True)
            scale = 1.0
            if top and draw.top is not None and draw.top < len(pick[0]):
                drawn = torch.randperm(len(pick[0]), generator=draw.generator)[: draw.top].to(c_Nn.device)
                scale, pick = len(pick[0]) / draw.top, (pick[0][drawn], pick[1][drawn])
            weight = nodes.weight.expand_as(p_Nn)[pick][:, None] * scale
            nodes = Parents(c_Nn[pick][:, None], p_Nn[pick][:, None], t_Nn[pick][:, None], None, weight)
            asked, free, forced, state, occupied = (x[pick][:, None] for x in (asked, free, forced, state, occupied))
            inherited = None if inherited is None else inherited[pick][:, None]
        c_Nn, p_Nn, t_Nn = nodes.canvas, nodes.pitch, nodes.step
        x = level.embed(
            self.windows(level, canvas, nodes),
            level.locate(p_Nn, t_Nn),
            state,
            inherited,
            context.pitch_class_features(level.level, nodes),
            self.more(level, context, nodes),
        )
        hidden = level.attend(x, t_Nn)
        logits = level.decide(hidden, p_Nn).float()
        nats = F.binary_cross_entropy_with_logits(logits, occupied.float(), reduction="none").masked_fill(forced, 0.0)
        weight = nodes.weight.expand_as(nats)
        priced = Decisions(level.level, nats[free], weight[free], c_Nn[free], p_Nn[free], t_Nn[free], total)
        go_on = asked & occupied
        return priced, Parents(c_Nn[go_on], p_Nn[go_on], t_Nn[go_on], hidden[go_on], weight[go_on])

    def _price_values(self, context: Context, cells: Parents, total: int) -> Decisions:
        level, canvas = self.level_models[-1], context.canvas
        nodes = Parents(cells.canvas[:, None], cells.pitch[:, None], cells.step[:, None], None, cells.weight[:, None])
        codes_NnW = self.windows(level, canvas, nodes)
        assert cells.hidden is not None
        state = torch.full_like(nodes.pitch, STATE_START)
        sounds = context.pitch_class_features(level.level, nodes)
        place, more = level.locate(nodes.pitch, nodes.step), self.more(level, context, nodes)
        x = level.embed(codes_NnW, place, state, level.inherited(cells.hidden), sounds, more)
        louder = None
        if self.velocities is not None:
            into_token, louder = self.velocities(self.windows(self.velocities, canvas, nodes))
            x = x + into_token
        logits = level.decide(level.attend(x, nodes.step), nodes.pitch).float()
        if louder is not None:
            logits = logits + F.pad(louder.float(), (1, 0))
        logits = forbid_held(level, logits, codes_NnW, nodes.step).squeeze(1)
        code = plain(canvas.codes.view(-1)[canvas.flat(cells.canvas, cells.pitch, cells.step)]).long()
        nats = F.cross_entropy(logits, code - 1, reduction="none")
        return Decisions(level.level, nats, cells.weight, cells.canvas, cells.pitch, cells.step, total)


def forbid_held(level: LevelModel, logits_NnV: Tensor, codes_NnW: Tensor, t_Nn: Tensor) -> Tensor:
    """Give "held" no probability where the cell before it is known to be silent or does not exist."""
    before = ((level.offsets[:, 0] == 0) & (level.offsets[:, 1] == -1)).nonzero()
    if len(before) == 0:
        return logits_NnV
    impossible = (codes_NnW[..., int(before[0, 0])] & (GIVEN - 1) == 0) | (t_Nn == 0)
    held = torch.zeros(logits_NnV.shape[-1], dtype=torch.bool, device=logits_NnV.device)
    held[0] = True
    return logits_NnV.masked_fill(impossible[..., None] & held, float("-inf"))
