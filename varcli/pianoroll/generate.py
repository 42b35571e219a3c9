"""Sampling: settings a checkpoint can honour, batches of samples, and the rolls they end in."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from varcli.errors import UsageError
from varcli.events import Event, SampleDone, SampleStarted
from varcli.pianoroll.choose import Sampler
from varcli.pianoroll.fractal import FractalModel
from varcli.pianoroll.roll import Roll, Vocabulary
from varcli.pianoroll.run import Run


@dataclass(frozen=True)
class SampleSettings:
    """How to sample; None takes what the checkpoint's own config says.

    `target_width` counts steps. `num_iter_list` holds unmasking iterations per level, for models with masked levels.
    """

    num_samples: int = 1
    batch_size: int = 1
    target_width: int = 256
    num_iter_list: tuple[int, ...] | None = None
    scan_order: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    tempo_bpm: float = 120.0
    seed: int = 0


def vocabulary_of(model: FractalModel) -> Vocabulary:
    """The vocabulary of a model's canvases."""
    options = model.config.model
    return Vocabulary(binary=True) if options.vocabulary == "binary" else Vocabulary(options.velocity_bins)


def generate(model: FractalModel, settings: SampleSettings) -> Iterator[Event]:
    """Sample rolls, batch by batch; yields SampleStarted, LevelStarted, PatchDone and SampleDone.

    The last batch is filled up with samples nobody asked for, so that sample 3 is the same however many follow it.
    Raises UsageError at once for a setting that the model cannot honour.
    """
    iterations = check_settings(model, settings)
    return _batches(model.eval(), settings, iterations)


def check_settings(model: FractalModel, settings: SampleSettings) -> tuple[int, ...] | None:
    """The iterations per level that these settings mean (None if no level is masked); raises UsageError."""
    for name, value, least in (
        ("--num-samples", settings.num_samples, 1),
        ("--batch-size", settings.batch_size, 1),
        ("--target-width", settings.target_width, 1),
        ("--seed", settings.seed, 0),
    ):
        if value < least:
            raise UsageError(f"{name} is {value}", f"give at least {least}")
    if settings.temperature is not None and not settings.temperature > 0:
        raise UsageError(f"--temperature is {settings.temperature}", "give a number above 0")
    if settings.top_p is not None and not 0 < settings.top_p <= 1:
        raise UsageError(f"--top-p is {settings.top_p}", "give a number above 0, at most 1")
    _check_scan_order(model, settings.scan_order)
    return _iterations(model, settings.num_iter_list)


def _check_scan_order(model: FractalModel, wanted: str | None) -> None:
    trained = model.config.model.scan_order
    if wanted is None:
        return
    if all(level.kind == "mar" for level in model.level_models):
        raise UsageError("--scan-order means nothing to a masked model", "leave it out")
    if wanted != trained:
        raise UsageError(
            f"the model was trained for scan order {trained}, not {wanted}", f"say {trained} or leave it out"
        )


def _iterations(model: FractalModel, wanted: tuple[int, ...] | None) -> tuple[int, ...] | None:
    levels = model.level_models
    if not model.masked:
        if wanted is not None:
            raise UsageError(
                "--num-iter-list is for masked (MAR) models; every level of this one is AR", "leave it out"
            )
        return None
    iterations = wanted or model.config.sample.num_iter_list or tuple(12 if level.level == 0 else 4 for level in levels)
    if len(iterations) != len(levels):
        raise UsageError(
            f"--num-iter-list has {len(iterations)} numbers; the model has {len(levels)} levels",
            "give one number of iterations per level, coarse to fine",
        )
    if min(iterations) < 1:
        raise UsageError(f"--num-iter-list holds {min(iterations)}", "give iterations of at least 1")
    return iterations


def _batches(model: FractalModel, settings: SampleSettings, iterations: tuple[int, ...] | None) -> Iterator[Event]:
    defaults = model.config.sample
    temperature = defaults.temperature if settings.temperature is None else settings.temperature
    top_p = defaults.top_p if settings.top_p is None else settings.top_p
    for first in range(0, settings.num_samples, settings.batch_size):
        samples = range(first, first + settings.batch_size)
        choosers = [
            Sampler(model.tree, settings.target_width, (settings.seed, sample), temperature, top_p)
            for sample in samples
        ]
        run = Run(
            model,
            choosers,
            samples,
            settings.target_width,
            iterations=iterations,
            batch_generate_size=defaults.batch_generate_size,
        )
        asked = [sheet for sheet in run.sheets if sheet.sample < settings.num_samples]
        for sheet in asked:
            yield SampleStarted(sheet.sample, settings.num_samples, sheet.visible)
        wanted = {sheet.sample for sheet in asked}
        yield from (event for event in run.events() if getattr(event, "sample", None) in wanted)
        for sheet in asked:
            yield SampleDone(sheet.sample, settings.num_samples, _roll(model, settings, sheet.visible, sheet.sample))


def _roll(model: FractalModel, settings: SampleSettings, cells, sample: int) -> Roll:
    options = model.config.model
    return Roll(
        cells=cells,
        vocabulary=vocabulary_of(model),
        steps_per_beat=options.steps_per_beat,
        steps_per_bar=options.steps_per_bar,
        tempo_bpm=settings.tempo_bpm,
        title=f"{model.config.name}, seed {settings.seed}, sample {sample}",
    )


def warm_up(model: FractalModel) -> None:
    """Run one tiny sample, so that lazy initialisation is not counted in a timing."""
    with torch.inference_mode():
        for _ in generate(model, SampleSettings(target_width=model.tree.shapes[0][1])):
            pass
