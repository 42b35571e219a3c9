"""Families: the children of one parent while they are being decided, and what they ask of the network.

A family is worked through by a coroutine (`ar`, `mar` or `cells`). It yields `Request` when it needs the network and
`Concurrent` when its children may go on side by side; the scheduler in `run` answers many families in one batch.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from varcli.events import Event
from varcli.pianoroll.model.level import GIVEN, UNKNOWN
from varcli.pianoroll.sampling.feasible import Feasibility
from varcli.pianoroll.sampling.policy import DecisionPolicy

if TYPE_CHECKING:
    from varcli.pianoroll.generation.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Cell:
    """The code of a cell, on its way to the visible canvas."""

    p: int
    t: int
    code: int


@dataclass
class SampleState:
    """One sample being written: row in the batch, live codes and reveal maps u8 [P, T], policy, event queue.

    `codes` is what the network sees, where cells known beforehand carry a flag; `visible` holds plain codes.
    `feasibility` says where the sample may and must sound, None if that is everywhere and nowhere.
    """

    row: int
    sample: int
    codes: np.ndarray
    visible: np.ndarray
    reveal: np.ndarray | None
    steps: int
    policy: DecisionPolicy
    feasibility: Feasibility | None = None
    events: "list[Event | Cell]" = field(default_factory=list)

    def finish(self, level: int, p: int, t: int, shape: tuple[int, int], *, empty: bool) -> None:
        """Note that a node of a masked level is done: it may be seen by its siblings, and is silent if `empty`."""
        if self.reveal is not None:
            area = (slice(p, p + shape[0]), slice(t, min(t + shape[1], self.steps)))
            self.reveal[area] = level
            if empty:
                codes = self.codes[area]
                codes[(codes < GIVEN) | (codes == UNKNOWN)] = 0

    def show(self, p: int, t: int, code: int) -> None:
        """Queue a cell that the network has written: it is shown in its turn among the events."""
        self.events.append(Cell(p, t, code))

    def write(self, p: int, t: int, code: int) -> None:
        """Write one cell."""
        self.codes[p, t] = code
        self.visible[p, t] = code
        if self.feasibility is not None:
            self.feasibility.wrote(p, t)

    def keep(self, given: np.ndarray, codes: np.ndarray) -> None:
        """Write the cells known beforehand, where `given` bool [P, T]; every node may see them."""
        self.codes[given] = codes[given] | GIVEN
        self.visible[given] = codes[given]


@dataclass(frozen=True)
class SiblingTokens:
    """What does not change about the children of a family: tokens so far [n, D], and where they stand, i64 [facts, n].

    The facts are first cell in the flat memory, pitch row, step, position in the patch; and if anything asks for them
    pitch, canvas, row of what is heard. Families decided in order repeat their last child, so that a look ahead may
    reach beyond it.
    """

    tokens: Tensor
    where: Tensor


@dataclass
class Siblings:
    """Children of one parent: pitches and steps [n], indices of those that begin on the canvas, and states [n].

    `hidden` [D] is the parent's vector; `fixed` is what does not change about the children, once computed.
    `must` and `closed` say which of the children sound in any case, and in which nothing is to be decided from the
    start, bool [n]; None if nothing is said of any.
    """

    level: int
    sheet: SampleState
    p: np.ndarray
    t: np.ndarray
    exists: np.ndarray
    state: np.ndarray
    hidden: Tensor | None
    fixed: SiblingTokens | None = None
    must: np.ndarray | None = None
    closed: np.ndarray | None = None

    def settle(self) -> None:
        """Look up which children sound in any case, and in which nothing is to be decided."""
        feasibility = self.sheet.feasibility
        if feasibility is not None:
            self.must = np.zeros(len(self.p), bool)
            self.must[self.exists] = feasibility.must(self.level, self.p[self.exists], self.t[self.exists])
            self.closed = np.zeros(len(self.p), bool)
            self.closed[self.exists] = ~self.open(self.exists)

    def knows(self, index: int) -> bool:
        """Whether all of a child was known beforehand."""
        return self.closed is not None and bool(self.closed[index])

    @property
    def any_required(self) -> bool:
        """Whether any child sounds in any case."""
        return self.must is not None and bool(self.must.any())

    def open(self, nodes: np.ndarray) -> np.ndarray:
        """Which of the children `nodes` hold a free cell that may sound now, bool [n]."""
        feasibility = self.sheet.feasibility
        if feasibility is None:
            return np.ones(len(nodes), bool)
        return feasibility.open(self.level, self.p[nodes], self.t[nodes])

    def insist(self, nodes: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """Logits [n] of the children `nodes`, infinite where one sounds in any case."""
        return logits if self.must is None else np.where(self.must[nodes], np.float32(np.inf), logits)


@dataclass(frozen=True)
class Request:
    """A question to the network: logits and hidden vectors of the family's children from `start` up to `stop`.

    Of these, only those at the indices `wanted` need an answer (None: all). Where masked families are filled at once,
    `wanted` is the order of all, and `counts` says how many are decided in each iteration.
    """

    family: Siblings
    start: int
    stop: int
    wanted: np.ndarray | None = None
    counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Response:
    """logits [m] (or [1, V - 1] for a value) as numpy f32, hidden vectors [m, D]."""

    logits: np.ndarray
    hidden: Tensor


@dataclass(frozen=True)
class Filled:
    """Codes u8 [n] of a family of cells that is decided and written, 0 where silent."""

    codes: np.ndarray


@dataclass(frozen=True)
class Concurrent:
    """Coroutines that may run side by side; the asker goes on when all are done."""

    parts: "list[Decoder]"


Decoder = Generator[Request | Concurrent, Response | Filled | None, None]


def bounds(run: "Scheduler", family: Siblings, index: int) -> tuple[int, int, int, int]:
    """(pitch0, pitch1, step0, step1) of a child, cut to the canvas."""
    h, w = run.tree.shapes[family.level]
    p, t = int(family.p[index]), int(family.t[index])
    return p, p + h, t, min(t + w, family.sheet.steps)


def settled(sheet: SampleState, level: int, p: int, t: int, shape: tuple[int, int]) -> Decoder:
    """The coroutine for a node in which nothing is left to decide."""
    sheet.finish(level, p, t, shape, empty=True)
    return
    yield  # a worker that asks nothing


def unknown_canvas(shape: tuple[int, ...], masked: bool) -> np.ndarray:
    """A canvas before anything is written: unknown where a masked level can tell unknown from silent, else silent."""
    return np.full(shape, UNKNOWN if masked else 0, np.uint8)


def emit(sheet: SampleState, event: Any) -> None:
    """Queue an event of a sample."""
    sheet.events.append(event)


def drain(sheet: SampleState) -> Iterator[Event]:
    """Hand out queued events."""
    if sheet.events:
        events, sheet.events = sheet.events, []
        for event in events:
            if isinstance(event, Cell):
                sheet.visible[event.p, event.t] = event.code
            else:
                yield event
