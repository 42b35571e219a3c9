"""The functions of `varcli` for music; the commands of `var` call the same ones."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from varcli import loading
from varcli.api.recording import SampleJob, run
from varcli.colours import make_theme
from varcli.errors import UsageError, at_least, one_of
from varcli.events import Event, result_of
from varcli.files import ensure_output_dir, refuse_existing
from varcli.pianoroll.config import PerLevel
from varcli.pianoroll.corpus.arrays import READERS, Split
from varcli.pianoroll.corpus.corpus import Piece
from varcli.pianoroll.generation.settings import SampleSettings, check_settings
from varcli.pianoroll.planes import Planes
from varcli.pianoroll.results import comparison, likelihood
from varcli.pianoroll.results.comparison import MusicEvaluation, MusicJob
from varcli.pianoroll.results.constraints import Constraints
from varcli.pianoroll.results.likelihood import Likelihood, LikelihoodJob
from varcli.pianoroll.results.plan import PlanOptions
from varcli.pianoroll.results.samples import Recordings, RunFiles, Samples
from varcli.pianoroll.results.selection import Selection
from varcli.pianoroll.results.start import Mode, Prompt, Start, prepare
from varcli.pianoroll.roll import Roll, Vocabulary
from varcli.pianoroll.sampling.prompt import Region

if TYPE_CHECKING:
    from varcli.pianoroll.model.ensemble import Ensemble
    from varcli.pianoroll.model.fractal import FractalModel

MusicLike = str | Path | Sequence[Roll]


def sample_events(
    mode: Mode = "unconditional",
    *,
    checkpoint: "str | Path | FractalModel" = "fractal-ar",
    num_samples: int = 1,
    batch_size: int = 1,
    target_width: int | None = None,
    num_iter_list: Sequence[int] | None = None,
    scan_order: str | None = None,
    temperature: float | Sequence[float] | None = None,
    top_p: float | Sequence[float] | None = None,
    tempo_bpm: float | None = None,
    bars: int | None = None,
    form: str | None = None,
    chords: str | None = None,
    key: str | None = None,
    metre: str | None = None,
    prompt: Prompt | str | None = None,
    prompt_steps: int | None = None,
    region: Region | str | Sequence[Region | str] | None = None,
    keep_track: str | None = None,
    drums: bool | None = None,
    scale: str | None = None,
    pitch_range: str | tuple[int, int] | None = None,
    max_polyphony: int | None = None,
    index: int | None = None,
    best_of: int | None = None,
    vary: int | None = None,
    recordings: Recordings | None = None,
    seed: int = 0,
    device: str = "auto",
    output_dir: str | Path | None = None,
    overwrite: bool = False,
) -> Iterator[Event | Samples]:
    """Write piano rolls: from nothing, after a prompt, in regions of it, or around a voice of it.

    `checkpoint` is a name, a file, a run's folder or a model that `load` gave. A `prompt` is a MIDI file, a `Roll` on
    the model's grid or its cell codes [128, T]; docs/conditioning.md says what each mode keeps of it; its
    `drums` are read into the roll, or pass by untouched, as the model was trained (None) or as asked. Widths count
    steps, a `region` is "START:END[,LOW:HIGH]", `pitch_range` (low, high), both inclusive. `num_iter_list` serves
    masked models; `bars` are counted in place of steps; `form` such as "AABA" says which sections return, `chords` such
    as "C Am F G" or a file of them, and `key`, what the harmony is, `metre` such as "3/4" how long bars are, each for
    models that know of it; `temperature` and `top_p` are one number or one per level. With `output_dir` the files of
    `var sample` are written there, as `recordings` say. Equal seeds give equal rolls; `index` writes the sample of that
    number alone, `best_of` the likeliest of so many, `vary` others with the plan of that number.
    Raises UsageError for what the model cannot honour, VarError for a prompt that cannot be read.
    """
    regions = (region,) if isinstance(region, str | Region) else tuple(region or ())
    kept = (Path(prompt) if isinstance(prompt, str) else prompt, prompt_steps, regions, keep_track)
    limits, plan = Constraints(scale, _range(pitch_range), max_polyphony), PlanOptions(form, chords, key)
    start = Start(mode, *kept, limits, target_width, tempo_bpm, bars, plan, metre, drums)
    iterations = None if num_iter_list is None else tuple(num_iter_list)
    draws = _per_level(temperature), _per_level(top_p)
    asked = SampleSettings(num_samples, batch_size, 1, iterations, scan_order, *draws, seed=seed)
    job = _sample_job(
        checkpoint, start, asked, Selection(index, best_of, vary), recordings or Recordings(), output_dir, overwrite
    )
    yield from run(job, lambda: _model(checkpoint, device))


sample = result_of(sample_events)


def _sample_job(
    checkpoint: "str | Path | FractalModel",
    start: Start,
    asked: SampleSettings,
    selection: Selection,
    recordings: Recordings,
    folder: str | Path | None,
    overwrite: bool,
) -> SampleJob:
    """What is to be written, with all that can be refused refused."""
    config = loading.config_of(checkpoint) if isinstance(checkpoint, str | Path) else checkpoint.config
    recordings.check(config)
    ready = prepare(start, config)
    settings = selection.settings(ready.settings(asked), config)
    check_settings(config, settings)
    files = RunFiles.of(folder, start.mode, settings.written, recordings, overwrite)
    name = str(checkpoint) if isinstance(checkpoint, str | Path) else config.name
    return SampleJob(name, config, start.mode, ready, settings, recordings, files, selection)


def _model(checkpoint: "str | Path | FractalModel | Ensemble", device: str) -> Any:
    if not isinstance(checkpoint, str | Path):
        return checkpoint
    return loading.load_model(checkpoint, loading.pick_device(device))[0]


def _range(pitches: str | tuple[int, int] | None) -> str | None:
    return f"{pitches[0]}:{pitches[1]}" if isinstance(pitches, tuple) else pitches


def _per_level(values: float | Sequence[float] | None) -> PerLevel | None:
    return tuple(values) if isinstance(values, Sequence) else values


def evaluate_likelihood_events(
    checkpoint: "str | Path | FractalModel | Ensemble",
    data: MusicLike,
    *,
    split: Split = "test",
    passes: int = 1,
    order: Literal["random", "time"] = "random",
    scale: str | None = None,
    pitch_range: str | tuple[int, int] | None = None,
    max_polyphony: int | None = None,
    surprise_maps: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
) -> Iterator[Event | Likelihood]:
    """Score held-out pieces under a model, in nats per frame (a frame is one step of the grid).

    `checkpoint` is a name, a file, a run's folder or a model that `load` gave; `data` a folder or zip of MIDI, a .mat
    or an .npz, of which the pieces of `split` count, or rolls on the model's grid, which all do. Exact for
    autoregressive models; for masked ones an upper bound, averaged over `passes` random orders, or, where no masked
    level has attention, exact in the `order` of time. Under constraints it is the likelihood among the pieces that keep
    to them. `surprise_maps` is a folder for a picture of each piece. Raises UsageError where there is nothing to score,
    VarError for data that cannot be read.
    """
    if isinstance(data, str | Path) and not Path(data).exists():
        raise UsageError(f"no data at {data}", "give a folder or zip of MIDI, a .mat or an .npz")
    config = loading.config_of(checkpoint) if isinstance(checkpoint, str | Path) else checkpoint.config
    one_of("--split", split, get_args(Split))
    one_of("--order", order, ("random", "time"))
    at_least("--passes", passes, 1)
    constraints = Constraints(scale, _range(pitch_range), max_polyphony)
    constraints.on_canvas(config, Planes.of(config.model), 1)
    folder = None if surprise_maps is None else ensure_output_dir(surprise_maps)
    pieces = _music(data, Vocabulary.of(config.model), config.model.steps_per_beat)
    name = str(checkpoint) if isinstance(checkpoint, str | Path) else config.name
    job = LikelihoodJob(name, config, pieces, split, passes, order, constraints, seed, folder)
    yield from likelihood.evaluate(job, lambda: _model(checkpoint, device), overwrite)


evaluate_likelihood = result_of(evaluate_likelihood_events)


def evaluate_music_events(
    generated: MusicLike,
    reference: MusicLike,
    *,
    split: Split | Literal["all"] = "test",
    train_data: MusicLike | None = None,
    samples: int | None = None,
    window_steps: int = 256,
    steps_per_beat: int = 4,
    beats_per_bar: int = 4,
    velocity_bins: int = 16,
    resamples: int = 200,
    seed: int = 0,
    report: str | Path | None = None,
    background: str = "#12141c",
    overwrite: bool = False,
) -> Iterator[Event | MusicEvaluation]:
    """Compare generated with real music: overlaps of metrics, a classifier that tells the two apart, and copies.

    Each side is a folder or zip of MIDI, a .mat or an .npz, or rolls on the grid of `steps_per_beat` and
    `velocity_bins`; `generated` may be a single MIDI file, and of many pieces only the first `samples` count. Of a
    `reference` in files the pieces of `split` count; copies are looked for in the training pieces of `train_data`, by
    default in those of the reference. `report`, a .png, is a page of it all. Raises UsageError where there is nothing
    to compare, VarError for what cannot be read.
    """
    one_of("--split", split, (*get_args(Split), "all"))
    for option, value, least in (("--window-steps", window_steps, 16), ("--resamples", resamples, 20)):
        at_least(option, value, least)
    at_least("--samples", 1 if samples is None else samples, 1)
    paths = [Path(side) for side in (generated, reference, train_data) if isinstance(side, str | Path)]
    binary = any(path.is_file() and path.suffix.lower() in READERS for path in paths)
    vocabulary = Vocabulary(binary=True) if binary else Vocabulary(velocity_bins)
    ours, real = (_music(side, vocabulary, steps_per_beat) for side in (generated, reference))
    training = None if train_data is None else _music(train_data, vocabulary, steps_per_beat, "train")
    page, theme = None if report is None else Path(report), None
    if page is not None:
        if page.suffix.lower() != ".png":
            raise UsageError(f"--report {page}: the page is a PNG", "call it something.png")
        theme = make_theme(background)
        refuse_existing([page], overwrite)
        ensure_output_dir(page.parent)
    grid = window_steps, steps_per_beat, beats_per_bar, vocabulary
    yield from comparison.evaluate(MusicJob(ours, real, split, training, samples, *grid, seed, resamples, page, theme))


evaluate_music = result_of(evaluate_music_events)


def _music(data: MusicLike, vocabulary: Vocabulary, steps_per_beat: int, split: Split = "test") -> Path | list[Piece]:
    """A path that is there, or rolls as pieces; raises UsageError for none, and for a roll on another grid."""
    if isinstance(data, str | Path):
        if not Path(data).exists():
            raise UsageError(f"{data}: no such file or folder", "give a folder or zip of MIDI, a .mat or an .npz")
        return Path(data)
    for roll in data:
        if (roll.vocabulary, roll.steps_per_beat) != (vocabulary, steps_per_beat):
            raise UsageError(f"a roll is not on the grid: {steps_per_beat} steps per beat, {vocabulary}")
    return [Piece.of(roll, f"roll {number}", split) for number, roll in enumerate(data)]
