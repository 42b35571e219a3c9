"""A corpus: pieces on the grid, from a folder or zip of MIDI (parsed once, then cached), a `.mat` or an `.npz`."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import compress
from pathlib import Path, PurePosixPath

import numpy as np

from varcli.errors import UsageError, VarError
from varcli.events import FilesRead
from varcli.files import user_cache_dir
from varcli.pianoroll.config import ModelConfig, PianorollConfig
from varcli.pianoroll.corpus.arrays import READERS, Split
from varcli.pianoroll.corpus.cache import load_parsed, save_parsed
from varcli.pianoroll.corpus.parse import Parsed, Settings, Unread, parse_all
from varcli.pianoroll.corpus.sources import is_midi, open_sources
from varcli.pianoroll.corpus.upbeats import upbeat_of
from varcli.pianoroll.planes import Planes
from varcli.pianoroll.roll import Roll, Vocabulary
from varcli.pianoroll.score.midi import LossReport
from varcli.pianoroll.score.voices import TrackRule

_SPLIT_OF_LAST_DIGIT: dict[int, Split] = {0: "test", 1: "valid"}


@dataclass(frozen=True)
class Piece:
    """One piece: cells u8 [P, T] without padding, steps (i32) where bars start, none if unknown.

    `off_grid` is the mean distance of its onsets from the grid in steps, `steps_per_bar` its usual bar, None if
    unknown. `voices` are its voices u8 [P, T] by name and in order, if they were asked for; `beat_units` as in `Roll`.
    """

    name: str
    cells: np.ndarray
    downbeats: np.ndarray
    off_grid: float
    split: Split
    steps_per_bar: int | None = None
    voices: Mapping[str, np.ndarray] | None = None
    beat_units: Mapping[int, int] | None = None

    @classmethod
    def of(cls, roll: Roll, name: str = "", split: Split = "test") -> "Piece":
        """A roll as a piece."""
        bars = np.array(roll.downbeats or (), np.int32)
        return cls(roll.title or name, roll.cells, bars, 0.0, split, roll.steps_per_bar, roll.voices, roll.beat_units)

    def planes(self, model: ModelConfig) -> Planes:
        """The layout of a model's canvas of the piece."""
        steps = self.cells.shape[1]
        return Planes.over(model, steps, self.steps_per_bar, self.downbeats.tolist(), self.beat_units)


@dataclass(frozen=True)
class Corpus:
    """Pieces in the order of their names, and (name, reason) of the files that were left out.

    `losses` holds what the grid cost each piece of MIDI; `digest` is the sha256 of names and content. `notes` are
    (name, note) of the pieces of whose voices something was decided, see `MidiPiece.note`.
    """

    pieces: tuple[Piece, ...]
    skipped: tuple[tuple[str, str], ...]
    vocabulary: Vocabulary
    steps_per_beat: int
    digest: str
    losses: tuple[LossReport, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()

    def split(self, name: Split) -> list[Piece]:
        """The pieces of one split."""
        return [piece for piece in self.pieces if piece.split == name]

    def in_metre(self, steps_per_bar: int) -> "Corpus":
        """The corpus without the pieces whose usual bar has another length; they are listed as `skipped`."""
        other = {p.name: p.steps_per_bar for p in self.pieces if p.steps_per_bar not in (None, steps_per_bar)}
        reasons = [(name, f"its bars are of {steps} steps, not {steps_per_bar}") for name, steps in other.items()]
        stay = [piece.name not in other for piece in self.pieces]
        return replace(
            self,
            pieces=tuple(compress(self.pieces, stay)),
            losses=tuple(compress(self.losses, stay)),
            notes=tuple(pair for pair in self.notes if pair[0] not in other),
            skipped=(*self.skipped, *reasons),
        )


def _with_upbeat(piece: Piece, vocabulary: Vocabulary) -> Piece:
    """The piece with a shorter first bar where its notes tell of an upbeat and its bars are all of one length."""
    bar = piece.steps_per_bar
    if bar is None or np.any(piece.downbeats % bar):
        return piece
    upbeat = upbeat_of(piece.cells, vocabulary, bar)
    starts = np.r_[0, np.arange(upbeat, piece.cells.shape[1], bar)] if upbeat else piece.downbeats
    return replace(piece, downbeats=starts.astype(np.int32))


def read_corpus(
    path: Path,
    *,
    steps_per_beat: int = 4,
    vocabulary: Vocabulary | None = None,
    drums: bool = False,
    max_off_grid: float | None = None,
    voices: TrackRule | None = None,
    cache_dir: Path | None = None,
    workers: int | None = None,
) -> Iterator[FilesRead | Corpus]:
    """Read a corpus, with an event per file; the last item is the Corpus.

    MIDI is parsed on `workers` processes (None: one per core) into `cache_dir` (None: the user's cache folder) and
    split by song number. `voices` says which tracks are which voice; without it pieces have none. Files that cannot be
    read, and those whose onsets lie more than `max_off_grid` steps off the grid on average, are left out and listed in
    `Corpus.skipped`.
    Raises UsageError for a missing path, or a vocabulary that the file cannot serve; VarError for unreadable content.
    """
    vocabulary = vocabulary or Vocabulary()
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder", "give a folder or zip of MIDI, a .mat or an .npz")
    suffix = path.suffix.lower()
    if suffix in READERS and path.is_file():
        yield from _read_arrays(path, suffix, steps_per_beat, vocabulary)
    elif path.is_file() and is_midi(path.name):
        raise UsageError(f"{path}: a single MIDI file, not a corpus", "give the folder that it lies in")
    else:
        settings = Settings(steps_per_beat, vocabulary, drums, voices)
        yield from _read_midi_files(path, settings, max_off_grid, cache_dir or user_cache_dir(), workers)


def read_corpus_of(config: PianorollConfig, path: Path) -> Iterator[FilesRead | Corpus]:
    """Read a corpus onto the grid and vocabulary of a config, with an event per file; see read_corpus."""
    model, data = config.model, config.data
    events = read_corpus(
        path,
        steps_per_beat=model.steps_per_beat,
        vocabulary=Vocabulary.of(model),
        drums=data.drums,
        max_off_grid=data.max_off_grid,
        voices=TrackRule.of(config),
    )
    for item in events:
        if isinstance(item, Corpus) and data.upbeats:
            item = replace(item, pieces=tuple(_with_upbeat(piece, item.vocabulary) for piece in item.pieces))
        yield item


def check_rows(config: PianorollConfig, pieces: Iterable[Piece]) -> None:
    """Raise UsageError for a piece whose canvas has other rows or voices than the model's: none is cut in silence."""
    for piece in pieces:
        if config.model.voices and tuple(piece.voices or ()) != config.model.voices:
            raise UsageError(f"{piece.name} has voices {tuple(piece.voices or ())}, the model {config.model.voices}")
        if len(piece.cells) != config.model.pitches:
            raise UsageError(
                f"{piece.name} has {len(piece.cells)} pitches, the model {config.model.pitches}",
                "MIDI, .mat and .npz are read as 128 pitches; set model.pitches=128",
            )


def split_of(name: str) -> Split:
    """The split a file belongs to, once and for all: test if the last integer in its stem ends in 0, valid if in 1.

    A hash of the stem takes the integer's place where there is none.
    """
    stem = PurePosixPath(name).stem
    digits = re.findall(r"\d+", stem)
    number = int(digits[-1]) if digits else int(hashlib.sha256(stem.encode()).hexdigest(), 16)
    return _SPLIT_OF_LAST_DIGIT.get(number % 10, "train")


def _read_arrays(path: Path, suffix: str, steps_per_beat: int, vocabulary: Vocabulary) -> Iterator[FilesRead | Corpus]:
    if not vocabulary.binary:
        raise UsageError(
            f"{path} holds binary pieces, which say which keys are on but neither onsets nor velocities",
            "use a model with vocabulary 'binary', or MIDI files",
        )
    no_bars = np.zeros(0, np.int32)
    pieces = tuple(Piece(name, cells, no_bars, 0.0, split) for name, split, cells in READERS[suffix](path))
    yield FilesRead(1, 1, path.name)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    yield Corpus(pieces, (), vocabulary, steps_per_beat, digest)


def _read_midi_files(
    path: Path, settings: Settings, max_off_grid: float | None, cache_dir: Path, workers: int | None
) -> Iterator[FilesRead | Corpus]:
    with open_sources(path) as sources:
        digest = sources.digest()
        key = json.dumps({"content": digest, **asdict(settings)}, sort_keys=True)
        cache = cache_dir / f"corpus-{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
        results = load_parsed(cache)
        total = len(sources.names)
        if results is None:
            results = []
            for result in parse_all(sources, settings, workers):
                results.append(result)
                yield FilesRead(len(results), total, result.name)
            save_parsed(cache, results)
        else:
            yield FilesRead(total, total, sources.names[-1])
    yield _corpus(path, results, settings, max_off_grid, digest)


def _corpus(
    path: Path, results: Iterable[Parsed | Unread], settings: Settings, max_off_grid: float | None, digest: str
) -> Corpus:
    kept: list[Parsed] = []
    skipped: list[tuple[str, str]] = []
    for result in results:
        if isinstance(result, Unread):
            skipped.append((result.name, result.reason))
        elif max_off_grid is not None and result.loss.off_grid > max_off_grid:
            reason = (
                f"onsets lie {result.loss.off_grid:.2f} of a step off the grid on average, more than {max_off_grid:g}"
            )
            skipped.append((result.name, reason))
        else:
            kept.append(result)
    if not kept:
        name, reason = skipped[0]
        raise VarError(f"{path}: none of {len(skipped)} MIDI files can be used; {name}: {reason}")
    pieces = tuple(
        Piece(
            r.name,
            r.cells,
            r.downbeats,
            r.loss.off_grid,
            split_of(r.name),
            r.steps_per_bar,
            r.voices or None,
            r.beat_units,
        )
        for r in kept
    )
    losses, notes = tuple(r.loss for r in kept), tuple((r.name, r.note) for r in kept if r.note)
    return Corpus(pieces, tuple(skipped), settings.vocabulary, settings.steps_per_beat, digest, losses, notes)
