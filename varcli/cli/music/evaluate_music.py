"""`var evaluate music`: how near generated music comes to real music, and whether it copies."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from varcli.cli.music.music_table import comparison_lines
from varcli.cli.options import JsonOption, OverwriteOption, SeedOption
from varcli.cli.output import emit
from varcli.cli.progress import Display


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
Samples = Annotated[
    int | None, typer.Option("--samples", min=1, help="Compare so many pieces of GENERATED, the first by name; all.")
]
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
    samples: Samples = None,
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
    """Compare generated with real music: overlaps of metrics, a classifier that tells the two apart, and copies.

    JSON keys: generated, reference, split, train_data (null: no training pieces), samples (null: all), window_steps,
    steps_per_beat, beats_per_bar, velocity_bins (null where pieces are binary), seed, resamples, windows and pieces
    {generated, reference}, silent (generated windows without a note), mean_overlap, mean_overlap_interval [low, high],
    mean_overlap_real, lowest_overlap, lowest_metric (these five over the core metrics), mean_overlap_all,
    mean_overlap_all_real, real_windows, metrics {name: {label, unit, core, overlap, interval, real, generated,
    reference}}: both sides have {mean, spread, median, windows}, in histograms the shares of each of their classes;
    two_sample (null: fewer than ten pieces of either side) {windows, pieces, forest, logistic, families {name}, each
    {auc, interval}, features {name: {label, auc, direction (of generated), generated, reference}}}, the most telling
    first; form {lags (bars back), generated, reference}, either {pieces, bars, best (match with a bar at least so many
    back, by lag), at_lag (match with the bar exactly so many back), recall (best at 16 bars), recall_interval, returns
    (share of its bars that match by 0.6 and more)}; copies {all_voices, top_line}, each {generated, held_out,
    held_out_of_as_many (steps)}: both sides have {windows, steps, notes, piece, step, found_in, found_step,
    transposition, most_notes, median_steps}; report, skipped {generated, reference, train_data}, each [[name, reason]].
    Null stands for what is undefined.
    """
    from varcli.api.music import evaluate_music_events
    from varcli.pianoroll.results.comparison import MusicEvaluation

    events = evaluate_music_events(
        generated,
        reference,
        split=split.value,
        train_data=train_data,
        samples=samples,
        window_steps=window_steps,
        steps_per_beat=steps_per_beat,
        beats_per_bar=beats_per_bar,
        velocity_bins=velocity_bins,
        resamples=resamples,
        seed=seed,
        report=report,
        background=background,
        overwrite=overwrite,
    )
    with Display() as display:
        document = display.result(events, MusicEvaluation).document()
    emit(document, comparison_lines(document), as_json)
