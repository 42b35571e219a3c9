"""Sampling: batches of samples, and the rolls they end in."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from varcli.events import Event
from varcli.pianoroll.events import SampleDone, SampleStarted
from varcli.pianoroll.generation.scheduler import Scheduler
from varcli.pianoroll.generation.settings import SampleSettings, check_settings
from varcli.pianoroll.inference.packed_transformer import multiplies_bfloat16
from varcli.pianoroll.model.ensemble import Ensemble
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.roll import Roll, Vocabulary
from varcli.pianoroll.sampling.policy import Sampler


def generate(model: FractalModel | Ensemble, settings: SampleSettings) -> Iterator[Event]:
    """Sample rolls, batch by batch; yields SampleStarted, LevelStarted, PatchDone and SampleDone.

    The last batch is filled up with samples that are thrown away, so that sample 3 is the same however many follow it.
    Raises UsageError at once for a setting that the model cannot honour.
    """
    iterations = check_settings(model.config, settings)
    assert isinstance(model, FractalModel)  # settings refuse an ensemble
    return _batches(model.eval(), settings, iterations)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Without the threads of torch: operations are so small that sharing them out gains little, and costs many times
    their length wherever a thread has to wait for a processor."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _batches(model: FractalModel, settings: SampleSettings, iterations: tuple[int, ...] | None) -> Iterator[Event]:
    defaults = model.config.sample
    temperature = defaults.temperature if settings.temperature is None else settings.temperature
    top_p = defaults.top_p if settings.top_p is None else settings.top_p
    for first in range(0, settings.num_samples, settings.batch_size):
        samples = range(first, first + settings.batch_size)
        policies = [
            Sampler(model.tree, settings.target_width, (settings.seed, sample), temperature, top_p)
            for sample in samples
        ]
        run = Scheduler(
            model,
            policies,
            samples,
            settings.target_width,
            iterations=iterations,
            batch_generate_size=defaults.batch_generate_size,
            order=defaults.order,
            constraints=settings.constraints,
            dtype=torch.bfloat16 if multiplies_bfloat16(model.device) else torch.float32,
        )
        wanted = [sample for sample in run.samples if sample.sample < settings.num_samples]
        for sample in wanted:
            yield SampleStarted(sample.sample, settings.num_samples, sample.visible)
        numbers = {sample.sample for sample in wanted}
        with _one_thread():
            yield from (event for event in run.events() if getattr(event, "sample", None) in numbers)
        for sample in wanted:
            yield SampleDone(sample.sample, settings.num_samples, _roll(model, settings, sample.visible, sample.sample))


def _roll(model: FractalModel, settings: SampleSettings, cells, sample: int) -> Roll:
    options, constraints = model.config.model, settings.constraints
    return Roll(
        cells=cells,
        vocabulary=Vocabulary.of(options),
        steps_per_beat=options.steps_per_beat,
        steps_per_bar=settings.steps_per_bar or options.steps_per_bar,
        downbeats=settings.downbeats,
        kept=constraints.given if constraints is not None and constraints.given.any() else None,
        tempo_bpm=settings.tempo_bpm,
        title=f"{model.config.name}, seed {settings.seed}, sample {sample}",
    )
