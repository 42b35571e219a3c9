"""The fractal generator: a recursion over levels, each deciding only about children of occupied parents.

`FractalModel.walk` follows a given canvas down the tree and prices every decision; training and likelihood are both
that walk. Sampling goes down the same tree in `generate`.

Shapes: B canvases, P pitches, T steps, N parents, n children of one parent, W cells of a window, D width, M decisions.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from varcli.pianoroll.config import PianorollConfig
from varcli.pianoroll.model.canvas import NEVER, Canvas, Limits
from varcli.pianoroll.model.copy_attention import Candidates, CopyAttention, agreement_below, candidates_of
from varcli.pianoroll.model.decisions import (
    Decisions,
    Draw,
    Parents,
    chunks,
    draw_parents,
    in_order,
    join,
    join_parents,
    masked,
)
from varcli.pianoroll.model.level import GIVEN, MOST_VOICES, STATE_START, LevelModel, View, hide, plain
from varcli.pianoroll.model.pitch_classes import pitch_class_features
from varcli.pianoroll.model.tree import Tree

__all__ = ["NEVER", "Canvas", "Decisions", "Draw", "FractalModel", "Limits", "Parents", "build", "forbid_held"]


class FractalModel(nn.Module):
    """Levels of a piano-roll generator; built from its config alone."""

    is_causal: Tensor

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
        self.masked = not all(level.is_causal for level in config.model.levels)
        self.scannable = self.masked and all(x.network == "mlp" for x in config.model.levels if not x.is_causal)
        self.mixed = self.masked and any(level.is_causal for level in config.model.levels)
        is_causal = torch.tensor([level.is_causal for level in config.model.levels])
        self.register_buffer("is_causal", is_causal, persistent=False)
        self.margins = self._margins()

    def _margins(self) -> tuple[int, int, int, int]:
        views = [view for view in (*self.levels, *self.echoes) if isinstance(view, View)]
        offsets = np.concatenate([view.offsets.numpy() for view in views])
        h, w = self.tree.shapes[0]
        reach = offsets.max(0) + 1
        low = np.maximum(0, -offsets.min(0))
        return int(low[0]), max(h, int(reach[0])), int(low[1]), max(w, int(reach[1]))

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
        return self.is_causal.device

    def rows_known_below(self, pitch: Tensor) -> Tensor:
        """How many rows of its column a node at `pitch` knows to be complete below it (column-major AR level 0)."""
        h, w = self.tree.shapes[0]
        return pitch if w == 1 and self.level_models[0].is_causal else pitch // h * h

    def windows(self, level: View, canvas: Canvas, at_Nn: Parents) -> Tensor:
        """Codes u8 [N, n, W] that nodes see, UNKNOWN where scan order or masks hide them."""
        # 32-bit indices and plain row gathers: this is the hottest memory traffic of training.
        first = canvas.flat(at_Nn.canvas, at_Nn.pitch, at_Nn.step).int()
        return self.look_at(level, canvas, first, self.tree.position(level.level, at_Nn.pitch, at_Nn.step))

    def look_at(self, level: View, canvas: Canvas, first_Nn: Tensor, position_Nn: Tensor) -> Tensor:
        """The same for nodes whose first cell lies at `first` i32 in the flat memory, at `position` in their patch."""
        shape = (*first_Nn.shape, len(level.offsets))  # -1 would fail where there are no nodes
        index = (first_Nn[..., None] + canvas.flat_offsets(level)).view(-1)
        position = position_Nn.reshape(-1)
        codes = canvas.codes.view(-1).index_select(0, index).view(shape)
        if canvas.reveal is None:
            veiled = level.follows.index_select(0, position).view(shape)
        else:
            differs = level.differs.index_select(0, position).view(shape)
            veiled = canvas.reveal.view(-1).index_select(0, index).view(shape) > differs
            if self.mixed:
                follows = level.follows.index_select(0, position).view(shape)
                veiled = torch.where(self.is_causal[differs.int()], follows, veiled)
        if self.config.model.conditioning:
            veiled = veiled & (codes < GIVEN)
        return hide(codes, veiled)

    def point(self, canvas: Canvas, sheets: list[int] | None = None) -> None:
        """Find where the columns of canvases may copy from, by all that level 0 knows of them now.

        Of a batch only `sheets` are looked at anew (None: all), once all were.
        """
        if not len(self.echoes):
            return
        if sheets is None or canvas.candidates is None:
            canvas.candidates = candidates_of(canvas.known_at_top(self), self.config.model, in_order=canvas.in_order)
        else:
            known = canvas.known_at_top(self, sheets)
            canvas.candidates.replace(sheets, candidates_of(known, self.config.model, in_order=canvas.in_order))

    def recompare_candidates(self, canvas: Canvas, at_Nn: Parents) -> None:
        """Compare the columns of nodes anew with where they point, after cells were written in them.

        Only where columns are one step wide: elsewhere nodes count no more than was settled when level 0 was asked.
        """
        column = self.tree.shapes[0][1]
        if canvas.candidates is not None and column == 1 and self.level_models[0].is_causal:
            flat = (at_Nn.canvas[:, 0] * canvas.columns + at_Nn.step[:, 0]).long()
            found = canvas.candidates
            shift = found.shift.flatten(0, 1)[flat]
            below = agreement_below(canvas.known_at_top(self), shift, flat, column)
            found.below.flatten(0, 1)[flat] = below

    def more(self, level: LevelModel, canvas: Canvas, at_Nn: Parents) -> Tensor | None:
        """What pointers and the count of voices add to nodes, [N, n, D], or None."""
        x, voices = None, self.count(level, canvas, at_Nn)
        if len(self.echoes):
            echo = self.echoes[level.level]
            assert isinstance(echo, CopyAttention)
            c, p, t = at_Nn.canvas, at_Nn.pitch, at_Nn.step
            x = echo(self, canvas, c, p, t, self.tree.position(level.level, p, t))
        return x if voices is None else voices if x is None else x + voices

    def count(self, level: LevelModel, canvas: Canvas, at_Nn: Parents) -> Tensor | None:
        """What the count of voices adds to nodes, [N, n, D], or None."""
        if level.voices is None:
            return None
        first = (at_Nn.canvas * (self.tree.pitches + 1) + at_Nn.pitch) * canvas.full.shape[2] + at_Nn.step
        return level.voices(canvas.voices().view(-1)[first].clamp(max=MOST_VOICES).int())

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
        `limits`, that of the free cells among what is possible. `candidates` are those that `point` would find in
        all-AR models. `chunk` bounds the parents run at once.
        """
        if draw.scan and not self.scannable:
            raise ValueError("attention of masked levels looks at all siblings: they cannot be walked in order")
        canvas = Canvas(self, codes_BPT, steps_B, limits, in_order=draw.scan)
        canvas.candidates = candidates
        B = len(codes_BPT)
        zero = torch.zeros(B, dtype=torch.long, device=codes_BPT.device)
        parents = Parents(torch.arange(B, device=zero.device), zero, zero, None, torch.ones(B, device=zero.device))
        for level in self.level_models[: self.tree.depth]:
            total = canvas.decisions(self.tree.shapes, level.level)
            parents = draw_parents(parents, draw.parents if level.level else None, draw.generator)
            parts = [
                self._price_level(level, canvas, parents.take(rows), draw, total)
                for rows in chunks(len(parents.canvas), chunk if level.level else 1 if chunk else None, zero.device)
            ]
            yield join([part for part, _ in parts])
            parents = join_parents([children for _, children in parts])
        if self.tree.depth < len(self.levels):
            given = canvas.given_at(parents)
            parents = parents if given is None else parents.take(~given)
            total = canvas.decisions(self.tree.shapes, self.tree.depth)
            parents = draw_parents(parents, draw.parents and draw.parents * 8, draw.generator)
            rows = chunks(len(parents.canvas), chunk * 8 if chunk else None, zero.device)
            yield join([self._price_values(canvas, parents.take(index), total) for index in rows])

    def _children(self, level: LevelModel, canvas: Canvas, parents: Parents) -> tuple[Tensor, Tensor, Tensor]:
        offsets = self.tree.top(canvas.steps) if level.level == 0 else self.tree.children[level.level]
        offsets = torch.from_numpy(offsets).to(parents.canvas.device)
        p_Nn = parents.pitch[:, None] + offsets[:, 0]
        return parents.canvas[:, None].expand_as(p_Nn), p_Nn, parents.step[:, None] + offsets[:, 1]

    def _price_level(
        self, level: LevelModel, canvas: Canvas, parents: Parents, draw: Draw, total: int
    ) -> tuple[Decisions, Parents]:
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
            self._show(canvas, level, c_Nn, p_Nn, t_Nn, (t_Nn < canvas.steps_B[c_Nn]) & ~masks.asked)
        if top and canvas.candidates is None:
            self.point(canvas)
        nodes = Parents(c_Nn, p_Nn, t_Nn, None, parents.weight[:, None] * masks.scale)
        asked, free, forced, state = masks.asked, masks.free, masks.forced, masks.state
        inherited = None if parents.hidden is None else level.inherited(parents.hidden)
        if level.stateless:
            # No node looks at another: only those that matter are run, a row each.
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
            self._pitch_class_context(level, canvas, nodes),
            self.more(level, canvas, nodes),
        )
        hidden = level.attend(x, t_Nn)
        logits = level.decide(hidden, p_Nn).float()
        nats = F.binary_cross_entropy_with_logits(logits, occupied.float(), reduction="none").masked_fill(forced, 0.0)
        weight = nodes.weight.expand_as(nats)
        priced = Decisions(level.level, nats[free], weight[free], c_Nn[free], p_Nn[free], t_Nn[free], total)
        go_on = asked & occupied
        return priced, Parents(c_Nn[go_on], p_Nn[go_on], t_Nn[go_on], hidden[go_on], weight[go_on])

    def _pitch_class_context(self, level: LevelModel, canvas: Canvas, at_Nn: Parents) -> Tensor | None:
        """What nodes hear of the key, [N, n, FEATURES], or None if the model has no ear for it.

        It is counted once, when level 0 has settled what is known: whole columns before, or unmasked patches.
        """
        if not self.config.model.tonality:
            return None
        if level.level == 0:
            canvas.pitch_class_counts = canvas.heard(self)
        assert canvas.pitch_class_counts is not None
        column = at_Nn.canvas * canvas.columns + at_Nn.step // self.tree.shapes[0][1]
        return pitch_class_features(canvas.pitch_class_counts, column, at_Nn.pitch)

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
        sounds = self._pitch_class_context(level, canvas, nodes)
        place, more = level.locate(nodes.pitch, nodes.step), self.more(level, canvas, nodes)
        x = level.embed(seen, place, state, level.inherited(cells.hidden), sounds, more)
        logits = level.decide(level.attend(x, nodes.step), nodes.pitch).float()
        logits = forbid_held(level, logits, seen, nodes.step).squeeze(1)
        code = plain(canvas.codes.view(-1)[canvas.flat(cells.canvas, cells.pitch, cells.step)]).long()
        nats = F.cross_entropy(logits, code - 1, reduction="none")
        return Decisions(level.level, nats, cells.weight, cells.canvas, cells.pitch, cells.step, total)


def forbid_held(level: LevelModel, logits_NnV: Tensor, seen_NnW: Tensor, t_Nn: Tensor) -> Tensor:
    """Give "held" no probability where the cell before it is known to be silent or does not exist."""
    before = ((level.offsets[:, 0] == 0) & (level.offsets[:, 1] == -1)).nonzero()
    if len(before) == 0:
        return logits_NnV
    impossible = (seen_NnW[..., int(before[0, 0])] & (GIVEN - 1) == 0) | (t_Nn == 0)
    held = torch.zeros(logits_NnV.shape[-1], dtype=torch.bool, device=logits_NnV.device)
    held[0] = True
    return logits_NnV.masked_fill(impossible[..., None] & held, float("-inf"))


def build(config: PianorollConfig) -> FractalModel:
    """A model with fresh weights from its config."""
    return FractalModel(config)
