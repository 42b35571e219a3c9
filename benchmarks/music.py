"""Does it sound like the data: sampled rolls against windows of held-out pieces.

    python benchmarks/music.py --checkpoint fractal-ar --data POP909 --samples 50 --report page.png

Two views: in how many samples six simple statistics lie where those of real windows do, and the comparison of
`var evaluate music` (overlaps of the metrics' distributions, runs shared with the training pieces).

A statistic of a sample is inside if it lies in the range that the middle 98 percent of the held-out windows span. A
wall is a sample with more sounding cells than any held-out window has; an empty one has none, and is never inside.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from support import STEPS, print_table, run
from window_statistics import WindowStatistics, window_statistics

from varcli.cli.music.music_table import comparison_lines
from varcli.cli.options import parse_per_level
from varcli.cli.output import emit
from varcli.cli.progress import Display
from varcli.errors import UsageError
from varcli.files import ensure_output_dir, write_bytes
from varcli.loading import load_model
from varcli.pianoroll.config import ModelConfig
from varcli.pianoroll.corpus.corpus import Corpus, Piece, read_corpus_of
from varcli.pianoroll.evaluation.comparison import MusicComparison, Options, compare_music
from varcli.pianoroll.evaluation.music_metrics import Metre
from varcli.pianoroll.evaluation.summary import figures_of
from varcli.pianoroll.evaluation.windows import Window, bar_windows
from varcli.pianoroll.events import SampleDone
from varcli.pianoroll.figures.picture import png_bytes
from varcli.pianoroll.figures.report import draw_report
from varcli.pianoroll.generation.generate import generate
from varcli.pianoroll.generation.settings import SampleSettings, check_settings
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.roll import Vocabulary


@dataclass(frozen=True)
class Compared:
    """One statistic: the 1st and 99th percentile of held-out windows, the share of samples between, and medians."""

    low: float
    high: float
    inside: float
    median_samples: float
    median_held_out: float


def sample_rolls(model: FractalModel, settings: SampleSettings, display: Display) -> list[np.ndarray]:
    """Canvases u8 [P, T] of fresh samples."""
    events = display.follow(generate(model, settings))
    return [event.roll.cells for event in events if isinstance(event, SampleDone)]


def read_data(model: FractalModel, data: Path, display: Display) -> Corpus:
    """A corpus on the grid that the model knows."""
    *_, corpus = display.follow(read_corpus_of(model.config, data))
    assert isinstance(corpus, Corpus)
    return corpus


def compare_as_music(
    samples: Sequence[np.ndarray], held_out: Sequence[Window], corpus: Corpus, grid: ModelConfig, display: Display
) -> MusicComparison:
    """What `var evaluate music` says of samples u8 [P, T]."""
    no_bars = np.zeros(0, np.int32)
    pieces = [Piece(f"sample {number}", cells, no_bars, 0.0, "test") for number, cells in enumerate(samples)]
    ours = [Window(piece.cells, piece, 0) for piece in pieces]
    options = Options(Metre(grid.steps_per_beat, grid.steps_per_bar))
    *_, found = display.follow(compare_music(ours, held_out, corpus.split("train"), corpus.vocabulary, options))
    assert isinstance(found, MusicComparison)
    return found


def statistics_of(canvases: Sequence[np.ndarray], grid: ModelConfig) -> dict[str, np.ndarray]:
    """Every statistic of every canvas, f64 [n] by name."""
    vocabulary = Vocabulary.of(grid)
    found = [window_statistics(cells, vocabulary, grid.steps_per_bar, grid.steps_per_beat) for cells in canvases]
    return {field.name: np.array([getattr(one, field.name) for one in found]) for field in fields(WindowStatistics)}


def compare(samples: Sequence[np.ndarray], held_out: Sequence[np.ndarray], grid: ModelConfig) -> dict[str, Compared]:
    """How the samples' statistics lie among those of held-out windows, by name of the statistic."""
    sounding = np.array([cells.any() for cells in samples])
    theirs, ours = statistics_of(held_out, grid), statistics_of(samples, grid)
    compared = {}
    for name, values in ours.items():
        low, high = np.quantile(theirs[name], (0.01, 0.99)).tolist()
        inside = float(np.mean(sounding & (low <= values) & (values <= high)))
        compared[name] = Compared(low, high, inside, float(np.median(values)), float(np.median(theirs[name])))
    return compared


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Sample, read, compare; returns the document of --json."""
    model, _ = load_model(options.checkpoint)
    if options.order:
        sample = model.config.sample.model_copy(update={"order": options.order})
        if options.order == "time":  # one child after another, unless iterations are asked for here
            sample = sample.model_copy(update={"num_iter_list": None})
        model.config = model.config.model_copy(update={"sample": sample})
    if options.report:
        ensure_output_dir(options.report.parent)
    settings = SampleSettings(
        options.samples,
        options.batch_size,
        options.steps,
        num_iter_list=tuple(options.num_iter_list) if options.num_iter_list else None,
        temperature=parse_per_level(options.temperature, "--temperature"),
        top_p=parse_per_level(options.top_p, "--top-p"),
        seed=options.seed,
    )
    check_settings(model.config, settings)
    with Display() as display:
        corpus = read_data(model, options.data, display)
        real = bar_windows(corpus.split(options.split), corpus.vocabulary, options.steps)
        if not real:
            raise UsageError(
                f"{options.data}: no {options.split} piece is {options.steps} steps long",
                "choose a smaller --steps or more data",
            )
        samples = sample_rolls(model, settings, display)
        music = compare_as_music(samples, real, corpus, model.config.model, display)
    if options.report:
        title = f"{options.checkpoint} against {options.data.stem}"
        write_bytes(options.report, png_bytes(draw_report(music, title=title)))
    held_out = [window.cells for window in real]
    most = max(np.count_nonzero(cells) for cells in held_out)
    cells = np.array([np.count_nonzero(roll) for roll in samples])
    return {
        "checkpoint": options.checkpoint,
        "data": str(options.data),
        "samples": options.samples,
        "seed": options.seed,
        "steps": options.steps,
        "split": options.split,
        "windows": len(held_out),
        "statistics": {name: asdict(one) for name, one in compare(samples, held_out, model.config.model).items()},
        "empty": float(np.mean(cells == 0)),
        "walls": float(np.mean(cells > most)),
        "music": figures_of(music),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--checkpoint", default="fractal-ar", help="a model's name, file or run folder")
    parser.add_argument("--data", type=Path, required=True, help="the corpus that the model was trained on")
    parser.add_argument("--split", choices=("valid", "test"), default="test", help="the pieces that are held out")
    parser.add_argument("--samples", type=int, default=50, help="rolls to sample")
    parser.add_argument("--seed", type=int, default=0, help="seed of the samples")
    parser.add_argument("--steps", type=int, default=STEPS, help="length of a roll and of a window")
    parser.add_argument("--batch-size", type=int, default=10, help="rolls written together")
    parser.add_argument(
        "--order", choices=("random", "inner", "scan", "time"), help="of masked levels; the checkpoint's own"
    )
    parser.add_argument("--num-iter-list", type=int, nargs="+", help="iterations per level; the checkpoint's own")
    parser.add_argument("--temperature", help="one number, or one per level; the checkpoint's own by default")
    parser.add_argument("--top-p", help="one number, or one per level; the checkpoint's own by default")
    parser.add_argument("--report", type=Path, metavar="FILE.png", help="draw the comparison on one page")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    document = measure(options)
    if options.json:
        emit(document, [], as_json=True)
        return
    rows = [
        [name, f"{one['low']:.2f} to {one['high']:.2f}", f"{one['inside']:.0%}"]
        + [f"{one[key]:.2f}" for key in ("median_samples", "median_held_out")]
        for name, one in document["statistics"].items()
    ]
    print_table(["statistic", "range of held-out", "inside", "median of samples", "of held-out"], rows)
    print(
        f"\n{document['samples']} samples, {document['windows']} windows of {document['steps']} steps "
        f"of {document['split']} pieces"
    )
    print(f"empty {document['empty']:.0%}, walls {document['walls']:.0%}\n")
    print("\n".join(comparison_lines(document["music"])))


if __name__ == "__main__":
    run(main)
