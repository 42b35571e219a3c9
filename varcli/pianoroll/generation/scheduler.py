"""The scheduler of a batch: runs the coroutines of all siblings and answers their requests in batches per level.

Sparse by construction: only children of occupied parents exist, and each round runs the level that most of them wait
for. With one sample of an all-AR model there is one request at a time, answered from key/value caches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from varcli.events import Event
from varcli.pianoroll.generation.plans import IN_ORDER, STRATEGIES, most_at_once, plans_of
from varcli.pianoroll.inference.engine import Engine
from varcli.pianoroll.model.canvas import Canvas
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.model.level import UNKNOWN
from varcli.pianoroll.sampling.constraints import CanvasConstraints
from varcli.pianoroll.sampling.feasible import Feasibility
from varcli.pianoroll.sampling.policy import DecisionPolicy
from varcli.pianoroll.sampling.siblings import SampleState, Siblings
from varcli.pianoroll.sampling.strategy import Concurrent, Decoder, Request, Response
from varcli.pianoroll.sampling.values import fill_binary, fill_given, fill_value

_ONE = np.zeros(1, np.int64)


@dataclass
class Task:
    """A coroutine and the one that waits for it (None for a sample's own); `open` counts the parts it waits for."""

    worker: Decoder
    above: "Task | None"
    request: Request | None = None
    open: int = 0

    @property
    def level(self) -> int:
        """The level whose network it waits for."""
        assert self.request is not None
        return self.request.siblings.level


class Scheduler:
    """One batch of samples on its way; `samples` hold them, `events()` does the work."""

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
        """`iterations` per level (None: children are unmasked one by one), `batch_generate_size` of level 0 and
        `order` are those of `SampleConfig`. `cached` keeps keys and values; products of transformers are of `dtype`,
        where that pays.
        """
        self.model, self.tree, self.steps = model, model.tree, steps
        one_by_one = order == "time" and iterations is None
        order = "scan" if order == "time" else order
        masked = model.masked and not one_by_one
        # Before anything is written, cells are unknown where a masked level can tell unknown from silent.
        self._undecided = np.full((self.tree.pitches, steps), UNKNOWN if masked else 0, np.uint8)
        codes = torch.from_numpy(self._undecided).expand(len(policies), -1, -1).to(model.device)
        self.canvas = Canvas(
            model.layout, codes, in_order=one_by_one, columns_in_order=order == "scan" and model.scannable
        )
        self._on_cpu = model.device.type == "cpu"
        self._constraints = constraints
        self.samples = [
            self._state(row, sample, policy) for row, (sample, policy) in enumerate(zip(samples, policies, strict=True))
        ]
        self._top = self.tree.top(steps)
        self._plans = plans_of(
            model,
            self.canvas,
            policies,
            iterations=iterations,
            batch_generate_size=batch_generate_size,
            order=order,
        )
        self._strategies = [IN_ORDER if one_by_one else STRATEGIES[plan.kind.name] for plan in self._plans]
        self._descend = [partial(self._fill, plan.level + 1) for plan in self._plans]
        with torch.inference_mode():
            most = most_at_once(model, self._plans, policies)
            self._engine = Engine(model, self.canvas, steps, most=most, cached=cached, dtype=dtype)

    def _state(self, row: int, sample: int, policy: DecisionPolicy) -> SampleState:
        live = (self.canvas.codes, *([] if self.canvas.reveal is None else [self.canvas.reveal]))
        # On the CPU what is written is the canvas itself; elsewhere a copy that is sent there, see `_upload`.
        parts = [self.canvas.inside(cells, self.steps)[row] for cells in live]
        arrays = [part.numpy() if self._on_cpu else part.cpu().numpy().copy() for part in parts]
        visible = np.zeros((self.tree.pitches, self.steps), np.uint8)
        state = SampleState(row, sample, arrays[0], visible, arrays[1] if arrays[1:] else None, self.steps, policy)
        if self._constraints is not None:
            width = self.canvas.columns * self.tree.shapes[0][1]
            state.feasibility = Feasibility(self._constraints, self.tree.shapes, width)
            state.keep(self._constraints.given, self._constraints.codes)
        return state

    def _fill(self, level: int, sample: SampleState, p: int, t: int, hidden: Tensor | None) -> Decoder:
        """The coroutine that writes what lies inside a node at (p, t) whose children are of `level`."""
        if level and sample.feasibility is not None and not sample.feasibility.is_open(level - 1, p, t):
            return fill_given(sample, level - 1, p, t, self.tree.shapes[level - 1])
        if level == len(self.model.levels):
            return fill_binary(sample, p, t)
        if level == self.tree.depth:
            return fill_value(Siblings(level, sample, np.array([p]), np.array([t]), _ONE, _ONE, hidden))
        offsets = self._top if level == 0 else self.tree.children[level]
        children_p, children_t = offsets[:, 0] + p, offsets[:, 1] + t
        exists = np.flatnonzero(children_t < self.steps)
        siblings = Siblings(level, sample, children_p, children_t, exists, _ONE, hidden)
        siblings.constrain()
        return self._strategies[level].fill(self._plans[level], siblings, self._descend[level])

    @torch.inference_mode()
    def events(self) -> Iterator[Event]:
        """Write all samples; yields what happened, in order of time."""
        ready: list[tuple[Task, Response | None]]
        ready = [(Task(self._fill(0, sample, 0, 0, None), None), None) for sample in self.samples]
        waiting: list[Task] = []
        while ready or waiting:
            for task, response in ready:
                self._advance(task, response, waiting)
            for sample in self.samples:
                yield from sample.drain()
            ready = []
            if waiting:
                level = self._busiest(waiting)
                asking = [task for task in waiting if task.level == level]
                waiting = [task for task in waiting if task.level != level]
                if not self._on_cpu:
                    self._upload()
                responses = self._engine(level, [task.request for task in asking if task.request])
                ready = list(zip(asking, responses, strict=True))

    @staticmethod
    def _busiest(waiting: list[Task]) -> int:
        """The level to run next: the one most wait for, finer ones first, since coarser ones then gather more."""
        counts: dict[int, int] = {}
        for task in waiting:
            counts[task.level] = counts.get(task.level, 0) + 1
        return max(counts, key=lambda level: (counts[level] * (1 + level), level))

    def _advance(self, task: Task, response: Response | None, waiting: list[Task]) -> None:
        """Let a coroutine go on until it, or what it started, waits for the network."""
        while True:
            try:
                request = task.worker.send(response)
            except StopIteration:
                above = task.above
                if above is None:
                    return
                above.open -= 1
                if above.open:
                    return
                task, response = above, None
                continue
            if isinstance(request, Request):
                task.request = request
                waiting.append(task)
                return
            assert isinstance(request, Concurrent)
            task.open = len(request.parts)
            for part in request.parts[:-1]:
                self._advance(Task(part, task), None, waiting)
            task, response = Task(request.parts[-1], task), None

    def _upload(self) -> None:
        """Copy the live canvases to the model's device."""
        codes = torch.from_numpy(np.stack([sample.codes for sample in self.samples]))
        self.canvas.inner.copy_(codes)
        if self.canvas.reveal is not None:
            reveal = np.stack([sample.reveal for sample in self.samples if sample.reveal is not None])
            self.canvas.inside(self.canvas.reveal, self.steps).copy_(torch.from_numpy(reveal))
