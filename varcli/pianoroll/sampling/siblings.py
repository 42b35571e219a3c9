"""The children of one node while they are being decided, and the sample that they belong to."""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from varcli.events import Event
from varcli.pianoroll.model.level import GIVEN, STATE_EMPTY, STATE_MASKED, STATE_OCCUPIED, STATE_START, UNKNOWN
from varcli.pianoroll.sampling.feasible import Feasibility
from varcli.pianoroll.sampling.policy import DecisionPolicy

Box = tuple[int, int, int, int]
"""(pitch0, pitch1, step0, step1) of a node, half-open."""


@dataclass
class SampleState:
    """One sample being written: row in the batch, live codes and reveal maps u8 [P, T], policy, event queue.

    `codes` is what windows show, where cells known beforehand carry a flag; `visible` holds plain codes.
    `feasibility` follows where the sample may and must sound, None if that is everywhere and nowhere.
    """

    row: int
    sample: int
    codes: np.ndarray
    visible: np.ndarray
    reveal: np.ndarray | None
    steps: int
    policy: DecisionPolicy
    feasibility: Feasibility | None = None
    events: list[Event] = field(default_factory=list)

    def finish(self, level: int, p: int, t: int, shape: tuple[int, int], *, empty: bool) -> None:
        """Note that a node of a masked level is done: it is hidden from its siblings no more, and silent if `empty`."""
        if self.reveal is not None:
            area = (slice(p, p + shape[0]), slice(t, min(t + shape[1], self.steps)))
            self.reveal[area] = level
            if empty:
                codes = self.codes[area]
                codes[(codes < GIVEN) | (codes == UNKNOWN)] = 0

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

    def drain(self) -> list[Event]:
        """Hand out queued events."""
        events, self.events = self.events, []
        return events


@dataclass(frozen=True)
class SiblingTokens:
    """What stays the same about siblings: tokens so far [n, D], and their places, i64 [facts, n].

    The facts are first cell in the flat memory, pitch row, step, position in the patch; and if the model needs them
    pitch, canvas, row of the pitch-class context. Siblings decided in order repeat their last child, so that a draft
    may reach beyond it.
    """

    tokens: Tensor
    where: Tensor


@dataclass
class Siblings:
    """Children of one parent: pitches and steps [n], indices of those that begin on the canvas, and states [n].

    `hidden` [D] is the parent's vector; `fixed` is what stays the same about the children, once computed.
    `must` and `closed` say which of the children sound in any case, and in which nothing is to be decided from the
    start, bool [n]; None where there are no constraints.
    """

    level: int
    sample: SampleState
    p: np.ndarray
    t: np.ndarray
    exists: np.ndarray
    state: np.ndarray
    hidden: Tensor | None
    fixed: SiblingTokens | None = None
    must: np.ndarray | None = None
    closed: np.ndarray | None = None

    def constrain(self) -> None:
        """Look up which children sound in any case, and in which nothing is to be decided."""
        feasibility = self.sample.feasibility
        if feasibility is not None:
            self.must = np.zeros(len(self.p), bool)
            self.must[self.exists] = feasibility.must(self.level, self.p[self.exists], self.t[self.exists])
            self.closed = np.zeros(len(self.p), bool)
            self.closed[self.exists] = ~self.open(self.exists)

    def begin_in_order(self) -> None:
        """States where a child's is that of the one before it: a start, then silence assumed."""
        self.state = np.full(len(self.p), STATE_EMPTY, np.int64)
        self.state[0] = STATE_START

    def begin_masked(self) -> None:
        """States where a child's is its own: all are masked but those off the canvas, which are empty."""
        self.state = np.full(len(self.p), STATE_EMPTY, np.int64)
        self.state[self.exists] = STATE_MASKED
        if self.must is not None:
            self.state[self.must] = STATE_OCCUPIED

    def is_given(self, index: int) -> bool:
        """Whether all of a child was known beforehand."""
        return self.closed is not None and bool(self.closed[index])

    @property
    def any_required(self) -> bool:
        """Whether any child sounds in any case."""
        return self.must is not None and bool(self.must.any())

    def open(self, nodes: np.ndarray) -> np.ndarray:
        """Which of the children `nodes` hold a free cell that may sound now, bool [n]."""
        feasibility = self.sample.feasibility
        if feasibility is None:
            return np.ones(len(nodes), bool)
        return feasibility.open(self.level, self.p[nodes], self.t[nodes])

    def possible(self, nodes: np.ndarray) -> np.ndarray:
        """Which of the children `nodes` can sound at all, bool [n]."""
        return self.open(nodes) if self.must is None else self.open(nodes) | self.must[nodes]

    def force(self, nodes: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """Logits [n] of the children `nodes`, infinite where one sounds in any case."""
        return logits if self.must is None else np.where(self.must[nodes], np.float32(np.inf), logits)

    def place(self, index: int) -> tuple[int, int]:
        """Pitch and step of a child."""
        return int(self.p[index]), int(self.t[index])

    def box(self, index: int, shape: tuple[int, int]) -> Box:
        """Bounds of a child of a shape, cut to the canvas."""
        p, t = self.place(index)
        return p, p + shape[0], t, min(t + shape[1], self.sample.steps)
