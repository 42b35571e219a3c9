"""A batch of samples on its way: written side by side, each in its own thread, and told in a fixed order."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np
import torch

from varcli.pianoroll.config import PerLevel, at_levels
from varcli.pianoroll.constants import UNKNOWN
from varcli.pianoroll.events import LevelStarted, PatchDone
from varcli.pianoroll.inference import fields as f
from varcli.pianoroll.inference.fields import ModelArrays, SampleArrays
from varcli.pianoroll.inference.packing import Order, pack
from varcli.pianoroll.inference.samples import begin
from varcli.pianoroll.model.canvas import Canvas
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.sampling.constraints import CanvasConstraints
from varcli.pianoroll.sampling.policy import Policy


@dataclass
class Written:
    """One sample: its number, plain codes u8 [P, T] so far, and (level, pitch, step, nats) of decisions, if priced."""

    sample: int
    visible: np.ndarray
    prices: list[tuple[int, int, int, float]] = field(default_factory=list)


class Part(NamedTuple):
    """Rows of a sample's log, and whether they are its last."""

    rows: list[list[float]]
    is_last: bool


class Batch:
    """Some samples of a model, on the CPU; `samples` hold them, `events()` does the work."""

    def __init__(
        self,
        model: FractalModel,
        policies: Sequence[Policy],
        samples: Sequence[int],
        steps: int,
        *,
        order: Order | None = None,
        constraints: CanvasConstraints | None = None,
        temperature: PerLevel = 1.0,
        top_p: PerLevel = 1.0,
    ) -> None:
        """`order` is that of masked children. Temperature divides the logits; `top_p` keeps the likeliest outcomes of
        each decision up to that probability. Both are one number, or one per level, a cell's value last.
        """
        order = order or Order()
        self._kinds = [level.kind for level in model.config.model.levels]
        self._shapes, self._steps = model.tree.shapes, steps
        one_by_one = order.one_by_one
        # Before anything is written, cells are unknown where a masked level can tell unknown from silent.
        empty = UNKNOWN if model.masked and not one_by_one else 0
        codes = torch.full((1, model.tree.pitches, steps), empty, dtype=torch.uint8)
        in_order = order.is_sorted(0) and model.scannable
        canvas = Canvas(model.layout, codes, in_order=one_by_one, columns_in_order=in_order)
        levels = len(self._shapes) + 1
        sharp = np.array([at_levels(temperature, levels), at_levels(top_p, levels)])[:, : len(self._kinds)]
        moving = constraints is not None and constraints.max_polyphony is not None
        follows = policies[0].truth is not None
        self._model = pack(model, canvas, order, np.ascontiguousarray(sharp.T), follows=follows, moving=moving)
        self._arrays = [begin(self._model, canvas, policy, self._shapes, constraints) for policy in policies]
        self.samples = [Written(sample, np.zeros(codes.shape[1:], np.uint8)) for sample in samples]
        if constraints is not None:
            for written in self.samples:
                written.visible[constraints.given] = constraints.codes[constraints.given]

    def events(self) -> Iterator[LevelStarted | PatchDone]:
        """Write all samples; yields what happened, a part of each sample in turn."""
        from varcli.pianoroll.inference.engine import prepare  # numba is slow to import

        prepare(self._model, self._arrays[0])
        queues: list[SimpleQueue[Part | BaseException]] = [SimpleQueue() for _ in self.samples]
        pool = ThreadPoolExecutor(min(len(queues), os.cpu_count() or 1))

        def go_on(sample: SampleArrays, queue: SimpleQueue[Part | BaseException]) -> None:
            try:
                part = _next_part(self._model, sample)
                queue.put(part)
                if not part.is_last:
                    pool.submit(go_on, sample, queue)  # behind the others, so that all come along equally
            except BaseException as error:
                queue.put(error)

        try:
            for sample, queue in zip(self._arrays, queues, strict=True):
                pool.submit(go_on, sample, queue)
            waiting = deque(zip(self.samples, queues, strict=True))
            while waiting:
                written, queue = waiting.popleft()
                part = queue.get()
                if isinstance(part, BaseException):
                    raise part
                yield from self._replay(written, part.rows)
                if not part.is_last:
                    waiting.append((written, queue))
        finally:
            pool.shutdown(cancel_futures=True)

    def _replay(self, written: Written, rows: list[list[float]]) -> Iterator[LevelStarted | PatchDone]:
        """What a part of the log tells, while what it wrote becomes visible."""
        index = 0
        while index < len(rows):
            row, index = rows[index], index + 1
            kind, first, second, third = map(int, row[:4])
            if kind == f.WROTE:
                written.visible[first, second] = third
            elif kind == f.PRICED:
                written.prices.append((first, second, third, row[4]))
            elif kind == f.STARTED:
                yield LevelStarted(written.sample, first, self._kinds[first], second, third)
            else:
                turn, count = (int(row[4]), int(row[5]), int(row[6])), int(row[7])
                bounds = tuple(self._bounds(box) for box in rows[index : index + count])
                index += count
                yield PatchDone(
                    written.sample, first, self._kinds[first], second, third, *turn, bounds, written.visible
                )

    def _bounds(self, row: list[float]) -> tuple[int, int, int, int]:
        level, p, t = map(int, row[1:4])
        height, steps = self._shapes[level]
        return p, p + height, t, min(t + steps, self._steps)


def _next_part(model: ModelArrays, sample: SampleArrays) -> Part:
    """Go on with a sample until there is something to tell."""
    from varcli.pianoroll.inference.engine import advance  # numba is slow to import

    count = advance(model, sample)
    return Part(sample.log[: count if count >= 0 else -1 - count].tolist(), count < 0)
