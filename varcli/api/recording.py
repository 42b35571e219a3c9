"""Samples while a model writes them: each is recorded if it is to be watched, and written as soon as it is complete."""

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from varcli.animation.encode import animate
from varcli.animation.frames import save_frames
from varcli.animation.recorder import FrameRecorder
from varcli.events import Event, Warned
from varcli.pianoroll.config import PianorollConfig
from varcli.pianoroll.events import SampleDone, SampleStarted
from varcli.pianoroll.generation.settings import SampleSettings
from varcli.pianoroll.results.samples import Recordings, Sample, SampleFiles, Samples
from varcli.pianoroll.results.start import Mode, Ready
from varcli.pianoroll.roll import Vocabulary

if TYPE_CHECKING:
    from varcli.pianoroll.model.fractal import FractalModel


@dataclass(frozen=True)
class SampleJob:
    """What is to be sampled and how, checked; `files` of each sample, none where nothing is written."""

    checkpoint: str
    config: PianorollConfig
    mode: Mode
    ready: Ready
    settings: SampleSettings
    recordings: Recordings
    files: tuple[SampleFiles, ...]

    def title(self, sample: int) -> str:
        """What stands over the pictures of a sample."""
        return f"{self.config.name} · {self.mode} {sample:03d} · seed {self.settings.seed}"


def run(job: SampleJob, load: "Callable[[], FractalModel]") -> Iterator[Event | Samples]:
    """Sample with the model that `load` gives, and write; the result comes last."""
    from varcli.pianoroll.generation import generate

    model, began, done = load(), time.perf_counter(), []
    yield from map(Warned, job.ready.warnings)
    writer = _Writer(job)
    for event in generate.generate(model, job.settings):
        yield event
        writer.record(event)
        if isinstance(event, SampleDone):
            sample = yield from writer.finish(event)
            done.append(sample)
            if warning := sample.warning():
                yield Warned(warning)
    samples = tuple(sorted(done, key=lambda sample: sample.index))
    seconds = time.perf_counter() - began
    yield Samples(job.mode, job.checkpoint, job.settings.seed, job.ready, samples, seconds)


@dataclass
class _Writer:
    """Makes samples of events, and writes the files of each, each whole or not at all."""

    job: SampleJob
    _recorders: dict[int, FrameRecorder] = field(default_factory=dict)
    _began: dict[int, float] = field(default_factory=dict)

    def record(self, event: Any) -> None:
        """Take note of an event of a sample."""
        sample, files = event.sample, self.job.files
        if isinstance(event, SampleStarted):
            self._began[sample] = time.perf_counter()
            if files and (files[sample].gif or files[sample].frames):
                levels, every = self.job.recordings.levels, self.job.recordings.every or "auto"
                vocabulary, title = Vocabulary.of(self.job.config.model), self.job.title(sample)
                self._recorders[sample] = FrameRecorder(vocabulary, levels, every, sample=sample, title=title)
        if sample in self._recorders:
            self._recorders[sample].on(event)

    def finish(self, event: SampleDone) -> Generator[Event, None, Sample]:
        """Write the files of a finished sample; returns it."""
        number, files = event.sample, self.job.files[event.sample] if self.job.files else None
        seconds, title = time.perf_counter() - self._began.pop(number), self.job.title(number)
        sample = Sample(number, event.roll, title, self.job.ready.voice, seconds, files)
        if files is not None:
            sample.to_midi(files.midi)
            sample.save_picture(files.picture)
            if files.audio:
                sample.save_audio(files.audio, self.job.recordings.player)
            if (recorder := self._recorders.pop(number, None)) is not None:
                recording, fps = recorder.recording(), self.job.recordings.fps
                if files.frames:
                    save_frames(files.frames, recording)
                if files.gif:
                    yield from (drawn for drawn in animate([recording], files.gif, fps) if isinstance(drawn, Event))
        return sample
