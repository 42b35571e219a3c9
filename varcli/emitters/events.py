"""What generators of microscopy yield while they work."""

from dataclasses import dataclass

from varcli.events import Event


@dataclass(frozen=True, slots=True)
class StackOpened(Event):
    """A stack of `frames` frames to analyse is open; its survey follows."""

    frames: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class StackSurveyed(Event):
    """What the open stack will be analysed with is known."""


@dataclass(frozen=True, slots=True)
class Assumed(Event):
    """Something that a result rests on and that the user did not give, in one line."""

    message: str


@dataclass(frozen=True, slots=True)
class ScaleDone(Event):
    """A scale of frames `frame_range` (half-open) is predicted: `cells_active` of `cells_total` worked out."""

    frame_range: tuple[int, int]
    scale: int
    cells_active: int
    cells_total: int


@dataclass(frozen=True, slots=True)
class FramesDone(Event):
    """`done` of `total` frames are analysed, `emitters` found in those of this run, at `fps` frames a second."""

    done: int
    total: int
    emitters: int
    fps: float


@dataclass(frozen=True, slots=True)
class FramesSimulated(Event):
    """`done` of `total` camera frames are simulated, with `emitters` in them so far."""

    done: int
    total: int
    emitters: int


@dataclass(frozen=True, slots=True)
class StepsPlanned(Event):
    """Tables of emitters will go through these steps."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepStarted(Event):
    """A step that was planned begins, on so many `localizations` (None: not known yet)."""

    name: str
    localizations: int | None


@dataclass(frozen=True, slots=True)
class PairsCorrelated(Event):
    """`done` of `total` pairs of segments are correlated, for the drift between them."""

    done: int
    total: int
