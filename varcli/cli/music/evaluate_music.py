"""`var evaluate music`: how near generated music comes to real music, and whether it copies."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from varcli.cli.music.music_table import comparison_lines
from varcli.cli.options import JsonOption, OverwriteOption, SeedOption
from varcli.cli.output import emit
from varcli.cli.progress import Display
from varcli.errors import UsageError

if TYPE_CHECKING:
    from varcli.colours import Theme
    from varcli.pianoroll.corpus.corpus import Corpus, Piece
    from varcli.pianoroll.evaluation.comparison import MusicComparison
    from varcli.pianoroll.evaluation.windows import Window
    from varcli.pianoroll.roll import Vocabulary

_LONG_ENOUGH = 0.75  # of a window; shorter ones have other figures for no other reason


class ReferenceSplit(StrEnum):
    """Which pieces of the reference are compared with."""

    train = "train"
    valid = "valid"
    test = "test"
    all = "all"


Generated = Annotated[
    Path, typer.Argument(metavar="GENERATED", help="A .mid file, folder or zip of MIDI, a .mat or an .npz.")
]
Reference = Annotated[
    Path, typer.Argument(metavar="REFERENCE", help="Real music: folder or zip of MIDI, a .mat or an .npz.")
]
SplitOption = Annotated[ReferenceSplit, typer.Option("--split", help="Which pieces of REFERENCE to compare with.")]
TrainData = Annotated[
    Path | None,
    typer.Option("--train-data", metavar="PATH", help="Where the training pieces are; REFERENCE by default."),
]
WindowSteps = Annotated[int, typer.Option("--window-steps", min=16, max=1 << 16, help="Length of a window in steps.")]
StepsPerBeat = Annotated[int, typer.Option("--steps-per-beat", min=1, max=48, help="Steps of the grid in a beat.")]
BeatsPerBar = Annotated[int, typer.Option("--beats-per-bar", min=1, max=32, help="Beats in a bar.")]
VelocityBins = Annotated[int, typer.Option("--velocity-bins", min=1, max=127, help="Classes of velocities.")]
Resamples = Annotated[
    int, typer.Option("--resamples", min=20, max=100_000, help="Times that windows are drawn again for the intervals.")
]
Report = Annotated[Path | None, typer.Option("--report", metavar="FILE.png", help="Draw all of it on one page.")]
Background = Annotated[
    str, typer.Option("--background", metavar="COLOR", help="Ground of the page: a name or a code, such as white.")
]


def music(
    generated: Generated,
    reference: Reference,
    split: SplitOption = ReferenceSplit.test,
    train_data: TrainData = None,
    window_steps: WindowSteps = 256,
    steps_per_beat: StepsPerBeat = 4,
    beats_per_bar: BeatsPerBar = 4,
    velocity_bins: VelocityBins = 16,
    resamples: Resamples = 200,
    seed: SeedOption = 0,
    report: Report = None,
    background: Background = "#12141c",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare generated music with real music: metrics per window, how much their distributions overlap, and copies.

    JSON keys: generated, reference, split, train_data (null: no training pieces), window_steps, steps_per_beat,
    beats_per_bar, velocity_bins (null where pieces are binary), seed, resamples, windows and pieces {generated,
    reference}, silent (generated windows without a note), mean_overlap, mean_overlap_interval [low, high],
    mean_overlap_real, lowest_overlap, lowest_metric (these five over the core metrics), mean_overlap_all,
    mean_overlap_all_real, real_windows, metrics {name: {label, unit, core, overlap, interval, real, generated,
    reference}}: both sides have {mean, spread, median, windows}, in histograms the shares of each of their classes;
    copies {all_voices, top_line}, each {generated, held_out, held_out_of_as_many (steps)}: both sides have {windows,
    steps, notes, piece, step, found_in, found_step, transposition, most_notes, median_steps}; report, skipped
    {generated, reference, train_data}, each [[name, reason]]. Null stands for what is undefined.
    """
    for path in (generated, reference, train_data):
        if path is not None and not path.exists():
            raise UsageError(f"{path}: no such file or folder", "give a folder or zip of MIDI, a .mat or an .npz")
    theme = _check_report(report, background, overwrite)

    from varcli.pianoroll.evaluation.comparison import MusicComparison, Options, compare_music
    from varcli.pianoroll.evaluation.music_metrics import Metre
    from varcli.pianoroll.evaluation.summary import figures_of
    from varcli.pianoroll.evaluation.windows import first_step_windows
    from varcli.pianoroll.roll import Vocabulary

    binary = any(_is_array(path) for path in (generated, reference, train_data))
    grid = Grid(steps_per_beat, Vocabulary(binary=True) if binary else Vocabulary(velocity_bins))
    options = Options(Metre(steps_per_beat, steps_per_beat * beats_per_bar), seed, resamples)
    with Display() as display:
        real = _read(display, reference, grid)
        theirs = _reference_windows(real, reference, split, window_steps)
        made = _read_generated(display, generated, grid)
        ours = first_step_windows(made.pieces, grid.vocabulary, window_steps)
        _warn_of_short(display, generated, ours, window_steps)
        known = real if train_data is None else _read(display, train_data, grid)
        training = _training(display, known, train_data, reference)
        *_, compared = display.follow(compare_music(ours, theirs, training, grid.vocabulary, options))
        assert isinstance(compared, MusicComparison)
        if report:
            _draw(report, compared, f"{generated.resolve().stem} against {reference.resolve().stem}", theme)
    document = {
        "generated": str(generated),
        "reference": str(reference),
        "split": split.value,
        "train_data": str(train_data or reference) if training else None,
        "window_steps": window_steps,
        "steps_per_beat": steps_per_beat,
        "beats_per_bar": beats_per_bar,
        "velocity_bins": None if binary else velocity_bins,
        "seed": seed,
        "resamples": resamples,
        **figures_of(compared),
        "report": str(report) if report else None,
        "skipped": {
            "generated": [list(entry) for entry in made.skipped],
            "reference": [list(entry) for entry in real.skipped],
            "train_data": [] if train_data is None else [list(entry) for entry in known.skipped],
        },
    }
    emit(document, comparison_lines(document), as_json)


@dataclass(frozen=True)
class Grid:
    """What all pieces are read onto."""

    steps_per_beat: int
    vocabulary: "Vocabulary"


def _check_report(report: Path | None, background: str, overwrite: bool) -> "Theme | None":
    """The theme of the page; refuses before any work what could not be drawn or written after it."""
    if report is None:
        return None
    from varcli.colours import make_theme
    from varcli.files import ensure_output_dir, refuse_existing

    if report.suffix.lower() != ".png":
        raise UsageError(f"--report {report}: the page is a PNG", "call it something.png")
    theme = make_theme(background)
    refuse_existing([report], overwrite)
    ensure_output_dir(report.parent)
    return theme


def _is_array(path: Path | None) -> bool:
    return path is not None and path.is_file() and path.suffix.lower() in {".mat", ".npz"}


def _read(display: Display, path: Path, grid: Grid) -> "Corpus":
    """Read a corpus; the files that are left out are named on stderr."""
    from varcli.pianoroll.corpus.corpus import Corpus, read_corpus

    events = read_corpus(path, steps_per_beat=grid.steps_per_beat, vocabulary=grid.vocabulary)
    *_, corpus = display.follow(events)
    assert isinstance(corpus, Corpus)
    for name, reason in corpus.skipped:
        display.warn(f"{name} is left out: {reason}")
    return corpus


def _read_generated(display: Display, path: Path, grid: Grid) -> "Corpus":
    """Read a corpus, or a single MIDI file as a corpus of one piece."""
    import numpy as np

    from varcli.pianoroll.corpus.corpus import Corpus, Piece
    from varcli.pianoroll.corpus.sources import is_midi
    from varcli.pianoroll.score.midi import read_midi

    if path.is_dir() or not is_midi(path.name):
        return _read(display, path, grid)
    read = read_midi(path, steps_per_beat=grid.steps_per_beat, vocabulary=grid.vocabulary)
    bars = np.array(read.roll.downbeats or (), np.int32)
    piece = Piece(path.name, read.roll.cells, bars, read.loss.off_grid, "test")
    return Corpus((piece,), (), grid.vocabulary, grid.steps_per_beat, "", (read.loss,))


def _reference_windows(corpus: "Corpus", path: Path, split: ReferenceSplit, steps: int) -> "list[Window]":
    from varcli.pianoroll.evaluation.windows import bar_windows

    pieces = [piece for piece in corpus.pieces if split is ReferenceSplit.all or piece.split == split.value]
    if not pieces:
        raise UsageError(f"{path}: no pieces in the split {split.value!r}", "choose another --split")
    windows = bar_windows(pieces, corpus.vocabulary, steps)
    if not windows:
        raise UsageError(
            f"{path}: none of {len(pieces)} pieces of the split {split.value!r} is {steps} steps long",
            "choose a smaller --window-steps, another --split or more music",
        )
    return windows


def _warn_of_short(display: Display, path: Path, windows: "Sequence[Window]", steps: int) -> None:
    lengths = sorted(window.cells.shape[1] for window in windows)
    median = lengths[len(lengths) // 2]
    if median < _LONG_ENOUGH * steps:
        display.warn(
            f"{path}: half of the windows are {median} steps long or shorter, the reference's {steps}: "
            f"figures compare better with --window-steps {median}"
        )


def _training(display: Display, corpus: "Corpus", asked: Path | None, reference: Path) -> "list[Piece]":
    """The pieces whose copies are looked for: the train split, as `var train` has it."""
    pieces = corpus.split("train")
    if not pieces and asked is not None:
        raise UsageError(f"{asked}: no pieces in the split 'train'", "give the corpus that the model was trained on")
    if not pieces:
        display.warn(f"{reference}: no pieces in the split 'train', so copies are not looked for; see --train-data")
    return pieces


def _draw(path: Path, compared: "MusicComparison", title: str, theme: "Theme | None") -> None:
    from varcli.files import write_bytes
    from varcli.pianoroll.figures.picture import png_bytes
    from varcli.pianoroll.figures.report import draw_report

    write_bytes(path, png_bytes(draw_report(compared, title=title, theme=theme)))
