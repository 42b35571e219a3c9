"""The files of `var sample`: which there will be, and each written as soon as its sample is complete."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from varcli.animation import FrameRecorder
    from varcli.pianoroll.events import SampleDone, SampleStarted
    from varcli.pianoroll.roll import Roll, Vocabulary

NEW_TRACK = "New voices"


class GifSamples(StrEnum):
    """Which samples get an animation."""

    first = "first"
    all = "all"


@dataclass(frozen=True)
class Outputs:
    """Which files are written for which samples, and how the animation looks."""

    folder: Path
    mode: str
    total: int
    gif: GifSamples | None
    save_frames: bool
    record_levels: frozenset[int]
    record_every: int | None
    fps: float

    def midi(self, sample: int) -> Path:
        """The MIDI file of a sample."""
        return self.folder / f"{self.mode}_{sample:03d}.mid"

    def picture(self, sample: int) -> Path:
        """The picture of a sample."""
        return self.folder / f"{self.mode}_{sample:03d}.png"

    def animation(self, sample: int) -> Path | None:
        """The animation of a sample, if it gets one."""
        wanted = self.gif is GifSamples.all or (self.gif is GifSamples.first and sample == 0)
        return self.folder / f"{self.mode}_{sample:03d}_process.gif" if wanted else None

    def frames(self, sample: int) -> Path | None:
        """The recording of a sample, if it is kept."""
        return self.folder / f"{self.mode}_{sample:03d}_frames.npz" if self.save_frames else None

    def paths(self) -> Iterator[Path]:
        """Every file that will be written."""
        for sample in range(self.total):
            found = (self.midi(sample), self.picture(sample), self.animation(sample), self.frames(sample))
            yield from (path for path in found if path is not None)


@dataclass
class Writer:
    """Records samples while they are made and writes each as soon as it is complete; `show` is told of frames drawn.

    A kept `voice` gets a track of its own, under its name.
    """

    outputs: Outputs
    vocabulary: "Vocabulary"
    model_name: str
    seed: int
    show: Callable[[object], None]
    voice: str | None = None
    written: list[dict[str, Any]] = field(default_factory=list)
    _recorders: "dict[int, FrameRecorder]" = field(default_factory=dict)
    _began: dict[int, float] = field(default_factory=dict)

    def title(self, sample: int) -> str:
        """What stands over the pictures of a sample."""
        return f"{self.model_name} · {self.outputs.mode} {sample:03d} · seed {self.seed}"

    def start(self, event: "SampleStarted") -> None:
        """Note when a sample begins, and record it if it is to be watched."""
        from varcli.animation import FrameRecorder

        outputs = self.outputs
        self._began[event.sample] = time.perf_counter()
        if outputs.animation(event.sample) or outputs.frames(event.sample):
            self._recorders[event.sample] = FrameRecorder(
                self.vocabulary,
                outputs.record_levels,
                outputs.record_every or "auto",
                sample=event.sample,
                title=self.title(event.sample),
            )

    def record(self, event: Any) -> None:
        """Hand an event to the recorder of its sample, if there is one."""
        recorder = self._recorders.get(event.sample)
        if recorder is not None:
            recorder.on(event)

    def finish(self, event: "SampleDone") -> dict[str, Any]:
        """Write the files of a finished sample, each whole or not at all, and say what they are."""
        from varcli.pianoroll.figures.picture import save_picture
        from varcli.pianoroll.score.midi import write_midi

        sample, roll = event.sample, event.roll
        seconds = time.perf_counter() - self._began.pop(sample)
        write_midi(roll, self.outputs.midi(sample), tracks=self._tracks(roll))
        save_picture(roll, self.outputs.picture(sample), title=self.title(sample))
        self._write_recording(sample)
        said = self._say(sample, roll, seconds)
        self.written.append(said)
        return said

    def _tracks(self, roll: "Roll") -> "dict[str, np.ndarray] | None":
        if self.voice is None or roll.kept is None:
            return None
        return {self.voice: roll.kept, NEW_TRACK: ~roll.kept}

    def _write_recording(self, sample: int) -> None:
        from varcli.animation import animate, save_frames

        recorder = self._recorders.pop(sample, None)
        if recorder is None:
            return
        recording = recorder.recording()
        if path := self.outputs.frames(sample):
            save_frames(path, recording)
        if path := self.outputs.animation(sample):
            for event in animate([recording], path, self.outputs.fps):
                self.show(event)

    def _say(self, sample: int, roll: "Roll", seconds: float) -> dict[str, Any]:
        animation, frames = self.outputs.animation(sample), self.outputs.frames(sample)
        return {
            "index": sample,
            "midi": str(self.outputs.midi(sample)),
            "picture": str(self.outputs.picture(sample)),
            "gif": str(animation) if animation else None,
            "frames": str(frames) if frames else None,
            "notes": len(roll.notes),
            "steps": roll.steps,
            "seconds": round(seconds, 3),
        }
