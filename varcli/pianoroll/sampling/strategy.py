"""The protocol of strategies: how the children of a node are decided, in a coroutine (see `Strategy`).

A coroutine yields `Request` when it needs the network and `Concurrent` when its children may go on side by side; the
scheduler answers the requests of many of them in one batch. A strategy uses this protocol alone, and a new one is a
class and its registration (`generation.plans.register`).
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from varcli.pianoroll.config import LevelKind
from varcli.pianoroll.events import LevelStarted, PatchDone
from varcli.pianoroll.sampling.siblings import Box, SampleState, Siblings


@dataclass(frozen=True)
class Request:
    """Asks the network for logits and hidden vectors of siblings from `start` up to `stop`.

    Of these, only those at the indices `wanted` need an answer (None: all).
    """

    siblings: Siblings
    start: int
    stop: int
    wanted: np.ndarray | None = None


@dataclass(frozen=True)
class Response:
    """logits [m] (or [1, V - 1] for a value) as numpy f32, hidden vectors [m, D]."""

    logits: np.ndarray
    hidden: Tensor


@dataclass(frozen=True)
class Concurrent:
    """Coroutines that may run side by side; who yields them goes on when all are done."""

    parts: "list[Decoder]"


Decoder = Generator[Request | Concurrent, Response | None, None]
Descend = Callable[[SampleState, int, int, Tensor], Decoder]
"""The coroutine that fills an occupied child of a level: of a sample, at a pitch and step, with its hidden vector."""


@dataclass(frozen=True)
class LevelPlan:
    """How a level is decided in one batch of samples, the same for all of its siblings.

    `shape` is that of a child in pitches and steps; `is_finest` says that children are cells. In scan order `draft`
    children are decided with one request, as if those before the first occupied one were silent (1: one by one), and
    as many as there are where `speculates` and a policy needs them all. In other orders they are unmasked in
    `iterations`, at most `batch` at once (None: no limit), in the order of time if `in_order`.
    """

    level: int
    kind: LevelKind
    shape: tuple[int, int]
    is_finest: bool
    draft: int
    speculates: bool
    iterations: int
    batch: int | None
    in_order: bool

    def started(self, siblings: Siblings, iterations: int) -> None:
        """Report that the level starts on some siblings; `iterations` is 0 where there are none to speak of."""
        event = LevelStarted(siblings.sample.sample, self.level, self.kind.name, len(siblings.exists), iterations)
        siblings.sample.events.append(event)

    def done(self, siblings: Siblings, index: int, turn: tuple[int, int, int], boxes: tuple[Box, ...]) -> None:
        """Report that children in `boxes` are written, `index` in all by now; `turn`: iteration, iterations, batch."""
        sample, total = siblings.sample, len(siblings.exists)
        event = PatchDone(sample.sample, self.level, self.kind.name, index, total, *turn, boxes, sample.visible)
        sample.events.append(event)


class Strategy(Protocol):
    """Decides the children of a node."""

    kind: LevelKind

    def fill(self, plan: LevelPlan, siblings: Siblings, descend: Descend) -> Decoder:
        """Set the children's first states, decide them, fill the occupied ones with `descend`, and report it."""
        ...
