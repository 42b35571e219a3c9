"""Families: the children of one parent while they are being decided, and what they ask of the network.

A family is worked through by a coroutine (`ar`, `mar` or `cells`). It yields `Ask` when it needs the network and
`Together` when its children may go on side by side; the scheduler in `run` answers many families in one batch.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from varcli.events import Event
from varcli.pianoroll.choose import Chooser
from varcli.pianoroll.level import UNKNOWN

if TYPE_CHECKING:
    from varcli.pianoroll.run import Run


@dataclass
class Sheet:
    """One sample being written: row in the batch, live codes and reveal maps u8 [P, T], chooser, event queue."""

    row: int
    sample: int
    codes: np.ndarray
    visible: np.ndarray
    reveal: np.ndarray | None
    steps: int
    chooser: Chooser
    events: list[Event] = field(default_factory=list)

    def finish(self, level: int, p: int, t: int, shape: tuple[int, int], *, empty: bool) -> None:
        """Note that a node of a masked level is done: it may be seen by its siblings, and is silent if `empty`."""
        if self.reveal is not None:
            area = (slice(p, p + shape[0]), slice(t, min(t + shape[1], self.steps)))
            self.reveal[area] = level
            if empty:
                self.codes[area] = 0

    def write(self, p: int, t: int, code: int) -> None:
        """Write one cell."""
        self.codes[p, t] = code
        self.visible[p, t] = code


@dataclass
class Family:
    """Children of one parent: pitches and steps [n], indices of those that begin on the canvas, and states [n].

    `hidden` [D] is the parent's vector; `inherited` [n, D] what the children take from it, once computed.
    """

    level: int
    sheet: Sheet
    p: np.ndarray
    t: np.ndarray
    exists: np.ndarray
    state: np.ndarray
    hidden: Tensor | None
    inherited: Tensor | None = None


@dataclass(frozen=True)
class Ask:
    """A question to the network: logits and hidden vectors of the family's children from `start` up to `stop`."""

    family: Family
    start: int
    stop: int


@dataclass(frozen=True)
class Answer:
    """logits [m] (or [1, V - 1] for a value) as numpy f32, hidden vectors [m, D]."""

    logits: np.ndarray
    hidden: Tensor


@dataclass(frozen=True)
class Together:
    """Coroutines that may run side by side; the asker goes on when all are done."""

    parts: "list[Worker]"


Worker = Generator[Ask | Together, Answer | None, None]


def bounds(run: "Run", family: Family, index: int) -> tuple[int, int, int, int]:
    """(pitch0, pitch1, step0, step1) of a child, cut to the canvas."""
    h, w = run.tree.shapes[family.level]
    p, t = int(family.p[index]), int(family.t[index])
    return p, p + h, t, min(t + w, family.sheet.steps)


def unknown_canvas(shape: tuple[int, ...], masked: bool) -> np.ndarray:
    """A canvas before anything is written: unknown where a masked level can tell unknown from silent, else silent."""
    return np.full(shape, UNKNOWN if masked else 0, np.uint8)


def emit(sheet: Sheet, event: Any) -> None:
    """Queue an event of a sample."""
    sheet.events.append(event)


def drain(sheet: Sheet) -> Iterator[Event]:
    """Hand out queued events."""
    if sheet.events:
        events, sheet.events = sheet.events, []
        yield from events
