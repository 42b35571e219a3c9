"""The scheduler of a batch: runs the coroutines of all families and answers what they ask in batches per level.

Sparse by construction: only families of occupied parents exist, and each round runs the level that most of them wait
for. With one sample of an all-AR model there is one question at a time, answered from key/value caches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from varcli.events import Event
from varcli.pianoroll.inference.engine import Engine, draft_lengths, reach
from varcli.pianoroll.model.fractal import NEVER, Canvas, FractalModel
from varcli.pianoroll.sampling.autoregressive import fill_at_once, fill_in_order, fresh_state
from varcli.pianoroll.sampling.constraints import CanvasConstraints
from varcli.pianoroll.sampling.feasible import Feasibility
from varcli.pianoroll.sampling.masked import fill_masked, fill_masked_at_once, masked_state
from varcli.pianoroll.sampling.policy import DecisionPolicy
from varcli.pianoroll.sampling.siblings import (
    Concurrent,
    Decoder,
    Filled,
    Request,
    Response,
    SampleState,
    Siblings,
    drain,
    settled,
    unknown_canvas,
)
from varcli.pianoroll.sampling.values import fill_binary, fill_value

_ONE = np.zeros(1, np.int64)


@dataclass
class Task:
    """A coroutine and the one that waits for it (None for a sample's own); `open` counts the parts it waits for."""

    worker: Decoder
    above: "Task | None"
    ask: Request | None = None
    open: int = 0


class Scheduler:
    """One batch of samples on its way; `sheets` hold them, `events()` does the work."""

    def __init__(
        self,
        model: FractalModel,
        policies: Sequence[DecisionPolicy],
        samples: Sequence[int],
        steps: int,
        *,
        iterations: Sequence[int] | None = None,
        batch_generate_size: int = 16,
        order: str = "random",
        cached: bool = True,
        constraints: CanvasConstraints | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model, self.tree, self.steps = model, model.tree, steps
        self.one_by_one = order == "time" and iterations is None
        self.batch_generate_size, self._order = batch_generate_size, "scan" if order == "time" else order
        self._iterations, self._constraints = iterations, constraints
        self._undecided = unknown_canvas((self.tree.pitches, steps), model.masked and not self.one_by_one)
        codes = torch.from_numpy(self._undecided).expand(len(policies), -1, -1).to(model.device)
        self.canvas = Canvas(model, codes, in_order=self.one_by_one)
        self.canvas.in_order |= self._order == "scan" and model.scannable
        self._on_cpu = model.device.type == "cpu"
        self.sheets = [
            self._sheet(row, sample, policy) for row, (sample, policy) in enumerate(zip(samples, policies, strict=True))
        ]
        self._top = self.tree.top(steps)
        self.speculates = self.canvas.reveal is None
        self.ahead = draft_lengths(model, policies, self.speculates)
        with torch.inference_mode():
            most = reach(model, policies, self.ahead, self.speculates)
            self._answer = Engine(model, self.canvas, steps, ahead=most, cached=cached, dtype=dtype)
            if constraints is None:
                self._answer.fill_at_once(policies)

    def _sheet(self, row: int, sample: int, policy: DecisionPolicy) -> SampleState:
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
            codes[:] = self._undecided
        sheet = SampleState(row, sample, codes, np.zeros((P, T), np.uint8), reveal, T, policy)
        if self._constraints is not None:
            sheet.feasibility = Feasibility(
                self._constraints, self.tree.shapes, self.tree.columns(T) * self.tree.shapes[0][1]
            )
            sheet.keep(self._constraints.given, self._constraints.codes)
        return sheet

    def in_order(self, level: int) -> bool:
        """Whether a masked level unmasks several children at once in the order of time, see `SampleConfig.order`."""
        return self._order == "scan" or (self._order == "inner" and level > 0)

    def iterations(self, level: int) -> int:
        """Unmasking iterations of a level; one child at a time if none were given."""
        return 1_000_000 if self._iterations is None else self._iterations[level]

    def fill(self, level: int, sheet: SampleState, p: int, t: int, hidden: Tensor | None) -> Decoder:
        """The coroutine that writes what lies inside a node at (p, t) whose children are of `level`."""
        if level and sheet.feasibility is not None and not sheet.feasibility.is_open(level - 1, p, t):
            return settled(sheet, level - 1, p, t, self.tree.shapes[level - 1])
        if level == self.tree.depth:
            family = Siblings(level, sheet, np.array([p]), np.array([t]), _ONE, _ONE, hidden)
            return (fill_value if level < len(self.model.levels) else fill_binary)(self, family)
        offsets = self._top if level == 0 else self.tree.children[level]
        fp, ft = offsets[:, 0] + p, offsets[:, 1] + t
        exists = np.flatnonzero(ft < self.steps)
        kind = self.model.level_models[level].kind
        state = fresh_state(len(ft)) if kind == "ar" else masked_state(len(ft), exists)
        family = Siblings(level, sheet, fp, ft, exists, state, hidden)
        if level == self._answer.fused_level:
            return (fill_at_once if kind == "ar" else fill_masked_at_once)(self, family)
        family.settle()
        return (fill_in_order if kind == "ar" or self.one_by_one else fill_masked)(self, family)

    @torch.inference_mode()
    def events(self) -> Iterator[Event]:
        """Write all samples; yields what happened, in order of time."""
        ready: list[tuple[Task, Response | Filled | None]] = []
        waiting: list[Task] = []
        for sheet in self.sheets:
            ready.append((Task(self.fill(0, sheet, 0, 0, None), None), None))
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
                if not self._on_cpu:
                    self._upload()
                ready = list(zip(asked, self._answer(level, [task.ask for task in asked if task.ask]), strict=True))

    @staticmethod
    def _busiest(waiting: list[Task]) -> int:
        """The level to run next: the one most wait for, finer ones first, since coarser ones then gather more."""
        counts: dict[int, int] = {}
        for task in waiting:
            assert task.ask is not None
            counts[task.ask.family.level] = counts.get(task.ask.family.level, 0) + 1
        return max(counts, key=lambda level: (counts[level] * (1 + level), level))

    def _advance(self, task: Task, answer: Response | Filled | None, waiting: list[Task]) -> None:
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
            if isinstance(request, Request):
                task.ask = request
                waiting.append(task)
                return
            assert isinstance(request, Concurrent)
            task.open = len(request.parts)
            for part in request.parts[:-1]:
                self._advance(Task(part, task), None, waiting)
            task, answer = Task(request.parts[-1], task), None

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
