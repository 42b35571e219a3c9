"""What generators of music yield while they work. Levels and samples count from 0; `index`, `iteration` and `batch`
count from 1, as people read them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from varcli.events import Event

if TYPE_CHECKING:
    import numpy as np

    from varcli.pianoroll.roll import Roll


@dataclass(frozen=True, slots=True)
class SampleStarted(Event):
    """Sample `sample` of `total` begins; `canvas` is its empty u8 canvas [P, T] (see PatchDone)."""

    sample: int
    total: int
    canvas: "np.ndarray"


@dataclass(frozen=True, slots=True)
class LevelStarted(Event):
    """A level starts on one parent: `total` children to decide, by `kind` "ar" or "mar"."""

    sample: int
    level: int
    kind: str
    total: int
    iterations: int


@dataclass(frozen=True, slots=True)
class PatchDone(Event):
    """Children of a level are finished, all finer levels included.

    `index` of `total` children of this parent are done. AR: one child at a time, `iteration` = `batch` = 0.
    MAR: `batch` of `iteration` (of `iterations`) is done. `bounds` holds (pitch0, pitch1, step0, step1), half-open,
    of each child just written. `canvas` is the sample's live u8 canvas [P, T] of cell codes, filled so far:
    a view that changes later, so copy what you keep.
    """

    sample: int
    level: int
    kind: str
    index: int
    total: int
    iteration: int
    iterations: int
    batch: int
    bounds: tuple[tuple[int, int, int, int], ...]
    canvas: "np.ndarray"


@dataclass(frozen=True, slots=True)
class SampleDone(Event):
    """Sample `sample` is complete."""

    sample: int
    total: int
    roll: "Roll"


@dataclass(frozen=True, slots=True)
class PieceScored(Event):
    """`done` of `total` pieces have their likelihood; `nats_per_frame` is the mean so far."""

    done: int
    total: int
    nats_per_frame: float


@dataclass(frozen=True, slots=True)
class MetricCompared(Event):
    """`done` of `total` metrics of generated and real music are compared; `name` is the last one."""

    done: int
    total: int
    name: str
