"""The inference engine: one level run for several groups of siblings at once, from windows to logits.

Siblings of an in-order level keep the keys and values of their decided children, so that only the children asked about
run. What of a child's token stays the same while it is decided is added up once.

Shapes: R groups of siblings in one batch, m children of each run, M = R * m, n siblings of a group, W cells of a
window, D width.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from varcli.pianoroll.inference.level_weights import LevelWeights, Size
from varcli.pianoroll.inference.packed_transformer import KVCache
from varcli.pianoroll.model.canvas import Canvas
from varcli.pianoroll.model.context import Context
from varcli.pianoroll.model.copy_attention import CopyAttention
from varcli.pianoroll.model.decisions import Parents
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.model.level import LevelModel
from varcli.pianoroll.model.pitch_classes import PITCH_CLASSES, features_by_class
from varcli.pianoroll.sampling.siblings import Siblings, SiblingTokens
from varcli.pianoroll.sampling.strategy import Request, Response


class Engine:
    """Answers the requests of one batch of samples, whose canvases it reads as they are written."""

    def __init__(
        self,
        model: FractalModel,
        canvas: Canvas,
        steps: int,
        *,
        most: list[int],
        cached: bool,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """`most` are the children of each level that run at once where they are decided in order.

        Products of the transformers are of `dtype`, where that pays.
        """
        self.model, self.canvas, self.tree = model, canvas, model.tree
        self._context = Context(model.config.model, canvas)
        self._pitch_class_rows: Tensor | None = None
        options = model.config.model
        self._facts = 7 if options.tonality or options.polyphony or options.echo.candidates else 4
        self._no_weight = torch.ones(1, device=model.device)
        self._tables = []
        for network in model.level_models:
            # In masked models several groups of a sample are under way at once: a row of a cache is only for level 0.
            in_order = (network.is_causal or canvas.reveal is None) and not network.is_value
            keeps = in_order and (network.stateless or (cached and not (network.level and model.masked)))
            kept = most[network.level] if keeps else 0
            size = Size(self.tree.top(steps), canvas.columns, canvas.shape[0], kept, dtype)
            self._tables.append(LevelWeights(model, network, size))
        self._window_kernels, self._copy_kernels = [], []
        if model.device.type == "cpu":
            self._compile()

    def _compile(self) -> None:
        from varcli.pianoroll.inference.copy_kernel import CopyKernel  # numba is slow to import
        from varcli.pianoroll.inference.window_kernel import WindowKernel

        for tables in self._tables:
            network, past_only = tables.network, self._past_only(tables)
            self._window_kernels.append(
                WindowKernel(network, self.canvas, tables.window_embedding, past_only=past_only)
            )
        for echo in self.model.echoes:
            assert isinstance(echo, CopyAttention)
            self._copy_kernels.append(CopyKernel(echo, self._context))

    def __call__(self, level: int, requests: list[Request]) -> list[Response]:
        """Answer requests about siblings of one level."""
        starts, m = self._span(self._tables[level], requests)
        numbers, hidden = self._run_level(level, requests)
        responses = []
        for index, (request, start) in enumerate(zip(requests, starts, strict=True)):
            first = index * m + request.start - start
            part = slice(first, first + request.stop - request.start)
            responses.append(Response(numbers[part], hidden[part]))
        return responses

    def _run_level(self, level: int, requests: list[Request]) -> tuple[np.ndarray, Tensor]:
        """Logits [R * m] (or [R, V - 1] of values) and hidden vectors [R * m, D] of the children run, see `_span`."""
        tables = self._tables[level]
        starts, m = self._span(tables, requests)
        tokens, where, state = self._gather(tables, [request.siblings for request in requests], starts, m)
        wanted = _wanted(requests, m).to(tokens.device) if requests[0].wanted is not None and not tables.kept else None
        if wanted is not None and tables.stack is None:
            tokens, where, state = tokens.index_select(0, wanted), where.index_select(1, wanted), state[wanted]
        codes, x = self._windows(tables, where)
        x.add_(tokens).add_(tables.state.index_select(0, state))
        if level == 0 and tables.network.hear is not None:
            x.add_(tables.network.hear(self._pitch_class_context(requests).index_select(0, where[6])))
        if len(self.model.echoes) or tables.network.polyphony is not None:
            self._add_more(x, tables.network, where, requests)
        louder = None
        if tables.network.is_value and self.model.velocities is not None:
            into_token, louder = self.model.velocities(
                self.canvas.windows(self.model.velocities, where[0][:, None], where[3][:, None])
            )
            x.add_(into_token[:, 0])
        hidden = self._run(tables, x, requests, starts, m, wanted)
        if tables.network.is_value:
            logits = tables.decide_value(hidden, where[1], codes, where[2])
            if louder is not None:
                logits = logits + F.pad(louder[:, 0], (1, 0))
        else:
            if wanted is not None and tables.stack is not None:
                where = where.index_select(1, wanted)
            logits = tables.decide(hidden, where[1])
        if wanted is not None:
            hidden, logits = (_spread(part, wanted, len(requests) * m) for part in (hidden, logits))
        return logits.cpu().numpy(), hidden

    @staticmethod
    def _span(tables: LevelWeights, requests: list[Request]) -> tuple[list[int], int]:
        """The first child to run of every group, and how many: those asked about, or all where nothing is kept."""
        if tables.kept:
            return [request.start for request in requests], max(request.stop - request.start for request in requests)
        return [0] * len(requests), tables.siblings

    def _gather(
        self, tables: LevelWeights, groups: list[Siblings], starts: list[int], m: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens so far [M, D] of the children to run, where they stand i64 [facts, M], and their states i64 [M]."""
        if tables.siblings == 1:
            tokens, where = self._lay_out(tables, groups)
            return tokens[:, 0], where[:, :, 0], torch.zeros(len(groups), dtype=torch.long, device=tokens.device)
        missing = [siblings for siblings in groups if siblings.fixed is None]
        if missing:
            tokens, where = self._lay_out(tables, missing)
            for siblings, token, place in zip(missing, tokens.unbind(0), where.unbind(1), strict=True):
                siblings.fixed = SiblingTokens(token, place)
        if len(groups) == 1:
            (siblings,), (start,) = groups, starts
            assert siblings.fixed is not None
            part = slice(start, start + m)
            state = torch.from_numpy(siblings.state[tables.order[part]]).to(tables.state.device)
            return siblings.fixed.tokens[part], siblings.fixed.where[:, part], state
        kept = [siblings.fixed for siblings in groups if siblings.fixed is not None]
        parts = [slice(start, start + m) for start in starts]
        tokens = torch.cat([fixed.tokens[part] for fixed, part in zip(kept, parts, strict=True)])
        where = torch.cat([fixed.where[:, part] for fixed, part in zip(kept, parts, strict=True)], 1)
        states = [siblings.state[tables.order[part]] for siblings, part in zip(groups, parts, strict=True)]
        return tokens, where, torch.from_numpy(np.concatenate(states)).to(tokens.device)

    def _lay_out(self, tables: LevelWeights, groups: list[Siblings]) -> tuple[Tensor, Tensor]:
        """What stays the same about groups of siblings, see `SiblingTokens`: [R, n, D] and [facts, R, n]."""
        network, level = tables.network, tables.network.level
        p = np.stack([siblings.p for siblings in groups])[:, tables.order]
        t = np.stack([siblings.t for siblings in groups])[:, tables.order]
        canvas = np.array([siblings.sample.row for siblings in groups])[:, None]
        row = p // network.child_pitches
        where = np.empty((self._facts, *p.shape), np.int64)
        where[0], where[1], where[2] = self.canvas.flat(canvas, p, t), row, t
        where[3] = self.tree.position(level, p, t)
        if self._facts > 4:
            where[4], where[5] = p, canvas
            where[6] = (canvas * self.canvas.columns + t // self.tree.shapes[0][1]) * PITCH_CLASSES + p % PITCH_CLASSES
        place = row * tables.columns + (t // network.child_steps if level == 0 else t % tables.columns)
        device = tables.place.device
        tokens = F.embedding(torch.from_numpy(place).to(device), tables.place)
        where = torch.from_numpy(where).to(device)
        if level:
            hidden = torch.stack([siblings.hidden for siblings in groups if siblings.hidden is not None])
            inherited = tables.inherited(hidden)
            tokens.add_(inherited if len(tables.order) == tables.siblings else inherited[:, tables.order])
            if network.hear is not None:
                assert self._pitch_class_rows is not None
                tokens.add_(network.hear(F.embedding(where[6], self._pitch_class_rows)))
        return tokens, where

    def _windows(self, tables: LevelWeights, where: Tensor) -> tuple[Tensor, Tensor]:
        """Windows of cell codes u8 [M, W], and their embeddings [M, D]."""
        network = tables.network
        if self._window_kernels:
            return self._window_kernels[network.level](where)
        if not self._past_only(tables):
            codes = self.canvas.windows(network, where[0], where[3])
        else:
            index = where[0][:, None] + self.canvas.flat_offsets(network)
            codes = self.canvas.codes.view(-1).index_select(0, index.view(-1)).view(index.shape)
        return codes, tables.window_embedding(codes)

    def _past_only(self, tables: LevelWeights) -> bool:
        """Whether nothing but the past is written when a level runs, so that nothing needs to be hidden."""
        return not self.model.masked and (tables.kept > 0 or tables.network.is_value)

    def _some(self, requests: list[Request]) -> list[int] | None:
        """Rows of the samples in a batch, None if all are. What others know of their canvases stays as it was when they
        last asked: it must not depend on what else runs while they are being written."""
        return None if len(requests) == self.canvas.shape[0] else [request.siblings.sample.row for request in requests]

    def _pitch_class_context(self, requests: list[Request]) -> Tensor:
        """Pitch-class features by canvas, column and class, brought up to date for the samples in a batch."""
        samples, rows = self._some(requests), self._pitch_class_rows
        if samples is None or rows is None:
            rows = self._pitch_class_rows = features_by_class(self._context.count_pitch_classes())
        else:
            new = features_by_class(self._context.count_pitch_classes(samples))
            rows.view(self.canvas.shape[0], -1, rows.shape[1])[samples] = new.view(len(samples), -1, rows.shape[1])
        return rows

    def _add_more(self, x_MD: Tensor, network: LevelModel, where: Tensor, requests: list[Request]) -> None:
        """Add copy attention and the number of notes below, which are brought up to date with the canvas first."""
        _, _, t, _, p, c = (fact.unflatten(0, (len(requests), -1)) for fact in where[:6])
        nodes = Parents(c, p, t, None, self._no_weight)
        if network.level:
            self._context.recompare_candidates(nodes)
        elif len(self.model.echoes):
            self._context.find_candidates(self._some(requests))
        self._context.forget_notes()
        if not self._copy_kernels:
            more = self.model.more(network, self._context, nodes)
            assert more is not None
            x_MD.add_(more.flatten(0, 1))
            return
        x_MD.add_(self._copy_kernels[network.level](where))
        below = self.model.polyphony(network, self._context, nodes)
        if below is not None:
            x_MD.add_(below.flatten(0, 1))

    def _run(
        self,
        tables: LevelWeights,
        x_MD: Tensor,
        requests: list[Request],
        starts: list[int],
        m: int,
        wanted: Tensor | None,
    ) -> Tensor:
        """Run the network: hidden vectors [M, D], or those of the wanted children alone."""
        stack, mask, rotary = tables.stack, tables.mask, tables.rotary
        if stack is None:
            assert tables.network.perceptron is not None
            return tables.network.perceptron(x_MD)
        if tables.kv_cache is not None:
            cache = KVCache.of(tables.kv_cache, [request.siblings.sample.row for request in requests], starts, m)
            rows = cache.at if cache.at is not None else slice(starts[0], starts[0] + m)
            assert mask is not None
            # One token alone attends to all that is kept.
            alone = len(x_MD) == 1 and tables.unlimited
            mask = None if alone else mask[rows, : cache.stop].view(-1, 1, m, cache.stop)
            rotary = rotary and (rotary[0][rows], rotary[1][rows])
            return stack(x_MD, len(requests), mask=mask, rotary=rotary, cache=cache)
        # Every number of rows has kernels made for it when it first comes up, so there are few such numbers.
        sequences = _rounded(len(requests))
        missing = sequences - len(requests)
        x_MD = F.pad(x_MD, (0, 0, 0, missing * m))
        if rotary is not None and sequences > 1:
            rotary = (rotary[0].repeat(sequences, 1, 1), rotary[1].repeat(sequences, 1, 1))
        if mask is not None:
            mask = mask[None, None]
        if wanted is None:
            return stack(x_MD, sequences, mask=mask, rotary=rotary)[: len(requests) * m]
        rows = torch.cat([wanted, wanted[-1:].expand(missing * (len(wanted) // len(requests)))])
        return stack.some(x_MD, rows, sequences, mask=mask, rotary=rotary)[: len(wanted)]


def _rounded(count: int) -> int:
    """The next number of at most three binary digits and zeros."""
    step = 1 << max(0, count.bit_length() - 3)
    return -(-count // step) * step


def _wanted(requests: list[Request], n: int) -> Tensor:
    """Rows of the children that are wanted among all of the groups [R * c]; the last stands in for missing ones."""
    chosen = [request.wanted for request in requests if request.wanted is not None]
    most = max(map(len, chosen))
    rows = [np.concatenate([part, part[-1:].repeat(most - len(part))]) + n * i for i, part in enumerate(chosen)]
    return torch.from_numpy(np.concatenate(rows))


def _spread(part: Tensor, rows: Tensor, count: int) -> Tensor:
    """Rows of a tensor at their places among `count`; the rows between mean nothing."""
    return part.new_zeros(count, *part.shape[1:]).index_copy_(0, rows, part)
