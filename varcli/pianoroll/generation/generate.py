"""Sampling: batches of samples, and the rolls they end in."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from varcli.events import Event
from varcli.pianoroll.events import PatchDone, SampleDone, SampleStarted
from varcli.pianoroll.generation.batch import Batch, Written
from varcli.pianoroll.generation.settings import SampleSettings, check_settings
from varcli.pianoroll.inference.packing import Order
from varcli.pianoroll.model.ensemble import Ensemble
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.planes import Planes
from varcli.pianoroll.roll import Roll, Vocabulary
from varcli.pianoroll.sampling.constraints import CanvasConstraints
from varcli.pianoroll.sampling.policy import Policy

Bounds = tuple[int, int, int, int]


def generate(model: FractalModel | Ensemble, settings: SampleSettings) -> Iterator[Event]:
    """Sample rolls, batch by batch; yields SampleStarted, LevelStarted, PatchDone and SampleDone.

    A sample hangs on its seed and number alone: it is the same whatever follows it, and whatever is written beside it.
    Raises UsageError at once for a setting that the model cannot honour.
    """
    iterations = check_settings(model.config, settings)
    assert isinstance(model, FractalModel)  # settings refuse an ensemble
    return _batches(model, settings, iterations)


def _batches(model: FractalModel, settings: SampleSettings, iterations: tuple[int, ...] | None) -> Iterator[Event]:
    defaults, numbers, options = model.config.sample, settings.written, model.config.model
    total = len(numbers)
    width = settings.target_width
    planes = Planes.over(options, width, settings.steps_per_bar, settings.downbeats, settings.beat_units)
    steps = planes.canvas_steps(width)
    constraints = settings.constraints
    if constraints is None and not planes.is_roll:
        constraints = CanvasConstraints.on_planes(options, planes, steps)
    for first in range(0, total, settings.batch_size):
        samples = numbers[first : first + settings.batch_size]
        batch = Batch(
            model,
            [Policy.drawn(model.tree, steps, settings.draws(sample)) for sample in samples],
            samples,
            steps,
            order=Order(iterations, defaults.batch_generate_size, defaults.order),
            constraints=constraints,
            temperature=defaults.temperature if settings.temperature is None else settings.temperature,
            top_p=defaults.top_p if settings.top_p is None else settings.top_p,
        )
        shown = {written.sample: OnPitches(planes, written.visible) for written in batch.samples}
        for sample, on_pitches in shown.items():
            yield SampleStarted(sample, total, on_pitches.roll)
        for event in batch.events():
            yield shown[event.sample](event)
        for written in batch.samples:
            yield SampleDone(written.sample, total, _roll(model, settings, planes, written))


def _roll(model: FractalModel, settings: SampleSettings, planes: Planes, written: Written) -> Roll:
    options, sample, vocabulary = model.config.model, written.sample, Vocabulary.of(model.config.model)
    return Roll(
        cells=planes.merge(written.visible, vocabulary) if options.voices else planes.only(written.visible),
        voices=planes.split(written.visible) if options.voices else None,
        vocabulary=vocabulary,
        steps_per_beat=options.steps_per_beat,
        steps_per_bar=settings.steps_per_bar or options.steps_per_bar,
        downbeats=settings.downbeats,
        beat_units=settings.beat_units,
        kept=settings.kept,
        tempo_bpm=settings.tempo_bpm,
        title=f"{model.config.name}, seed {settings.seed}, sample {sample}",
    )


class OnPitches:
    """A sample's canvas u8 [R, K] while it is written, and the roll u8 [P, T] that all of its voices make so far.

    Of two voices on one cell the louder onset is shown. Where a canvas is the roll itself both are the same array.
    """

    def __init__(self, planes: Planes, canvas: np.ndarray) -> None:
        self._planes, self._canvas = planes, canvas
        self.roll = canvas if planes.is_roll else np.max(list(planes.split(canvas).values()), 0)

    def __call__(self, event: Event) -> Event:
        """The same event with bounds and canvas of the roll; there are none in the plan, above a voice, or beyond a
        bar."""
        if self.roll is self._canvas or not isinstance(event, PatchDone):
            return event
        bounds = [at for at in map(self._show, event.bounds) if at is not None]
        return replace(event, bounds=tuple(bounds), canvas=self.roll)

    def _show(self, bounds: Bounds) -> Bounds | None:
        """Take over to the roll what the canvas holds within bounds; returns those of the roll."""
        row, end, first, last = bounds
        voice, low = self._planes.place_of(row)
        start, stop = self._planes.roll_step(first), self._planes.roll_step(last)
        if voice is None or low >= self._planes.pitches or start == stop:
            return None
        self.roll[:, start:stop] = np.max(list(self._planes.split(self._canvas, first, last).values()), 0)
        return low, min(low + end - row, self._planes.pitches), start, stop
