"""Sampling: batches of samples, and the rolls they end in."""

from collections.abc import Iterator

from varcli.events import Event
from varcli.pianoroll.events import SampleDone, SampleStarted
from varcli.pianoroll.generation.batch import Batch
from varcli.pianoroll.generation.settings import SampleSettings, check_settings
from varcli.pianoroll.inference.packing import Order
from varcli.pianoroll.model.ensemble import Ensemble
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.roll import Roll, Vocabulary
from varcli.pianoroll.sampling.policy import Policy


def generate(model: FractalModel | Ensemble, settings: SampleSettings) -> Iterator[Event]:
    """Sample rolls, batch by batch; yields SampleStarted, LevelStarted, PatchDone and SampleDone.

    A sample hangs on its seed and number alone: it is the same whatever follows it, and whatever is written beside it.
    Raises UsageError at once for a setting that the model cannot honour.
    """
    iterations = check_settings(model.config, settings)
    assert isinstance(model, FractalModel)  # settings refuse an ensemble
    return _batches(model, settings, iterations)


def _batches(model: FractalModel, settings: SampleSettings, iterations: tuple[int, ...] | None) -> Iterator[Event]:
    defaults, total = model.config.sample, settings.num_samples
    for first in range(0, total, settings.batch_size):
        samples = range(first, min(first + settings.batch_size, total))
        batch = Batch(
            model,
            [Policy.drawn(model.tree, settings.target_width, (settings.seed, sample)) for sample in samples],
            samples,
            settings.target_width,
            order=Order(iterations, defaults.batch_generate_size, defaults.order),
            constraints=settings.constraints,
            temperature=defaults.temperature if settings.temperature is None else settings.temperature,
            top_p=defaults.top_p if settings.top_p is None else settings.top_p,
        )
        for written in batch.samples:
            yield SampleStarted(written.sample, total, written.visible)
        yield from batch.events()
        for written in batch.samples:
            yield SampleDone(written.sample, total, _roll(model, settings, written.visible, written.sample))


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
