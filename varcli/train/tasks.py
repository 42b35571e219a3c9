"""What the training loop asks of a family, and which family a config belongs to."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from varcli.emitters.config import EmittersConfig
from varcli.emitters.training import EmitterTask
from varcli.emitters.training import plan as plan_emitters
from varcli.events import FilesRead, Warned
from varcli.pianoroll.config import PianorollConfig
from varcli.pianoroll.training.task import PianorollTask
from varcli.pianoroll.training.task import plan as plan_pianoroll

Config = PianorollConfig | EmittersConfig


class StepLoss(Protocol):
    """The loss to descend, and the NLL of the batch in nats per frame (a step of a roll, or a camera frame)."""

    @property
    def loss(self) -> Tensor: ...

    @property
    def nats_per_frame(self) -> float: ...


class Task(Protocol):
    """Batches, a loss and a validation figure; `provenance` says what the model was trained on."""

    provenance: dict[str, Any]

    def build(self) -> nn.Module:
        """A freshly initialised model."""
        ...

    def networks(self, model: nn.Module) -> Iterable[nn.Module]:
        """The parts that torch.compile works on, and Muon on their matrices."""
        ...

    def step(self, model: nn.Module, step: int, rank: int) -> StepLoss:
        """The loss of one step: a function of seed, step and rank alone, so that resuming needs no state."""
        ...

    def validate(self, model: nn.Module, size: int) -> tuple[float, tuple[float, ...]]:
        """NLL in nats per frame and its parts in bits; the same data every time."""
        ...

    def draw_sample(self, weights: Mapping[str, Tensor], folder: Path, step: int) -> Path:
        """Draw what the model can do so far; returns the picture's path."""
        ...


def open_task(config: Config, data: Path | None, device: str) -> Iterator[FilesRead | Warned | Task]:
    """Make ready what a config trains on, with events of what is read; the last item is the task."""
    if isinstance(config, EmittersConfig):
        yield EmitterTask(config, device)
    else:
        assert data is not None, "piano rolls are trained on data"
        yield from PianorollTask.read(config, data)


def plan(config: Config) -> dict[str, Any]:
    """What a training would do, without data: parameters, steps, and how much it would see."""
    return plan_emitters(config) if isinstance(config, EmittersConfig) else plan_pianoroll(config)
