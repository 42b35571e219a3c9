"""Samples while a model writes them: each is recorded if it is to be watched, and written as soon as it is complete."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from varcli.animation.encode import animate
from varcli.animation.frames import Recording, save_frames
from varcli.animation.recorder import FrameRecorder
from varcli.events import Event, Warned
from varcli.files import write_text
from varcli.pianoroll.config import PianorollConfig
from varcli.pianoroll.events import PieceScored, SampleDone, SampleStarted
from varcli.pianoroll.figures.sample_page import Progress, entry, sample_page
from varcli.pianoroll.generation.settings import SampleSettings
from varcli.pianoroll.results.likelihood import nats_of_new
from varcli.pianoroll.results.samples import Recordings, RunFiles, Sample, Samples
from varcli.pianoroll.results.selection import Candidate, Selection, faults_of, with_plan_of
from varcli.pianoroll.results.start import Mode, Ready
from varcli.pianoroll.roll import Roll, Vocabulary

if TYPE_CHECKING:
    from varcli.pianoroll.model.fractal import FractalModel
    from varcli.pianoroll.sound.player import Player


@dataclass(frozen=True)
class SampleJob:
    """What is to be sampled and how, checked; `files` are what is written."""

    checkpoint: str
    config: PianorollConfig
    mode: Mode
    ready: Ready
    settings: SampleSettings
    recordings: Recordings
    files: RunFiles
    selection: Selection

    def title(self, sample: int) -> str:
        """What stands over the pictures of a sample."""
        return f"{self.config.name} · {self.mode} {sample:03d} · seed {self.settings.seed}"


def run(job: SampleJob, load: "Callable[[], FractalModel]") -> Iterator[Event | Samples]:
    """Sample with the model that `load` gives, and write; the result comes last."""
    from varcli.pianoroll.generation import generate

    model, began, done = load(), time.perf_counter(), []
    yield from map(Warned, job.ready.warnings)
    job, ranking = yield from _selected(job, model)
    writer = _Writer(job)
    for event in generate.generate(model, job.settings):
        yield event
        writer.record(event)
        if isinstance(event, SampleDone):
            sample = yield from writer.finish(event)
            done.append(sample)
            if warning := sample.warning():
                yield Warned(warning)
    place = {number: place for place, number in enumerate(job.settings.written)}
    samples = yield from writer.page(sorted(done, key=lambda sample: place[sample.index]), model)
    seconds = time.perf_counter() - began
    yield Samples(job.mode, job.checkpoint, job.settings.seed, job.ready, samples, seconds, job.files.page, ranking)


def _selected(job: SampleJob, model: "FractalModel") -> Generator[Event, None, tuple[SampleJob, tuple[Candidate, ...]]]:
    """The job with the plan of the sample that is varied and the numbers of the best samples; these are written again.

    Returns the ranking as well; what is asked of neither is as it was.
    """
    settings = job.settings
    if settings.varied is not None:
        (roll,) = (yield from _rolls(model, replace(settings, numbers=(settings.varied,), varied=None))).values()
        settings = with_plan_of(roll, settings, job.config.model)
    if job.selection.best_of is None:
        return replace(job, settings=settings), ()
    rolls = yield from _rolls(model, replace(settings, numbers=tuple(range(job.selection.best_of))))
    candidates, nats = [], 0.0
    for done, (number, roll) in enumerate(rolls.items(), 1):
        sample = Sample(number, roll, "", None, 0.0, None, nats_of_new(model, roll))
        candidates.append(Candidate(number, sample.nats_per_note, faults_of(roll)))
        nats += sample.nats or 0.0
        yield PieceScored(done, len(rolls), nats / (done * roll.steps))
    ranking = sorted(candidates, key=lambda candidate: candidate.order)
    best = tuple(candidate.number for candidate in ranking[: settings.num_samples])
    return replace(job, settings=replace(settings, numbers=best), files=job.files.renumbered(best)), tuple(ranking)


def _rolls(model: "FractalModel", settings: SampleSettings) -> Generator[Event, None, dict[int, Roll]]:
    """Sample without writing anything; returns the rolls by their numbers."""
    from varcli.pianoroll.generation import generate

    rolls = {}
    for event in generate.generate(model, settings):
        yield event
        if isinstance(event, SampleDone):
            rolls[event.sample] = event.roll
    return rolls


@dataclass
class _Writer:
    """Makes samples of events, and writes the files of each, each whole or not at all."""

    job: SampleJob
    _recorders: dict[int, FrameRecorder] = field(default_factory=dict)
    _began: dict[int, float] = field(default_factory=dict)
    _recordings: dict[int, Recording] = field(default_factory=dict)

    def record(self, event: Any) -> None:
        """Take note of an event of a sample."""
        sample, files = event.sample, self.job.files
        if isinstance(event, SampleStarted):
            self._began[sample] = time.perf_counter()
            if files.samples and (files.page or files.samples[sample].gif or files.samples[sample].frames):
                levels, every = self.job.recordings.levels, self.job.recordings.every or "auto"
                vocabulary, title = Vocabulary.of(self.job.config.model), self.job.title(sample)
                self._recorders[sample] = FrameRecorder(vocabulary, levels, every, sample=sample, title=title)
        if sample in self._recorders:
            self._recorders[sample].on(event)

    def finish(self, event: SampleDone) -> Generator[Event, None, Sample]:
        """Write the files of a finished sample; returns it."""
        number, job = event.sample, self.job
        files = job.files.samples[number] if job.files.samples else None
        seconds, title = time.perf_counter() - self._began.pop(number), job.title(number)
        sample = Sample(number, event.roll, title, job.ready.voice, seconds, files, arrangement=job.ready.arrangement)
        if files is not None:
            sample.to_midi(files.midi)
            sample.save_picture(files.picture)
            if files.audio:
                sample.save_audio(files.audio, job.recordings.player)
            if files.score:
                sample.save_score(files.score, key=job.ready.start.plan.key)
            if (recorder := self._recorders.pop(number, None)) is not None:
                self._recordings[number] = recording = recorder.recording()
                if files.frames:
                    save_frames(files.frames, recording)
                if files.gif:
                    yield from (e for e in animate([recording], files.gif, job.recordings.fps) if isinstance(e, Event))
        return sample

    def page(self, samples: Sequence[Sample], model: "FractalModel") -> Generator[Event, None, tuple[Sample, ...]]:
        """Write the page of all samples, if it is wanted; returns them with their nats."""
        job, player, entries, priced, nats = self.job, self.job.recordings.player, [], [], 0.0
        if job.files.page is None or player is None:
            return tuple(samples)
        for done, sample in enumerate(samples, 1):
            sample = replace(sample, nats=nats_of_new(model, sample.roll))
            entries.append(_entry(sample, self._recordings.pop(sample.index), player))
            priced.append(sample)
            nats += sample.nats or 0.0
            yield PieceScored(done, len(samples), nats / (done * sample.roll.steps))
        best = () if job.selection.best_of is None else (f"the best of {job.selection.best_of}",)
        facts = (job.mode, f"seed {job.settings.seed}", *best, *job.ready.facts())
        page = sample_page(job.config.name, facts, entries, job.config.model.voices, job.ready.kept is not None)
        write_text(job.files.page, page)
        return tuple(priced)


def _entry(sample: Sample, recording: Recording, player: "Player") -> dict[str, Any]:
    """What the page of a run holds of a sample."""
    from varcli.pianoroll.sound.player import encode

    assert sample.files is not None
    midi = sample.to_midi()
    patches = [(*own, *others) for own, others in zip(recording.meta.bounds, recording.meta.fresh, strict=True)]
    return entry(
        sample.roll,
        Progress(recording.frames, recording.labels, patches),
        stem=sample.files.midi.stem,
        midi=midi,
        sound=encode(player.play(midi).mean(1), "mp3"),
        nats_per_note=sample.nats_per_note,
        tempos=sample.arrangement.tempos if sample.arrangement else (),
    )
