"""The inference engine: one level run for several groups of siblings at once, from windows to logits.

Siblings of an in-order level keep the keys and values of their decided children, so that only the children asked about
run. What of a child's token stays the same while its family is decided is added up once.

Shapes: R families asked together, m children of each run, M = R * m, n children of a family, W cells of a window, D
width.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from varcli.pianoroll.inference.level_weights import LevelWeights, Size
from varcli.pianoroll.inference.packed_transformer import KVCache
from varcli.pianoroll.model.decisions import Parents
from varcli.pianoroll.model.fractal import Canvas, FractalModel
from varcli.pianoroll.model.level import LevelModel
from varcli.pianoroll.model.pitch_classes import PITCH_CLASSES, features_by_class
from varcli.pianoroll.sampling.policy import DecisionPolicy
from varcli.pianoroll.sampling.siblings import Filled, Request, Response, Siblings, SiblingTokens

DRAFT_ALONE = (6, 4, 8)
"""Children of level 0, level 1 and finer ones in one all-silent draft, for a single sample: its cost is the number of
requests, but a long draft is seldom used to its end."""
DRAFT_TOGETHER = (4, 4, 6)
"""The same for several samples, whose cost is the number of children."""


def draft_lengths(model: FractalModel, policies: Sequence[DecisionPolicy], speculates: bool) -> list[int]:
    """Children of each level decided in one look on the assumption that they are silent (1: none assumed).

    Where masks say what is known, silence differs from what is unknown, so that an assumption would be seen.
    """
    if not speculates:
        return [1] * len(model.levels)
    top, second, finer = DRAFT_ALONE if len(policies) == 1 else DRAFT_TOGETHER
    column = model.tree.pitches // model.tree.shapes[0][0]
    siblings = [level.siblings for level in model.level_models[1:]]
    return [min(top, column), *(min(finer if index else second, n) for index, n in enumerate(siblings))]


def reach(model: FractalModel, policies: Sequence[DecisionPolicy], ahead: Sequence[int], speculates: bool) -> list[int]:
    """The most children of each level that run in one look: whole families, where a policy must see them."""
    if not speculates or not any(policy.needs_all_siblings for policy in policies):
        return list(ahead)
    return [ahead[0], *(level.siblings for level in model.level_models[1:])][: len(ahead)]


class Engine:
    """Answers the requests of one batch of samples, whose canvases it reads as they are written."""

    def __init__(
        self,
        model: FractalModel,
        canvas: Canvas,
        steps: int,
        *,
        ahead: list[int],
        cached: bool,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """`ahead` says how many children of each level run at most at once where they are decided in order.

        Products of the transformers are of `dtype`, where that pays.
        """
        self.model, self.canvas, self.tree = model, canvas, model.tree
        options = model.config.model
        self._facts = 7 if options.tonality or options.voices or options.echo.candidates else 4
        self._no_weight = torch.ones(1, device=model.device)
        self._tables = []
        for network in model.level_models:
            # In masked models several families of a sample are open at once: a row of a cache is only for level 0.
            in_order = (network.kind == "ar" or canvas.reveal is None) and not network.is_value
            keeps = in_order and (network.stateless or (cached and not (network.level and model.masked)))
            kept = ahead[network.level] if keeps else 0
            size = Size(self.tree.top(steps), canvas.columns, canvas.shape[0], kept, dtype)
            self._tables.append(LevelWeights(model, network, size))
        self._window_kernels, self._copy_kernels = [], []
        self._fused = None
        if model.device.type == "cpu":
            self._compile()

    def _compile(self) -> None:
        from varcli.pianoroll.inference.copy_kernel import CopyKernel  # numba is slow to import
        from varcli.pianoroll.inference.window_kernel import WindowKernel

        for tables in self._tables:
            network, past_only = tables.network, self._past_only(tables)
            self._window_kernels.append(
                WindowKernel(self.model, network, self.canvas, tables.seeing, past_only=past_only)
            )
            if len(self.model.echoes):
                self._copy_kernels.append(CopyKernel(self.model, network.level, self.canvas))

    @property
    def fused_level(self) -> int | None:
        """The level whose families are not asked about but filled, None if there is none."""
        return None if self._fused is None else self._fused.level

    def fill_at_once(self, policies: Sequence[DecisionPolicy]) -> None:
        """Fill families of the last level but one whenever they ask, if model and policies allow it."""
        from varcli.pianoroll.inference.fused.autoregressive import FusedAutoregressive
        from varcli.pianoroll.inference.fused.cells import samplers  # numba is slow to import
        from varcli.pianoroll.inference.fused.masked import FusedMasked

        plain = samplers(self.model, policies)
        if plain is None:
            return
        if self.model.masked:
            self._fused = FusedMasked(self.model, self.canvas, self._tables[-1], plain, self._ask)
        else:
            self._fused = FusedAutoregressive(self.model, self.canvas, (self._tables[-2], self._tables[-1]), plain)

    def __call__(self, level: int, asks: list[Request]) -> Sequence[Response | Filled]:
        """Answer requests about siblings of one level."""
        if self._fused is not None and level == self._fused.level:
            return self._fused(asks)
        starts, m = self._span(self._tables[level], asks)
        numbers, hidden = self._ask(level, asks)
        answers = []
        for index, (ask, start) in enumerate(zip(asks, starts, strict=True)):
            first = index * m + ask.start - start
            part = slice(first, first + ask.stop - ask.start)
            answers.append(Response(numbers[part], hidden[part]))
        return answers

    def _ask(self, level: int, asks: list[Request]) -> tuple[np.ndarray, Tensor]:
        """Logits [R * m] (or [R, V - 1] of values) and hidden vectors [R * m, D] of the children run, see `_span`."""
        tables = self._tables[level]
        starts, m = self._span(tables, asks)
        tokens, where, state = self._gather(tables, [ask.family for ask in asks], starts, m)
        wanted = _wanted(asks, m).to(tokens.device) if asks[0].wanted is not None and not tables.ahead else None
        if wanted is not None and tables.stack is None:
            tokens, where, state = tokens.index_select(0, wanted), where.index_select(1, wanted), state[wanted]
        codes, x = self._look(tables, where)
        x.add_(tokens).add_(tables.state.index_select(0, state))
        if level == 0 and tables.network.hear is not None:
            x.add_(tables.network.hear(self._pitch_class_context(asks).index_select(0, where[6])))
        if len(self.model.echoes) or tables.network.voices is not None:
            self._add_more(x, tables.network, where, asks)
        hidden = self._run(tables, x, asks, starts, m, wanted)
        if tables.network.is_value:
            logits = tables.decide_value(hidden, where[1], codes, where[2])
        else:
            if wanted is not None and tables.stack is not None:
                where = where.index_select(1, wanted)
            logits = tables.decide(hidden, where[1])
        if wanted is not None:
            hidden, logits = (_spread(part, wanted, len(asks) * m) for part in (hidden, logits))
        return logits.cpu().numpy(), hidden

    @staticmethod
    def _span(tables: LevelWeights, asks: list[Request]) -> tuple[list[int], int]:
        """The first child to run of every family, and how many: those asked about, or all where nothing is kept."""
        if tables.ahead:
            return [ask.start for ask in asks], max(ask.stop - ask.start for ask in asks)
        return [0] * len(asks), tables.siblings

    def _gather(
        self, tables: LevelWeights, families: list[Siblings], starts: list[int], m: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens so far [M, D] of the children to run, where they stand i64 [facts, M], and their states i64 [M]."""
        if tables.siblings == 1:
            tokens, where = self._lay_out(tables, families)
            return tokens[:, 0], where[:, :, 0], torch.zeros(len(families), dtype=torch.long, device=tokens.device)
        missing = [family for family in families if family.fixed is None]
        if missing:
            tokens, where = self._lay_out(tables, missing)
            for family, token, place in zip(missing, tokens.unbind(0), where.unbind(1), strict=True):
                family.fixed = SiblingTokens(token, place)
        if len(families) == 1:
            (family,), (start,) = families, starts
            assert family.fixed is not None
            part = slice(start, start + m)
            state = torch.from_numpy(family.state[tables.order[part]]).to(tables.state.device)
            return family.fixed.tokens[part], family.fixed.where[:, part], state
        kept = [family.fixed for family in families if family.fixed is not None]
        parts = [slice(start, start + m) for start in starts]
        tokens = torch.cat([fixed.tokens[part] for fixed, part in zip(kept, parts, strict=True)])
        where = torch.cat([fixed.where[:, part] for fixed, part in zip(kept, parts, strict=True)], 1)
        states = [family.state[tables.order[part]] for family, part in zip(families, parts, strict=True)]
        return tokens, where, torch.from_numpy(np.concatenate(states)).to(tokens.device)

    def _lay_out(self, tables: LevelWeights, families: list[Siblings]) -> tuple[Tensor, Tensor]:
        """What does not change about the children of families, see `SiblingTokens`: [R, n, D] and [facts, R, n]."""
        network, level = tables.network, tables.network.level
        p = np.stack([family.p for family in families])[:, tables.order]
        t = np.stack([family.t for family in families])[:, tables.order]
        sheet = np.array([family.sheet.row for family in families])[:, None]
        row = p // network.child_pitches
        where = np.empty((self._facts, *p.shape), np.int64)
        where[0], where[1], where[2] = self.canvas.flat(sheet, p, t), row, t
        where[3] = self.tree.position(level, p, t)
        if self._facts > 4:
            where[4], where[5] = p, sheet
            where[6] = (sheet * self.canvas.columns + t // self.tree.shapes[0][1]) * PITCH_CLASSES + p % PITCH_CLASSES
        place = row * tables.columns + (t // network.child_steps if level == 0 else t % tables.columns)
        device = tables.place.device
        tokens = F.embedding(torch.from_numpy(place).to(device), tables.place)
        where = torch.from_numpy(where).to(device)
        if level:
            hidden = torch.stack([family.hidden for family in families if family.hidden is not None])
            inherited = tables.inherited(hidden)
            tokens.add_(inherited if len(tables.order) == tables.siblings else inherited[:, tables.order])
            if network.hear is not None:
                assert self.canvas.pitch_class_rows is not None
                tokens.add_(network.hear(F.embedding(where[6], self.canvas.pitch_class_rows)))
        return tokens, where

    def _look(self, tables: LevelWeights, where: Tensor) -> tuple[Tensor, Tensor]:
        """Windows of cell codes u8 [M, W], and what they say [M, D]."""
        network = tables.network
        if self._window_kernels:
            return self._window_kernels[network.level](where)
        if not self._past_only(tables):
            codes = self.model.look_at(network, self.canvas, where[0], where[3])
        else:
            index = where[0][:, None] + self.canvas.flat_offsets(network)
            codes = self.canvas.codes.view(-1).index_select(0, index.view(-1)).view(index.shape)
        return codes, tables.seeing(codes)

    def _past_only(self, tables: LevelWeights) -> bool:
        """Whether nothing but the past is written when a level looks, so that nothing needs to be hidden."""
        return not self.model.masked and (tables.ahead > 0 or tables.network.is_value)

    def _some(self, asks: list[Request]) -> list[int] | None:
        """Sheets that ask, None if all do. What others know of their canvases stays as it was when they asked last:
        it must not depend on who else asks while they are in the midst of writing."""
        return None if len(asks) == self.canvas.shape[0] else [ask.family.sheet.row for ask in asks]

    def _pitch_class_context(self, asks: list[Request]) -> Tensor:
        """Rows of what is heard, brought up to date for the sheets that ask."""
        sheets, rows = self._some(asks), self.canvas.pitch_class_rows
        if sheets is None or rows is None:
            rows = self.canvas.pitch_class_rows = features_by_class(self.canvas.heard(self.model))
        else:
            new = features_by_class(self.canvas.heard(self.model, sheets))
            rows.view(self.canvas.shape[0], -1, rows.shape[1])[sheets] = new.view(len(sheets), -1, rows.shape[1])
        return rows

    def _add_more(self, x_MD: Tensor, network: LevelModel, where: Tensor, asks: list[Request]) -> None:
        """Add what pointers and voices say; what they know of the canvas is brought up to date first."""
        _, _, t, _, p, c = (fact.unflatten(0, (len(asks), -1)) for fact in where[:6])
        nodes = Parents(c, p, t, None, self._no_weight)
        if network.level == 0:
            self.model.point(self.canvas, self._some(asks))
        else:
            self.model.recompare_candidates(self.canvas, nodes)
        if network.voices is not None:
            self.canvas.forget_voices()
        if not self._copy_kernels:
            more = self.model.more(network, self.canvas, nodes)
            assert more is not None
            x_MD.add_(more.flatten(0, 1))
            return
        x_MD.add_(self._copy_kernels[network.level](where))
        voices = self.model.count(network, self.canvas, nodes)
        if voices is not None:
            x_MD.add_(voices.flatten(0, 1))

    def _run(
        self, tables: LevelWeights, x_MD: Tensor, asks: list[Request], starts: list[int], m: int, wanted: Tensor | None
    ) -> Tensor:
        """Run the network: hidden vectors [M, D], or those of the wanted children alone."""
        stack, mask, rotary = tables.stack, tables.mask, tables.rotary
        if stack is None:
            assert tables.network.perceptron is not None
            return tables.network.perceptron(x_MD)
        if tables.kv_cache is not None:
            cache = KVCache.of(tables.kv_cache, [ask.family.sheet.row for ask in asks], starts, m)
            rows = cache.at if cache.at is not None else slice(starts[0], starts[0] + m)
            assert mask is not None
            # One token alone may look at all that is kept.
            alone = len(x_MD) == 1 and tables.unlimited
            mask = None if alone else mask[rows, : cache.stop].view(-1, 1, m, cache.stop)
            rotary = rotary and (rotary[0][rows], rotary[1][rows])
            return stack(x_MD, len(asks), mask=mask, rotary=rotary, cache=cache)
        # Every number of rows has kernels made for it when it first comes up, so there are few such numbers.
        sequences = _rounded(len(asks))
        missing = sequences - len(asks)
        x_MD = F.pad(x_MD, (0, 0, 0, missing * m))
        if rotary is not None and sequences > 1:
            rotary = (rotary[0].repeat(sequences, 1, 1), rotary[1].repeat(sequences, 1, 1))
        if mask is not None:
            mask = mask[None, None]
        if wanted is None:
            return stack(x_MD, sequences, mask=mask, rotary=rotary)[: len(asks) * m]
        rows = torch.cat([wanted, wanted[-1:].expand(missing * (len(wanted) // len(asks)))])
        return stack.some(x_MD, rows, sequences, mask=mask, rotary=rotary)[: len(wanted)]


def _rounded(count: int) -> int:
    """The next number of at most three binary digits and zeros."""
    step = 1 << max(0, count.bit_length() - 3)
    return -(-count // step) * step


def _wanted(asks: list[Request], n: int) -> Tensor:
    """Rows of the children that are wanted among all of the families [R * c]; the last stands in for missing ones."""
    chosen = [ask.wanted for ask in asks if ask.wanted is not None]
    most = max(map(len, chosen))
    rows = [np.concatenate([part, part[-1:].repeat(most - len(part))]) + n * i for i, part in enumerate(chosen)]
    return torch.from_numpy(np.concatenate(rows))


def _spread(part: Tensor, rows: Tensor, count: int) -> Tensor:
    """Rows of a tensor at their places among `count`; what stands elsewhere means nothing."""
    return part.new_zeros(count, *part.shape[1:]).index_copy_(0, rows, part)
