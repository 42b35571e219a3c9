"""Tiny fractal models, their canvases by enumeration, and prices by the parallel walk and by the sequential scorer.

Shapes: B canvases, P pitches, T steps.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from varcli.pianoroll.config import LevelConfig, ModelConfig, PianorollConfig
from varcli.pianoroll.constants import STATE_MASKED
from varcli.pianoroll.events import SampleDone
from varcli.pianoroll.generation.batch import Batch, Written
from varcli.pianoroll.generation.generate import SampleSettings, generate
from varcli.pianoroll.inference.packing import Order
from varcli.pianoroll.inference.turns import iterations_of, unmasked_after
from varcli.pianoroll.model.canvas import Canvas
from varcli.pianoroll.model.decisions import Draw, Parents
from varcli.pianoroll.model.ensemble import Ensemble
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.model.level import LevelModel
from varcli.pianoroll.sampling.constraints import CanvasConstraints
from varcli.pianoroll.sampling.policy import Policy
from varcli.pianoroll.train_config import DataConfig, MusicTrainConfig

torch.set_num_threads(1)


def tiny_config(
    kinds: Sequence[str] | str,
    shapes: str,
    pitches: int,
    *,
    notes: bool = False,
    scan_order: str = "column_major",
    velocity_bins: int = 1,
    level: dict[str, Any] | None = None,
    **sections: Any,
) -> PianorollConfig:
    """A config such as tiny_config("ar", "4x4>1x1", 8); with `notes`, a last level of the last kind says values."""
    split = shapes.split(">")
    kinds = [kinds] * len(split) if isinstance(kinds, str) else list(kinds)
    window = {"steps_before": 3, "pitches_around": 3, "steps_after": 2, "lags": (2,)}
    common = {"width": 16, "blocks": 1, "heads": 2} | window | (level or {})
    levels = [{"kind": kind, "shape": shape} | common for kind, shape in zip(kinds, split, strict=True)]
    if notes:
        levels.append({"kind": kinds[-1], "shape": None} | common)
    model = ModelConfig.model_validate(
        {
            "vocabulary": "notes" if notes else "binary",
            "pitches": pitches,
            "velocity_bins": velocity_bins,
            "steps_per_bar": 4,
            "scan_order": scan_order,
            "levels": tuple(LevelConfig.model_validate(options) for options in levels),
        }
        | sections.pop("model", {})
    )
    return PianorollConfig(model=model, **sections)


SHORT = {
    "steps": 6,
    "batch_size": 2,
    "warmup_steps": 2,
    "validate_every": 3,
    "save_every": 3,
    "validation_crops": 2,
    "parents_per_level": 16,
}


def config_of(
    kind: str = "ar",
    notes: bool = False,
    model: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    **options: Any,
) -> PianorollConfig:
    """A short training of a small model of 128 pitches; `options` are those of training."""
    level = {"steps_before": 2, "pitches_around": 2, "steps_after": 0}
    return tiny_config(
        kind,
        "64x4>8x2>1x1",
        128,
        notes=notes,
        level=level,
        model=model or {},
        name="tiny",
        data=DataConfig.model_validate({"crop_steps": 16} | (data or {})),
        train=MusicTrainConfig.model_validate(SHORT | options),
    )


def tiny(kinds: Sequence[str] | str, shapes: str, pitches: int, *, seed: int = 0, **options: Any) -> FractalModel:
    """A model whose weights are so large that every decision depends strongly on all it sees."""
    model = FractalModel(tiny_config(kinds, shapes, pitches, **options)).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.4, generator=generator)
    return model


def codes_of(model: FractalModel) -> int:
    """Number of codes of a cell."""
    options = model.config.model
    return 2 if options.vocabulary == "binary" else options.velocity_bins + 2


def all_canvases(pitches: int, steps: int, codes: int) -> torch.Tensor:
    """Every canvas u8 [codes ** (P T), P, T]."""
    return torch.tensor(list(itertools.product(range(codes), repeat=pitches * steps)), dtype=torch.uint8).view(
        -1, pitches, steps
    )


def some_canvas(model: FractalModel, steps: int, *, seed: int = 0, density: float = 0.3) -> np.ndarray:
    """A random canvas u8 [P, T] to which the model gives a probability: nothing is held that did not begin."""
    rng = np.random.default_rng(seed)
    shape = (model.config.model.pitches, steps)
    cells = (rng.integers(1, codes_of(model), shape) * (rng.random(shape) < density)).astype(np.uint8)
    if model.config.model.vocabulary == "notes":
        before = np.concatenate([np.zeros((shape[0], 1), bool), cells[:, :-1] > 0], 1)
        cells[(cells == 1) & ~before] = 2
    return cells


def samples(model: FractalModel, **settings: Any) -> list[np.ndarray]:
    """Cells u8 [P, T] of all samples."""
    done = [event for event in generate(model, SampleSettings(**settings)) if isinstance(event, SampleDone)]
    return [event.roll.cells for event in done]


def price(
    model: FractalModel | Ensemble, codes: torch.Tensor | np.ndarray, *, seed: int = 0, **options: Any
) -> np.ndarray:
    """NLL f64 [B] of canvases u8 [B, P, T] by the walk, in nats; `parents` is the cap of the draw."""
    codes = torch.as_tensor(codes)
    draw = Draw(torch.Generator().manual_seed(seed), options.pop("parents", None))
    nats = torch.zeros(len(codes), dtype=torch.float64)
    with torch.inference_mode():
        for decisions in model.walk(codes, draw, **options):
            nats.index_add_(0, decisions.canvas, decisions.nats.double() * decisions.weight)
    return nats.numpy()


def follow(model: FractalModel, codes: torch.Tensor | np.ndarray, *, seed: int = 0, **options: Any) -> np.ndarray:
    """NLL f64 [B] of canvases u8 [B, P, T] at one fixed order, one decision after another as in sampling."""
    return follow_with(
        model, codes, [Policy.following(model.tree, canvas, seed) for canvas in np.asarray(codes)], **options
    )


def follow_with(
    model: FractalModel, codes: torch.Tensor | np.ndarray, policies: list[Policy], **options: Any
) -> np.ndarray:
    """The same with given policies, one per canvas."""
    followed = decisions(model, codes, policies, **options)
    return np.array([sum(nats for *_, nats in each.prices) for each in followed])


def decisions(
    model: FractalModel,
    codes: torch.Tensor | np.ndarray,
    policies: list[Policy],
    *,
    order: Order | None = None,
    constraints: CanvasConstraints | None = None,
) -> list[Written]:
    """Canvases that were followed, with the prices of their decisions."""
    found = []
    for first in range(0, len(policies), 256):
        part = policies[first : first + 256]
        batch = Batch(
            model, part, range(len(part)), np.shape(codes)[2], order=order or Order(together=1), constraints=constraints
        )
        for _ in batch.events():
            pass
        found += batch.samples
    assert all(np.array_equal(each.visible, canvas) for each, canvas in zip(found, np.asarray(codes), strict=True))
    return found


def unmask_counts(n: int, iterations: int, *, in_order: bool = False) -> list[int]:
    """How many of n children each iteration unmasks, those left out that unmask none."""
    most = iterations_of(n, iterations, in_order)
    edges = [0, *(unmasked_after(n, most, i, in_order) for i in range(1, most + 1))]
    return [b - a for a, b in itertools.pairwise(edges) if b > a]


Node = tuple[int, int, int]
"""Level, pitch and step of a node."""


@dataclass(frozen=True)
class Looks:
    """What a walk computed: logits of every node it looked at, and the nodes that a masked level asked about."""

    logits: dict[Node, np.ndarray]
    masked: set[Node]


def looks(model: FractalModel, canvas: np.ndarray, seed: int = 0) -> Looks:
    """Walk one canvas u8 [P, T] and keep all logits, also those of nodes nobody asked about."""
    found, nodes, windows = Looks({}, set()), [], model.windows

    def look(level: LevelModel, live: Canvas, at: Parents) -> torch.Tensor:
        pairs = zip(at.pitch.flatten().tolist(), at.step.flatten().tolist(), strict=True)
        nodes[:] = [(level.level, pitch, step) for pitch, step in pairs]
        return windows(level, live, at)

    def note_state(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        masked = (inputs[0] == STATE_MASKED).flatten().tolist()
        found.masked.update(node for node, hidden in zip(nodes, masked, strict=True) if hidden)

    def decider(decide: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def note_logits(*inputs: torch.Tensor) -> torch.Tensor:
            logits = decide(*inputs)
            found.logits.update(zip(nodes, logits.flatten(0, 1).numpy().copy(), strict=True))
            return logits

        return note_logits

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "windows", look)
        for level in model.level_models:
            patch.setattr(level, "decide", decider(level.decide))
        hooks = [level.state.register_forward_pre_hook(note_state) for level in model.level_models]
        price(model, canvas[None], seed=seed)
    for hook in hooks:
        hook.remove()
    return found
