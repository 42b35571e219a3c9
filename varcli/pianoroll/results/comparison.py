"""Generated music compared with real music, from files or rolls to figures and a page of them."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from varcli.colours import Theme
from varcli.errors import UsageError
from varcli.events import Event, Warned
from varcli.files import write_bytes
from varcli.pianoroll.corpus.corpus import Corpus, Piece, read_corpus
from varcli.pianoroll.corpus.sources import is_midi
from varcli.pianoroll.evaluation.comparison import MusicComparison, Options, compare_music
from varcli.pianoroll.evaluation.music_metrics import Metre
from varcli.pianoroll.evaluation.summary import figures_of
from varcli.pianoroll.evaluation.windows import Window, bar_windows, first_step_windows
from varcli.pianoroll.figures.picture import png_bytes
from varcli.pianoroll.figures.report import draw_report
from varcli.pianoroll.roll import Vocabulary
from varcli.pianoroll.score.midi import read_midi

_LONG_ENOUGH = 0.75  # of a window; shorter ones have other figures for no other reason

Music = Path | Sequence[Piece]


@dataclass(frozen=True)
class MusicJob:
    """What is compared with what and how, checked.

    `train_data` None stands for the reference, `samples` None for all that was generated.
    """

    generated: Music
    reference: Music
    split: str
    train_data: Music | None
    samples: int | None
    window_steps: int
    steps_per_beat: int
    beats_per_bar: int
    vocabulary: Vocabulary
    seed: int
    resamples: int
    report: Path | None
    theme: Theme | None


@dataclass(frozen=True)
class MusicEvaluation:
    """The comparison, and (name, reason) of the files that were left out on each side."""

    job: MusicJob
    comparison: MusicComparison
    skipped: dict[str, tuple[tuple[str, str], ...]]

    @property
    def mean_overlap(self) -> float:
        """The overlap of distributions, mean over the core metrics: 1 where nothing tells the two apart."""
        return self.comparison.mean.value

    def document(self) -> dict[str, Any]:
        """For JSON."""
        job = self.job
        train_data = job.reference if job.train_data is None else job.train_data
        return {
            "generated": _path(job.generated),
            "reference": _path(job.reference),
            "split": job.split,
            "train_data": _path(train_data) if self.comparison.training else None,
            "samples": job.samples,
            "window_steps": job.window_steps,
            "steps_per_beat": job.steps_per_beat,
            "beats_per_bar": job.beats_per_bar,
            "velocity_bins": None if job.vocabulary.binary else job.vocabulary.velocity_bins,
            "seed": job.seed,
            "resamples": job.resamples,
            **figures_of(self.comparison),
            "report": job.report and str(job.report),
            "skipped": {side: [list(pair) for pair in pairs] for side, pairs in self.skipped.items()},
        }


def evaluate(job: MusicJob) -> Iterator[Event | MusicEvaluation]:
    """Read, compare and draw; the result comes last.

    Raises UsageError where nothing of the reference can be compared with, or no training piece is in `train_data`.
    """
    real = yield from _read(job.reference, job)
    theirs = _reference_windows(real, job)
    made = yield from _read_generated(job)
    ours = first_step_windows(made.pieces[: job.samples], job.vocabulary, job.window_steps)
    yield from _short(ours, job)
    known = real if job.train_data is None else (yield from _read(job.train_data, job))
    training = known.split("train")
    if not training and job.train_data is not None:
        message = f"{_name(job.train_data)}: no pieces in the split 'train'"
        raise UsageError(message, "give the corpus that the model was trained on")
    if not training and isinstance(job.reference, Path):
        yield Warned(f"{job.reference}: no pieces in the split 'train', so copies are not looked for; see --train-data")
    metre = Metre(job.steps_per_beat, job.steps_per_beat * job.beats_per_bar)
    skipped = {"generated": made.skipped, "reference": real.skipped}
    skipped["train_data"] = () if job.train_data is None else known.skipped
    for event in compare_music(ours, theirs, training, job.vocabulary, Options(metre, job.seed, job.resamples)):
        if isinstance(event, MusicComparison):
            if job.report:
                title = " against ".join(_stem(side) for side in (job.generated, job.reference))
                write_bytes(job.report, png_bytes(draw_report(event, title=title, theme=job.theme)))
            yield MusicEvaluation(job, event, skipped)
        else:
            yield event


def _read(music: Music, job: MusicJob) -> Generator[Event, None, Corpus]:
    """Read a corpus; the files that are left out are warned of."""
    if not isinstance(music, Path):
        return Corpus(tuple(music), (), job.vocabulary, job.steps_per_beat, "")
    corpus = None
    for corpus in read_corpus(music, steps_per_beat=job.steps_per_beat, vocabulary=job.vocabulary):
        if isinstance(corpus, Event):
            yield corpus
    assert isinstance(corpus, Corpus)
    yield from (Warned(f"{name} is left out: {reason}") for name, reason in corpus.skipped)
    return corpus


def _read_generated(job: MusicJob) -> Generator[Event, None, Corpus]:
    """The same for what was generated, which may be a single MIDI file."""
    path = job.generated
    if not isinstance(path, Path) or path.is_dir() or not is_midi(path.name):
        return (yield from _read(path, job))
    read = read_midi(path, steps_per_beat=job.steps_per_beat, vocabulary=job.vocabulary)
    bars = np.array(read.roll.downbeats or (), np.int32)
    piece = Piece(path.name, read.roll.cells, bars, read.loss.off_grid, "test")
    return Corpus((piece,), (), job.vocabulary, job.steps_per_beat, "", (read.loss,))


def _path(music: Music) -> str | None:
    return str(music) if isinstance(music, Path) else None


def _name(music: Music) -> str:
    return _path(music) or "the rolls"


def _stem(music: Music) -> str:
    return music.resolve().stem if isinstance(music, Path) else "rolls"


def _reference_windows(corpus: Corpus, job: MusicJob) -> list[Window]:
    name, split, steps = _name(job.reference), job.split, job.window_steps
    every = split == "all" or not isinstance(job.reference, Path)
    pieces = [piece for piece in corpus.pieces if every or piece.split == split]
    if not pieces:
        raise UsageError(f"{name}: no pieces in the split {split!r}", "choose another --split")
    windows = bar_windows(pieces, corpus.vocabulary, steps)
    if not windows:
        raise UsageError(
            f"{name}: none of {len(pieces)} pieces of the split {split!r} is {steps} steps long",
            "choose a smaller --window-steps, another --split or more music",
        )
    return windows


def _short(windows: Sequence[Window], job: MusicJob) -> Iterator[Warned]:
    """A warning where the windows of generated music are mostly shorter than those of the reference."""
    lengths = sorted(window.cells.shape[1] for window in windows)
    median = lengths[len(lengths) // 2]
    if median < _LONG_ENOUGH * job.window_steps:
        yield Warned(
            f"{_name(job.generated)}: half of the windows are {median} steps long or shorter, the reference's "
            f"{job.window_steps}: figures compare better with --window-steps {median}"
        )
