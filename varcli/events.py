"""What generators of the domains yield while they work.

Plain frozen dataclasses: the progress display, the frame recorder and the tests all read the same ones.
Levels and samples count from 0; `index`, `iteration` and `batch` count from 1, as people read them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from varcli.emitters.pipeline.survey import Microscope
    from varcli.pianoroll.score.roll import Roll


@dataclass(frozen=True, slots=True)
class SampleStarted:
    """Sample `sample` of `total` begins; `canvas` is its empty u8 canvas [P, T] (see PatchDone)."""

    sample: int
    total: int
    canvas: "np.ndarray"


@dataclass(frozen=True, slots=True)
class LevelStarted:
    """A level starts on one parent: `total` children to decide, by `kind` "ar" or "mar"."""

    sample: int
    level: int
    kind: str
    total: int
    iterations: int


@dataclass(frozen=True, slots=True)
class PatchDone:
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
class SampleDone:
    """Sample `sample` is complete."""

    sample: int
    total: int
    roll: "Roll"


@dataclass(frozen=True, slots=True)
class FilesRead:
    """`done` of `total` files of a corpus are read; `name` is the last one."""

    done: int
    total: int
    name: str


@dataclass(frozen=True, slots=True)
class PieceScored:
    """`done` of `total` pieces have their likelihood; `nats_per_frame` is the mean so far."""

    done: int
    total: int
    nats_per_frame: float


@dataclass(frozen=True, slots=True)
class TrainStep:
    """One optimiser step is done. `nats_per_frame` is the training NLL estimate of this step, `lr` the rate used."""

    step: int
    total: int
    loss: float
    nats_per_frame: float
    lr: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Validated:
    """The EMA weights were scored on validation data at `step`; `best` says whether it is the lowest so far."""

    step: int
    nats_per_frame: float
    bits_per_level: tuple[float, ...]
    best: bool


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """`path` was written whole at `step`."""

    step: int
    path: str


@dataclass(frozen=True, slots=True)
class FrameDrawn:
    """`done` of `total` frames of an animation are drawn."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class MetricCompared:
    """`done` of `total` metrics of generated and real music are compared; `name` is the last one."""

    done: int
    total: int
    name: str


@dataclass(frozen=True, slots=True)
class StackOpened:
    """A stack of `frames` frames to analyse is open; the first look at it follows."""

    frames: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class StackProbed:
    """A first look at a stack of `frames` to analyse is done: `microscope` is what it will be analysed with."""

    frames: int
    height: int
    width: int
    microscope: "Microscope"


@dataclass(frozen=True, slots=True)
class ScaleDone:
    """A scale of frames `frame_range` (half-open) is predicted: `cells_active` of `cells_total` worked out."""

    frame_range: tuple[int, int]
    scale: int
    cells_active: int
    cells_total: int


@dataclass(frozen=True, slots=True)
class FramesDone:
    """`done` of `total` frames are analysed, `emitters` found in those of this run, at `fps` frames a second."""

    done: int
    total: int
    emitters: int
    fps: float


@dataclass(frozen=True, slots=True)
class FramesSimulated:
    """`done` of `total` camera frames are simulated, with `emitters` in them so far."""

    done: int
    total: int
    emitters: int


@dataclass(frozen=True, slots=True)
class StepsPlanned:
    """Tables of emitters will go through these steps."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step that was planned begins, on so many `localizations` (None: not known yet)."""

    name: str
    localizations: int | None


@dataclass(frozen=True, slots=True)
class PairsCorrelated:
    """`done` of `total` pairs of segments are correlated, for the drift between them."""

    done: int
    total: int


Event = (
    SampleStarted
    | LevelStarted
    | PatchDone
    | SampleDone
    | FilesRead
    | PieceScored
    | TrainStep
    | Validated
    | CheckpointSaved
    | FrameDrawn
    | MetricCompared
    | StackOpened
    | StackProbed
    | ScaleDone
    | FramesDone
    | FramesSimulated
    | StepsPlanned
    | StepStarted
    | PairsCorrelated
)
