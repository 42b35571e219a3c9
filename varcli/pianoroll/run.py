"""The scheduler of a batch: runs the coroutines of all families and answers what they ask in batches per level.

Sparse by construction: only families of occupied parents exist, and each round runs the level that most of them wait
for. With one sample of an all-AR model there is one question at a time, answered from key/value caches.

Shapes: R families asked together, m children asked about, n children of a family, D width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from varcli.events import Event
from varcli.nn.attention import CacheSlots, KeyValueCache
from varcli.pianoroll.ar import fill_in_order, fresh_state
from varcli.pianoroll.cells import fill_binary, fill_value
from varcli.pianoroll.choose import Chooser
from varcli.pianoroll.conditions import Conditions
from varcli.pianoroll.family import Answer, Ask, Family, Sheet, Together, Worker, drain, settled, unknown_canvas
from varcli.pianoroll.fractal import NEVER, Canvas, FractalModel, Parents, forbid_held
from varcli.pianoroll.level import LevelModel
from varcli.pianoroll.mar import fill_masked, masked_state
from varcli.pianoroll.openings import Openings
from varcli.pianoroll.tonality import PITCH_CLASSES

SPECULATE_TOP = 8
"""Patches of level 0 decided in one look when silence is assumed, if a column has several."""
_ONE = np.zeros(1, np.int64)


@dataclass(frozen=True)
class Tables:
    """What a level says of places, added up once: place [rows * columns, D]; weight and bias of the decision.

    Columns count steps of the bar, or patches of level 0. The weight is per pitch row [rows, D] where the level decides
    about occupancy, and one for all [V - 1, D] for values.
    """

    place: Tensor
    columns: int
    weight: Tensor
    bias: Tensor


def make_tables(level: LevelModel, columns: int) -> Tables:
    """Add up the tables of a level for canvases of `columns` patches."""
    rows = level.pitch.num_embeddings
    device = level.head.weight.device
    p = torch.arange(rows, device=device)[:, None] * level.child_pitches
    count, unit = (columns, level.child_steps) if level.level == 0 else (level.steps_per_bar, 1)
    t = torch.arange(count, device=device)[None] * unit
    place = level.locate(*torch.broadcast_tensors(p, t)).flatten(0, 1)
    bias = level.row_bias.weight + level.head.bias
    weight = level.head.weight if level.is_value else level.row_head.weight + level.head.weight
    return Tables(place, count, weight, bias)


@dataclass
class Waiting:
    """A coroutine and the one that waits for it (None for a sample's own); `open` counts the parts it waits for."""

    worker: Worker
    above: "Waiting | None"
    ask: Ask | None = None
    open: int = 0


class Run:
    """One batch of samples on its way; `sheets` hold them, `events()` does the work."""

    def __init__(
        self,
        model: FractalModel,
        choosers: Sequence[Chooser],
        samples: Sequence[int],
        steps: int,
        *,
        iterations: Sequence[int] | None = None,
        batch_generate_size: int = 16,
        in_order: bool = False,
        cached: bool = True,
        conditions: Conditions | None = None,
    ) -> None:
        self.model, self.tree, self.steps = model, model.tree, steps
        self.batch_generate_size, self.in_order = batch_generate_size, in_order
        self._iterations, self._conditions = iterations, conditions
        codes = unknown_canvas((len(choosers), self.tree.pitches, steps), model.masked)
        self.canvas = Canvas(model, torch.from_numpy(codes).to(model.device))
        self._on_cpu = model.device.type == "cpu"
        self.sheets = [
            self._sheet(row, sample, chooser)
            for row, (sample, chooser) in enumerate(zip(samples, choosers, strict=True))
        ]
        self._top = self.tree.top(steps)
        # One question at a time needs every level in order and one sample; only then is an inner cache never stale.
        self._sequential = cached and len(choosers) == 1 and not model.masked
        self._caches = self._make_caches(cached, len(choosers))
        self._top_mask = self._make_top_mask()
        self._no_weight = torch.ones(1, device=model.device)
        with torch.inference_mode():
            self._tables = [make_tables(level, self.tree.columns(steps)) for level in model.level_models]

    def _sheet(self, row: int, sample: int, chooser: Chooser) -> Sheet:
        P, T = self.tree.pitches, self.steps
        low_p, _, low_t, _ = self.model.margins
        codes = (
            self.canvas.codes[row].numpy()[low_p : low_p + P, low_t : low_t + T]
            if self._on_cpu
            else np.zeros((P, T), np.uint8)
        )
        reveal = None
        if self.canvas.reveal is not None:
            reveal = (
                self.canvas.reveal[row].numpy()[low_p : low_p + P, low_t : low_t + T]
                if self._on_cpu
                else np.full((P, T), NEVER, np.uint8)
            )
        if not self._on_cpu:
            codes[:] = unknown_canvas((P, T), self.model.masked)
        sheet = Sheet(row, sample, codes, np.zeros((P, T), np.uint8), reveal, T, chooser)
        if self._conditions is not None:
            sheet.openings = Openings(self._conditions, self.tree.shapes, self.tree.columns(T) * self.tree.shapes[0][1])
            sheet.keep(self._conditions.given, self._conditions.codes)
        return sheet

    def _make_caches(self, cached: bool, rows: int) -> dict[int, KeyValueCache]:
        caches = {}
        for level in self.model.level_models[: self.tree.depth]:
            if level.transformer is None:
                continue
            if cached and level.kind == "ar" and (level.level == 0 or self._sequential):
                length = len(self._top) + self.lookahead(0) if level.level == 0 else level.siblings
                caches[level.level] = KeyValueCache.empty(level.transformer, rows, length)
        return caches

    def _make_top_mask(self) -> Tensor | None:
        level = self.model.level_models[0]
        if 0 not in self._caches:
            return None
        padded = np.concatenate([self._top, np.repeat(self._top[-1:], self.lookahead(0), 0)])
        columns = torch.from_numpy(padded[:, 1] // level.child_steps).to(self.model.device)
        mask = level.top_mask(columns[None, None])
        if mask is None:
            return torch.ones(len(padded), len(padded), dtype=torch.bool, device=self.model.device).tril()
        return mask[0, 0]

    def lookahead(self, level: int) -> int:
        """Children decided in one look on the assumption that they are silent (1: none assumed)."""
        if self.model.masked:
            return 1  # known silence differs from the unknown there, so an assumption would be seen
        if level > 0:
            return len(self.tree.children[level])
        return min(SPECULATE_TOP, self.tree.pitches // self.tree.shapes[0][0])

    def iterations(self, level: int) -> int:
        """Unmasking iterations of a level; one child at a time if none were given."""
        return 1_000_000 if self._iterations is None else self._iterations[level]

    def fill(self, level: int, sheet: Sheet, p: int, t: int, hidden: Tensor | None) -> Worker:
        """The coroutine that writes what lies inside a node at (p, t) whose children are of `level`."""
        if level and sheet.openings is not None and not sheet.openings.is_open(level - 1, p, t):
            return settled(sheet, level - 1, p, t, self.tree.shapes[level - 1])
        if level == self.tree.depth:
            family = Family(level, sheet, np.array([p]), np.array([t]), _ONE, _ONE, hidden)
            return (fill_value if level < len(self.model.levels) else fill_binary)(self, family)
        offsets = self._top if level == 0 else self.tree.children[level]
        fp, ft = offsets[:, 0] + p, offsets[:, 1] + t
        exists = np.flatnonzero(ft < self.steps)
        kind = self.model.level_models[level].kind
        state = fresh_state(len(ft)) if kind == "ar" else masked_state(len(ft), exists)
        family = Family(level, sheet, fp, ft, exists, state, hidden)
        family.settle()
        return (fill_in_order if kind == "ar" else fill_masked)(self, family)

    @torch.inference_mode()
    def events(self) -> Iterator[Event]:
        """Write all samples; yields what happened, in order of time."""
        ready: list[tuple[Waiting, Answer | None]] = []
        waiting: list[Waiting] = []
        for sheet in self.sheets:
            ready.append((Waiting(self.fill(0, sheet, 0, 0, None), None), None))
        while ready or waiting:
            for task, answer in ready:
                self._advance(task, answer, waiting)
            for sheet in self.sheets:
                yield from drain(sheet)
            ready = []
            if waiting:
                level = self._busiest(waiting)
                asked = [task for task in waiting if task.ask is not None and task.ask.family.level == level]
                waiting = [task for task in waiting if task.ask is not None and task.ask.family.level != level]
                ready = list(zip(asked, self._answer(level, [task.ask for task in asked if task.ask]), strict=True))

    @staticmethod
    def _busiest(waiting: list[Waiting]) -> int:
        if len(waiting) == 1:
            assert waiting[0].ask is not None
            return waiting[0].ask.family.level
        counts: dict[int, int] = {}
        for task in waiting:
            assert task.ask is not None
            counts[task.ask.family.level] = counts.get(task.ask.family.level, 0) + 1
        return max(counts, key=lambda level: (counts[level], level))

    def _advance(self, task: Waiting, answer: Answer | None, waiting: list[Waiting]) -> None:
        """Let a coroutine go on until it, or what it started, waits for the network."""
        while True:
            try:
                request = task.worker.send(answer)
            except StopIteration:
                above = task.above
                if above is None:
                    return
                above.open -= 1
                if above.open:
                    return
                task, answer = above, None
                continue
            if isinstance(request, Ask):
                task.ask = request
                waiting.append(task)
                return
            assert isinstance(request, Together)
            task.open = len(request.parts)
            for part in request.parts[:-1]:
                self._advance(Waiting(part, task), None, waiting)
            task, answer = Waiting(request.parts[-1], task), None

    def _answer(self, level: int, asks: list[Ask]) -> list[Answer]:
        """Run one level for several families at once."""
        network = self.model.level_models[level]
        if not self._on_cpu:
            self._upload()
        if network.stateless or (level == 0 and 0 in self._caches):
            start, stop = np.array([ask.start for ask in asks]), max(ask.stop - ask.start for ask in asks)
        elif self._sequential and level < self.tree.depth:
            start, stop = np.array([asks[0].start]), asks[0].stop - asks[0].start
        else:
            # All children from the first: with several families at once, a shared start costs less than it saves.
            start, stop = np.zeros(len(asks), np.int64), len(asks[0].family.p)
        columns = np.minimum(start[:, None] + np.arange(stop), len(asks[0].family.p) - 1)
        pick, step = self._pick(network, asks, columns)
        first, position, place, state, row, sound, pitch, sheet = pick.unbind(0)
        table = self._tables[level]
        seen = self._look(network, first, position)
        where = F.embedding(place, table.place)
        sounds = None
        if network.hear is not None:
            if level == 0:
                self.canvas.heard_rows = self.canvas.heard(self.model)
            assert self.canvas.heard_rows is not None
            sounds = F.embedding(sound, self.canvas.heard_rows)
        more = self._more(network, Parents(sheet, pitch, step, None, self._no_weight))
        x = network.embed(seen, where, state, self._inherited(asks, columns), sounds, more)
        hidden = self._attend(network, x, step, start, asks)
        if network.is_value:
            logits = forbid_held(network, F.linear(hidden, table.weight) + F.embedding(row, table.bias), seen, step)
        else:
            logits = (F.embedding(row, table.weight) * hidden).sum(-1) + F.embedding(row, table.bias).squeeze(-1)
        numbers = logits.cpu().numpy()
        answers = []
        for row, ask in enumerate(asks):
            part = slice(ask.start - int(start[row]), ask.stop - int(start[row]))
            answers.append(Answer(numbers[row, part], hidden[row, part]))
        return answers

    def _more(self, network: LevelModel, nodes: Parents) -> Tensor | None:
        """What pointers and voices add; what they know of the canvas is brought up to date first."""
        if network.level == 0:
            self.model.point(self.canvas)
        else:
            self.model.point_again(self.canvas, nodes)
        self.canvas.forget_voices()
        return self.model.more(network, self.canvas, nodes)

    def _pick(self, network: LevelModel, asks: list[Ask], columns: np.ndarray) -> tuple[Tensor, Tensor]:
        """Where the children asked about stand, i32 [8, R, m]: first cell in flat memory, position in the patch, row of
        the table of places, state, pitch row, row of what is heard, pitch, canvas. And their steps [R, m]."""
        stacked = np.empty((8, *columns.shape), np.int32)
        steps = np.empty(columns.shape, np.int64)
        bar, table = network.steps_per_bar, self._tables[network.level]
        for row, (ask, column) in enumerate(zip(asks, columns, strict=True)):
            family = ask.family
            p, t = family.p[column], family.t[column]
            pitch_row = p // network.child_pitches
            stacked[0, row] = self.canvas.flat(family.sheet.row, p, t)
            stacked[1, row] = self.tree.position(network.level, p, t)
            stacked[2, row] = pitch_row * table.columns + (t // network.child_steps if network.level == 0 else t % bar)
            stacked[3, row] = family.state[column]
            stacked[4, row] = pitch_row
            column_of = family.sheet.row * self.canvas.columns + t // self.tree.shapes[0][1]
            stacked[5, row] = column_of * PITCH_CLASSES + p % PITCH_CLASSES
            stacked[6, row], stacked[7, row] = p, family.sheet.row
            steps[row] = t
        return torch.from_numpy(stacked).to(self.model.device), torch.from_numpy(steps).to(self.model.device)

    def _look(self, network: LevelModel, first: Tensor, position: Tensor) -> Tensor:
        """Windows of cell codes; where only the past is written so far, nothing needs to be hidden."""
        if self.model.masked or not (self._sequential or network.stateless or network.level in self._caches):
            return self.model.look_at(network, self.canvas, first, position)
        index = (first[..., None] + self.canvas.flat_offsets(network)).view(-1)
        return self.canvas.codes.view(-1).index_select(0, index).view(*first.shape, -1)

    def _inherited(self, asks: list[Ask], columns: np.ndarray) -> Tensor | None:
        if asks[0].family.hidden is None:
            return None
        missing = [ask.family for ask in asks if ask.family.inherited is None]
        if missing:
            hidden = torch.stack([family.hidden for family in missing if family.hidden is not None])
            for family, part in zip(
                missing, self.model.level_models[asks[0].family.level].inherited(hidden), strict=True
            ):
                family.inherited = part
        parts = torch.stack([ask.family.inherited for ask in asks if ask.family.inherited is not None])
        start, m = columns[:, 0], columns.shape[1]
        if (start == start[0]).all() and int(start[0]) + m <= parts.shape[1]:
            return parts[:, int(start[0]) : int(start[0]) + m]
        rows = torch.arange(len(asks), device=parts.device)[:, None]
        return parts[rows, torch.from_numpy(columns).to(parts.device)]

    def _attend(self, network: LevelModel, x_RmD: Tensor, step: Tensor, start: np.ndarray, asks: list[Ask]) -> Tensor:
        cache = self._caches.get(network.level)
        if cache is None:
            return network.attend(x_RmD, step)
        m = x_RmD.shape[1]
        if len(self.sheets) == 1:
            begin = int(start[0])
            if network.level == 0:
                assert self._top_mask is not None
                mask = self._top_mask[begin : begin + m, : begin + m]
            else:
                mask = torch.ones(m, begin + m, dtype=torch.bool, device=x_RmD.device).tril(begin) if m > 1 else None
            return network.attend(x_RmD, step, CacheSlots(cache, begin), mask)
        assert self._top_mask is not None
        starts = torch.from_numpy(start).to(x_RmD.device)
        rows = torch.tensor([ask.family.sheet.row for ask in asks], device=x_RmD.device)
        stop = int(start.max()) + m
        mask = self._top_mask[starts[:, None] + torch.arange(m, device=x_RmD.device)][:, None, :, :stop]
        return network.attend(x_RmD, step, CacheSlots(cache, starts, rows), mask)

    def _upload(self) -> None:
        """Copy the live canvases to the model's device."""
        P, T = self.tree.pitches, self.steps
        low_p, _, low_t, _ = self.model.margins
        area = (slice(None), slice(low_p, low_p + P), slice(low_t, low_t + T))
        self.canvas.codes[area] = torch.from_numpy(np.stack([sheet.codes for sheet in self.sheets])).to(
            self.model.device
        )
        if self.canvas.reveal is not None:
            stacked = np.stack([sheet.reveal for sheet in self.sheets if sheet.reveal is not None])
            self.canvas.reveal[area] = torch.from_numpy(stacked).to(self.model.device)
