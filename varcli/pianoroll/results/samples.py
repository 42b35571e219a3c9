"""Samples that a model wrote, and what their files are called: known before any work begins."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from varcli.errors import UsageError, at_least, one_of
from varcli.files import ensure_output_dir, refuse_existing, write_text
from varcli.pianoroll.config import PianorollConfig
from varcli.pianoroll.figures.picture import picture_of, save_picture
from varcli.pianoroll.notation.engraving import check_engraver, engrave
from varcli.pianoroll.notation.musicxml import musicxml
from varcli.pianoroll.notation.rhythm import check_grid
from varcli.pianoroll.results.selection import Candidate
from varcli.pianoroll.results.start import Mode, Ready
from varcli.pianoroll.roll import Roll, note_arrays
from varcli.pianoroll.score.arrangement import NEW_TRACK, Arrangement, cells_by_name, tracks_of
from varcli.pianoroll.score.chords import parse_key
from varcli.pianoroll.score.midi import write_midi

if TYPE_CHECKING:
    from varcli.pianoroll.sound.player import Player


@dataclass(frozen=True)
class Recordings:
    """What is recorded of the samples: a `gif` of none, the first or all of them, of `fps` frames a second, and with
    `save_frames` the frames.npz of each, which `var gif` reads. `audio` is the format of sound files, if any, played
    by the piano that comes along or the sounds of a `soundfont`. `html` makes a page of all samples, `score` the
    notation of each.

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
    html: bool = False
    score: Literal["musicxml", "svg"] | None = None

    def __post_init__(self) -> None:
        one_of("gif", self.gif, ("none", "first", "all"))
        at_least("every", self.every or 1, 1)
        one_of("audio", self.audio or "wav", ("wav", "flac", "ogg"))
        one_of("score", self.score or "svg", ("musicxml", "svg"))
        if self.score == "svg":
            check_engraver()
        if self.soundfont is not None and not self._played:
            raise UsageError("--soundfont needs something to play", "give --audio or --html as well")

    @property
    def _played(self) -> bool:
        return self.html or self.audio is not None

    @cached_property
    def player(self) -> "Player | None":
        """What plays the samples, if they are played; raises UsageError or VarError for a bad SoundFont."""
        from varcli.pianoroll.sound.player import Player

        return Player.of(self.soundfont) if self._played else None

    def check(self, config: PianorollConfig) -> None:
        """Raise UsageError for levels or scores that a model has not, UsageError or VarError for a bad SoundFont."""
        levels = len(config.model.levels)
        if self.score:
            check_grid(config.model.steps_per_beat)
        unknown = sorted(level for level in self.levels if level >= levels)
        if unknown:
            raise UsageError(f"--record-levels: no level {unknown[0]}", f"the checkpoint has levels 0 to {levels - 1}")
        _ = self.player


@dataclass(frozen=True)
class SampleFiles:
    """The files of a sample: its MIDI and picture, its animation, recording, sound and score where there are any."""

    midi: Path
    picture: Path
    gif: Path | None
    frames: Path | None
    audio: Path | None
    score: Path | None

    @classmethod
    def of(cls, folder: Path, mode: Mode, sample: int, wanted: Recordings, *, first: bool) -> "SampleFiles":
        """Those of sample number `sample` in `folder`, which is the `first` of them or not."""
        animated = wanted.gif == "all" or (wanted.gif == "first" and first)
        stem = f"{mode}_{sample:03d}"
        return cls(
            folder / f"{stem}.mid",
            folder / f"{stem}.png",
            folder / f"{stem}_process.gif" if animated else None,
            folder / f"{stem}_frames.npz" if wanted.save_frames else None,
            folder / f"{stem}.{wanted.audio}" if wanted.audio else None,
            folder / f"{stem}.{wanted.score}" if wanted.score else None,
        )

    def paths(self) -> Iterator[Path]:
        """Every file that will be written."""
        yield from (path for path in vars(self).values() if path is not None)


@dataclass(frozen=True)
class RunFiles:
    """The files of a run: those of each sample by its number, and the page of all; none where nothing is written."""

    samples: Mapping[int, SampleFiles] = field(default_factory=dict)
    page: Path | None = None

    @classmethod
    def of(
        cls, folder: str | Path | None, mode: Mode, numbers: Iterable[int], wanted: Recordings, overwrite: bool
    ) -> "RunFiles":
        """Those of samples in a folder, made if need be; raises UsageError for files that are there already."""
        if folder is None:
            return cls()
        samples = {
            number: SampleFiles.of(Path(folder), mode, number, wanted, first=not place)
            for place, number in enumerate(numbers)
        }
        page = Path(folder) / f"{mode}.html" if wanted.html else None
        refuse_existing([*(path for one in samples.values() for path in one.paths()), *filter(None, [page])], overwrite)
        ensure_output_dir(folder)
        return cls(samples, page)

    def renumbered(self, numbers: Sequence[int]) -> "RunFiles":
        """The same files for samples of other numbers."""
        return replace(self, samples=dict(zip(numbers, self.samples.values(), strict=False)))


@dataclass(frozen=True)
class Sample:
    """A roll that a model wrote, in so many seconds; a `voice` that was kept has a track of its own, under its name.

    `nats` are those of what was written, under the model itself, where they were asked for. What was kept of a prompt
    has the tracks, drums, tempos and time signatures of its `arrangement`.
    """

    index: int
    roll: Roll
    title: str
    voice: str | None
    seconds: float
    files: SampleFiles | None
    nats: float | None = None
    arrangement: Arrangement | None = None

    @property
    def nats_per_note(self) -> float | None:
        """How little the model expected what it wrote, per new note; None where `nats` are not known, or no note is."""
        notes = note_arrays(self.roll.cells, self.roll.vocabulary)
        new = len(notes.pitch) if self.roll.kept is None else int((~self.roll.kept[notes.pitch, notes.start]).sum())
        return None if self.nats is None or not new else self.nats / new

    @property
    def cells(self) -> np.ndarray:
        """The cell codes u8 [128, T]."""
        return self.roll.cells

    def to_midi(self, path: str | Path | None = None) -> bytes:
        """The MIDI file, written to `path` as well where one is given."""
        place = None if path is None else Path(path)
        return write_midi(self.roll, place, tracks=self._tracks, arrangement=self.arrangement)

    @property
    def _tracks(self) -> dict[str, np.ndarray] | None:
        """The cells of each track, bool [P, T], where a voice that was kept is one."""
        kept = self.roll.kept
        return None if self.voice is None or kept is None else {self.voice: kept, NEW_TRACK: ~kept}

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

    def save_score(self, path: str | Path, *, key: str | None = None) -> None:
        """Write the notation as .musicxml, or as .svg if Verovio is installed, in a key such as "F#m" or that of the
        notes; raises UsageError if it cannot be."""
        kind = Path(path).suffix[1:].lower()
        one_of("score", kind, ("musicxml", "svg"))
        tracks = tracks_of(self.roll, self._tracks, self.arrangement)
        score = musicxml(self.roll, cells_by_name(tracks), self.title, None if key is None else parse_key(key))
        write_text(path, score if kind == "musicxml" else engrave(score))

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
        files, nats = self.files, self.nats_per_note
        paths = dict.fromkeys(field.name for field in fields(SampleFiles)) if files is None else vars(files)
        return {
            "index": self.index,
            **{name: path and str(path) for name, path in paths.items()},
            "notes": len(self.roll.notes),
            "steps": self.roll.steps,
            "nats_per_note": None if nats is None else round(nats, 4),
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class Samples:
    """What a model wrote, in so many seconds, and what it started from; of `ranking` they are the best."""

    mode: Mode
    checkpoint: str
    seed: int
    ready: Ready
    samples: tuple[Sample, ...]
    seconds: float
    page: Path | None = None
    ranking: tuple[Candidate, ...] = ()

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
            "page": self.page and str(self.page),
            "ranking": [candidate.document() for candidate in self.ranking] or None,
            "seconds": round(self.seconds, 3),
        }
