"""What the training loop needs of emitters: simulated batches, the loss, and the validation figure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from varcli.emitters.config import EmittersConfig
from varcli.emitters.network.inputs import FrameConditions
from varcli.emitters.network.loss import LossParts, Truth, VAREmitterLoss
from varcli.emitters.network.model import TrueVAREmitterPredictor, build
from varcli.emitters.simulation.training_frames import Batch, simulate_batch

_VALIDATION = 10**9
_FORCED = 31


@dataclass(frozen=True)
class StepLoss:
    """The loss to descend, and the NLL of the batch in nats per camera frame."""

    loss: Tensor
    nats_per_frame: float
    parts: LossParts


class EmitterTask:
    """Frames simulated on the fly over the whole domain, on the training device."""

    def __init__(self, config: EmittersConfig, device: str = "cpu") -> None:
        self.config, self.device = config, torch.device(device)
        self.loss = VAREmitterLoss(config.loss.scale_weights, config.model.decides)
        self.provenance: dict[str, Any] = {
            "simulated": config.simulation.model_dump(mode="json"),
            "frames": config.train.steps * config.train.batch_size,
            "crop_px": config.loss.crop_px,
        }

    def build(self) -> nn.Module:
        """A freshly initialised model."""
        return build(self.config.model)

    def networks(self, model: nn.Module) -> Iterable[nn.Module]:
        """The encoder: what follows depends on where emitters are."""
        assert isinstance(model, TrueVAREmitterPredictor)
        return [model.encoder]

    def batch(self, seed: int, size: int) -> Batch:
        """Simulated frames: a function of the seed alone."""
        generator = torch.Generator(self.device).manual_seed(seed)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return simulate_batch(self.config.simulation, size, self.config.loss.crop_px, generator)

    def step(self, model: nn.Module, step: int, rank: int) -> StepLoss:
        """The loss of one step's frames: a function of seed, step and rank alone."""
        options = self.config.train
        seed = options.seed * 1_000_003 + step * 97 + rank
        generator = torch.Generator().manual_seed(seed + _FORCED)
        forced = torch.rand(options.batch_size, generator=generator) < self.config.model.teacher_forcing
        return self.price(model, self.batch(seed, options.batch_size), forced.to(self.device))

    def price(self, model: nn.Module, batch: Batch, forced_B: Tensor | None = None) -> StepLoss:
        """The loss of a batch, all cells that hold emitters refined."""
        assert isinstance(model, TrueVAREmitterPredictor)
        frames, height, width = batch.frames_e_BYX.shape
        truth = Truth(batch.emitters_BE3, batch.inside_BE)
        grids = model.grids(height, width)
        counts = truth.counts(grids)
        outputs = model(batch.frames_e_BYX, known_of(batch), truth=counts, forced_B=forced_B)
        with torch.autocast(self.device.type, enabled=False):
            parts = self.loss(outputs, truth, grids)
        emitters = max(1, int(batch.inside_BE.sum()))
        return StepLoss(parts.loss, parts.nats * emitters / frames, parts)

    @torch.no_grad()
    def validate(self, model: nn.Module, size: int) -> tuple[float, tuple[float, ...]]:
        """NLL in nats per camera frame, and in bits per scale and for position and photons; the same frames always."""
        total: list[np.ndarray] = []
        count = self.config.train.validation_crops
        for start in range(0, count, size):
            frames = min(size, count - start)
            batch = self.batch(_VALIDATION + start, frames)
            parts = self.price(model, batch).parts
            emitters = max(1, int(batch.inside_BE.sum()))
            total.append(np.array([*parts.scales, parts.leaf]) * emitters)
        nats = np.sum(total, 0) / count
        return float(nats.sum()), tuple(float(value / np.log(2)) for value in nats)

    def draw_sample(self, weights: Mapping[str, Tensor], folder: Path, step: int) -> Path:
        """Draw one simulated frame at every scale with the emitters found in it, in `folder`/samples."""
        from varcli.emitters.figures.maps import Progress, save_progress
        from varcli.emitters.network.predict import Predictor
        from varcli.emitters.network.prediction import Conditions
        from varcli.files import ensure_output_dir

        model = build(self.config.model).eval()
        model.load_state_dict(dict(weights))
        batch = self.batch(_VALIDATION, 1)
        frames_e = batch.frames_e_BYX.cpu().numpy()
        conditions = Conditions(float(batch.sigma_B[0]), float(batch.read_std_B[0]) ** 2, float(batch.excess_B[0]))
        scales = self.config.model.scales
        found = Predictor(model).predict(frames_e, conditions, scales=scales)
        counts = {scale: found.counts[scale][0] for scale in scales}
        cells = {scale: (found.cells[scale], found.of_cells[scale]) for scale in scales}
        path = ensure_output_dir(folder / "samples") / f"step_{step:07d}.png"
        emitters = found.candidates
        progress = Progress(0, frames_e[0], counts, cells, emitters.x_px, emitters.y_px)
        save_progress(path, progress, f"{self.config.name}, step {step}")
        return path


def known_of(batch: Batch) -> FrameConditions:
    """The conditions of a simulated batch."""
    return FrameConditions(
        batch.sigma_B, batch.read_std_B, batch.excess_B, batch.photons_B, batch.spread_B, batch.known_B.bool()
    )


def build_model(config: EmittersConfig) -> TrueVAREmitterPredictor:
    """The freshly initialised model of a whole config, which it remembers."""
    return build(config.model)


def plan(config: EmittersConfig) -> dict[str, Any]:
    """What a training would do: parameters in all and per part, steps and frames."""
    model = build(config.model)
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    frames = config.train.steps * config.train.batch_size
    return {
        "name": config.name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "parameters_per_part": {name: count for name, count in parts.items() if count},
        "steps": config.train.steps,
        "crops": frames,
        "frames": frames,
    }
