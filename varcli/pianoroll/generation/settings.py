"""How to sample, and whether a model can: importable without torch, to refuse before anything loads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

import numpy as np

from varcli.errors import UsageError, at_least
from varcli.pianoroll.config import PerLevel, PianorollConfig, at_levels
from varcli.pianoroll.planes import Planes
from varcli.pianoroll.sampling.constraints import CanvasConstraints


@dataclass(frozen=True)
class SampleSettings:
    """How to sample; None takes what the checkpoint's own config has.

    Samples are numbered from 0 to `num_samples`, or have these `numbers`; where `varied` is the number of one, they are
    others of the same seed. `target_width` counts steps. `num_iter_list` holds unmasking iterations per level, for
    models with masked levels. `temperature` and `top_p` are one number, or one per level, coarse to fine, a cell's
    value last. `constraints` say what is kept and what may sound, on the canvases of rolls of that width; `kept` bool
    [P, T], `steps_per_bar`, `downbeats` and `beat_units` are those of the rolls that come out, and tell models of
    metre.
    """

    num_samples: int = 1
    batch_size: int = 1
    target_width: int = 256
    num_iter_list: tuple[int, ...] | None = None
    scan_order: str | None = None
    temperature: PerLevel | None = None
    top_p: PerLevel | None = None
    tempo_bpm: float = 120.0
    seed: int = 0
    constraints: CanvasConstraints | None = None
    kept: np.ndarray | None = None
    steps_per_bar: int | None = None
    downbeats: tuple[int, ...] | None = None
    beat_units: Mapping[int, int] = field(default_factory=dict)
    numbers: tuple[int, ...] | None = None
    varied: int | None = None

    @property
    def written(self) -> tuple[int, ...]:
        """The numbers of the samples."""
        return tuple(range(self.num_samples)) if self.numbers is None else self.numbers

    def draws(self, number: int) -> tuple[int, ...]:
        """What the draws of a sample hang on."""
        return (self.seed, number) if self.varied is None else (self.seed, self.varied, number)


def check_settings(config: PianorollConfig, settings: SampleSettings) -> tuple[int, ...] | None:
    """Iterations per level that these settings mean (None if children are decided one by one); raises UsageError."""
    if config.model.members > 1:
        raise UsageError(
            f"{config.name} averages {config.model.members} models: it scores music, but does not sample",
            "use `var evaluate likelihood`, or another --checkpoint",
        )
    for name, value, least in (
        ("--num-samples", settings.num_samples, 1),
        ("--batch-size", settings.batch_size, 1),
        ("--target-width", settings.target_width, 1),
        ("--seed", settings.seed, 0),
    ):
        at_least(name, value, least)
    _check_per_level(config, settings.temperature, "--temperature", inf)
    _check_per_level(config, settings.top_p, "--top-p", 1.0)
    _check_scan_order(config, settings.scan_order)
    if settings.constraints is not None:
        model, width = config.model, settings.target_width
        planes = Planes.over(model, width, settings.steps_per_bar, settings.downbeats, settings.beat_units)
        shape, wanted = settings.constraints.given.shape, (model.rows, planes.canvas_steps(width))
        if shape != wanted:
            raise ValueError(f"constraints are for {shape} cells, not {wanted}")
        if settings.constraints.given.any():
            check_conditioning(config)
    return _iterations(config, settings.num_iter_list)


def check_conditioning(config: PianorollConfig) -> None:
    """Raise UsageError for a model that was not trained with cells known beforehand."""
    if not config.model.conditioning:
        raise UsageError(
            f"{config.name} was not trained to take a prompt into account",
            "choose another --checkpoint, or train one with model.conditioning=true",
        )


def _check_per_level(config: PianorollConfig, wanted: PerLevel | None, option: str, most: float) -> None:
    if wanted is None:
        return
    levels = len(config.model.levels)
    values = at_levels(wanted, levels)
    bad = [value for value in values if not 0 < value <= most or value == inf]
    if bad:
        bound = "above 0" if most == inf else f"above 0 and at most {most:g}"
        raise UsageError(f"{option} {bad[0]:g}: must be {bound}", f"for example {option} 0.9")
    if len(values) != levels:
        raise UsageError(
            f"{option} has {len(values)} numbers; the model has {levels} levels",
            "give one number for all levels, or one per level, coarse to fine",
        )


def _check_scan_order(config: PianorollConfig, wanted: str | None) -> None:
    trained = config.model.scan_order
    if wanted is None:
        return
    if not any(level.is_causal for level in config.model.levels):
        raise UsageError("--scan-order means nothing to a masked model", "leave it out")
    if wanted != trained:
        raise UsageError(
            f"the model was trained for scan order {trained}, not {wanted}", f"say {trained} or leave it out"
        )


def _iterations(config: PianorollConfig, wanted: tuple[int, ...] | None) -> tuple[int, ...] | None:
    levels = config.model.levels
    if all(level.is_causal for level in levels):
        if wanted is not None:
            raise UsageError(
                "--num-iter-list is for masked (MAR) models; every level of this one is AR", "leave it out"
            )
        return None
    if config.sample.order == "time" and not (wanted or config.sample.num_iter_list):
        return None
    iterations = wanted or config.sample.num_iter_list or (12,) + (4,) * (len(levels) - 1)
    if len(iterations) != len(levels):
        raise UsageError(
            f"--num-iter-list has {len(iterations)} numbers; the model has {len(levels)} levels",
            "give one number of iterations per level, coarse to fine",
        )
    if min(iterations) < 1:
        raise UsageError(f"--num-iter-list holds {min(iterations)}", "give iterations of at least 1")
    return iterations
