"""Samples that a model wrote, and what their files are called: known before any work begins."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from varcli.errors import UsageError, at_least, one_of
from varcli.pianoroll.figures.picture import picture_of, save_picture
from varcli.pianoroll.results.start import Mode, Ready
from varcli.pianoroll.roll import Roll
from varcli.pianoroll.score.midi import write_midi

if TYPE_CHECKING:
    from varcli.pianoroll.sound.player import Player

NEW_TRACK = "New voices"


@dataclass(frozen=True)
class Recordings:
    """What is recorded of the samples: a `gif` of none, the first or all of them, of `fps` frames a second, and with
    `save_frames` the frames.npz of each, which `var gif` reads. `audio` is the format of sound files, if any, played
    by the piano that comes along or the sounds of a `soundfont`.

    The patches of `levels` make frames; each `every`-th of them is kept, by default at most 48. Raises UsageError for
    what cannot be recorded.
    """

    gif: Literal["none", "first", "all"] = "none"
    fps: float = 2.0
    levels: frozenset[int] = frozenset({0})
    every: int | None = None
    save_frames: bool = False
    audio: Literal["wav", "flac", "ogg"] | None = None
    soundfont: str | Path | None = None

    def __post_init__(self) -> None:
        one_of("gif", self.gif, ("none", "first", "all"))
        at_least("every", self.every or 1, 1)
        one_of("audio", self.audio or "wav", ("wav", "flac", "ogg"))
        if self.soundfont is not None and self.audio is None:
            raise UsageError("--soundfont needs something to play", "give --audio as well")

    @cached_property
    def player(self) -> "Player | None":
        """What plays the samples, if they are played; raises UsageError or VarError for a bad SoundFont."""
        from varcli.pianoroll.sound.player import Player

        return Player.of(self.soundfont) if self.audio else None

    def check(self, levels: int) -> None:
        """Raise UsageError for a level that a model of so many has not, UsageError or VarError for a bad SoundFont."""
        unknown = sorted(level for level in self.levels if level >= levels)
        if unknown:
            raise UsageError(f"--record-levels: no level {unknown[0]}", f"the checkpoint has levels 0 to {levels - 1}")
        _ = self.player


@dataclass(frozen=True)
class SampleFiles:
    """The files of a sample: its MIDI and picture, its animation, its recording and its sound where there are any."""

    midi: Path
    picture: Path
    gif: Path | None
    frames: Path | None
    audio: Path | None

    @classmethod
    def of(cls, folder: Path, mode: Mode, sample: int, wanted: Recordings) -> "SampleFiles":
        """Those of sample number `sample` in `folder`."""
        animated = wanted.gif == "all" or (wanted.gif == "first" and sample == 0)
        stem = f"{mode}_{sample:03d}"
        return cls(
            folder / f"{stem}.mid",
            folder / f"{stem}.png",
            folder / f"{stem}_process.gif" if animated else None,
            folder / f"{stem}_frames.npz" if wanted.save_frames else None,
            folder / f"{stem}.{wanted.audio}" if wanted.audio else None,
        )

    def paths(self) -> Iterator[Path]:
        """Every file that will be written."""
        yield from (path for path in vars(self).values() if path is not None)


@dataclass(frozen=True)
class Sample:
    """A roll that a model wrote, in so many seconds; a `voice` that was kept has a track of its own, under its name."""

    index: int
    roll: Roll
    title: str
    voice: str | None
    seconds: float
    files: SampleFiles | None

    @property
    def cells(self) -> np.ndarray:
        """The cell codes u8 [128, T]."""
        return self.roll.cells

    def to_midi(self, path: str | Path | None = None) -> bytes:
        """The MIDI file, written to `path` as well where one is given."""
        roll, tracks = self.roll, None
        if self.voice is not None and roll.kept is not None:
            tracks = {self.voice: roll.kept, NEW_TRACK: ~roll.kept}
        return write_midi(roll, None if path is None else Path(path), tracks=tracks)

    def picture(self) -> Image.Image:
        """The roll drawn: keys, bars, notes coloured by velocity, what was kept in grey."""
        return picture_of(self.roll, self.title)

    def save_picture(self, path: str | Path) -> None:
        """Write the picture as .png."""
        save_picture(self.roll, path, title=self.title)

    def save_audio(self, path: str | Path, player: "Player | None" = None) -> None:
        """Write the sound as .wav, .flac or .ogg, by default that of the piano that comes along."""
        from varcli.pianoroll.sound.player import Player, save_audio

        save_audio((player or Player.of(None)).play(self.to_midi()), path)

    def warning(self) -> str | None:
        """What is to be warned of: a roll without notes, or without a new one."""
        name, roll = self.files.midi if self.files else self.title, self.roll
        if not roll.notes:
            return f"{name} has no notes; try another --seed"
        if roll.kept is not None and not roll.cells[~roll.kept].any():
            return f"{name} holds what was kept and nothing else; try another --seed"
        return None

    def document(self) -> dict[str, Any]:
        """For JSON, without the cells."""
        files = self.files
        paths = dict.fromkeys(field.name for field in fields(SampleFiles)) if files is None else vars(files)
        return {
            "index": self.index,
            **{name: path and str(path) for name, path in paths.items()},
            "notes": len(self.roll.notes),
            "steps": self.roll.steps,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class Samples:
    """What a model wrote, in so many seconds, and what it started from."""

    mode: Mode
    checkpoint: str
    seed: int
    ready: Ready
    samples: tuple[Sample, ...]
    seconds: float

    @property
    def rolls(self) -> tuple[Roll, ...]:
        """The roll of each sample."""
        return tuple(sample.roll for sample in self.samples)

    def document(self) -> dict[str, Any]:
        """For JSON, without the cells."""
        return {
            "mode": self.mode,
            "checkpoint": self.checkpoint,
            "seed": self.seed,
            **self.ready.document(),
            "samples": [sample.document() for sample in self.samples],
            "seconds": round(self.seconds, 3),
        }
