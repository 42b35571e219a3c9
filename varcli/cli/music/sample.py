"""`var sample`: a trained model writes piano rolls, as MIDI, a picture and an animation of how it wrote them."""

import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from varcli.cli.music.constraints import Constraints, MaxPolyphonyOption, PitchRangeOption, ScaleOption
from varcli.cli.music.start import (
    KeepTrack,
    ModeOption,
    PromptOption,
    PromptSteps,
    Ready,
    RegionOption,
    Start,
    prepare,
)
from varcli.cli.music.writer import GifSamples, Outputs, Writer
from varcli.cli.options import (
    Device,
    DeviceOption,
    JsonOption,
    OutputDirOption,
    OverwriteOption,
    SeedOption,
    complete_checkpoint,
    config_of,
    parse_counts,
    parse_every,
    parse_levels,
    parse_per_level,
)
from varcli.cli.output import emit
from varcli.cli.progress import Display
from varcli.errors import UsageError

if TYPE_CHECKING:
    from varcli.pianoroll.config import PianorollConfig
    from varcli.pianoroll.generation.settings import SampleSettings
    from varcli.pianoroll.roll import Roll


class ScanOrder(StrEnum):
    """Order of autoregressive children."""

    row_major = "row_major"
    column_major = "column_major"


CheckpointOption = Annotated[
    str,
    typer.Option("--checkpoint", help="A model's name, file or run folder.", autocompletion=complete_checkpoint),
]
NumSamples = Annotated[int, typer.Option("--num-samples", min=1, help="How many rolls.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Rolls written together.")]
TargetWidth = Annotated[
    int | None,
    typer.Option(
        "--target-width",
        min=1,
        help="Length in steps, 16th notes by default: 256, or for inpainting and harmonise that of the prompt.",
    ),
]
NumIterList = Annotated[
    str | None,
    typer.Option("--num-iter-list", help='Masked models: iterations per level, such as "12 8 4 1".'),
]
ScanOrderOption = Annotated[
    ScanOrder | None, typer.Option("--scan-order", help="Order of children; the checkpoint's own by default.")
]
TemperatureOption = Annotated[
    str | None,
    typer.Option("--temperature", help='Divides the logits; a number, or one per level, such as "1,1,0.9,1".'),
]
TopPOption = Annotated[
    str | None,
    typer.Option("--top-p", help='Keep the likeliest up to this share; a number, or one per level: "1,1,0.95,0.98".'),
]
Tempo = Annotated[
    float | None,
    typer.Option("--tempo", min=4, max=1000, metavar="BPM", help="Quarter notes a minute; the prompt's own, or 120."),
]
Gif = Annotated[bool, typer.Option("--gif/--no-gif", help="Animate how the model wrote the roll.")]
GifSamplesOption = Annotated[GifSamples, typer.Option("--gif-samples", help="Which samples are animated.")]
Fps = Annotated[float, typer.Option("--fps", min=0.1, max=100, help="Frames a second of the animation.")]
RecordLevels = Annotated[str, typer.Option("--record-levels", help='Levels whose patches make a frame, such as "0,1".')]
RecordEvery = Annotated[
    str, typer.Option("--record-every", metavar="auto|N", help="Keep each N-th frame; auto keeps at most 48.")
]
SaveFrames = Annotated[bool, typer.Option("--save-frames", help="Keep frames.npz, which `var gif` reads.")]


def sample(
    mode: ModeOption,
    checkpoint: CheckpointOption = "fractal-ar",
    num_samples: NumSamples = 1,
    batch_size: BatchSize = 1,
    target_width: TargetWidth = None,
    num_iter_list: NumIterList = None,
    scan_order: ScanOrderOption = None,
    temperature: TemperatureOption = None,
    top_p: TopPOption = None,
    tempo: Tempo = None,
    prompt: PromptOption = None,
    prompt_steps: PromptSteps = None,
    region: RegionOption = None,
    keep_track: KeepTrack = None,
    scale: ScaleOption = None,
    pitch_range: PitchRangeOption = None,
    max_polyphony: MaxPolyphonyOption = None,
    gif: Gif = False,
    gif_samples: GifSamplesOption = GifSamples.first,
    fps: Fps = 2,
    record_levels: RecordLevels = "0",
    record_every: RecordEvery = "auto",
    save_frames: SaveFrames = False,
    seed: SeedOption = 0,
    device: DeviceOption = Device.auto,
    output_dir: OutputDirOption = Path("outputs"),
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write new piano rolls: MODE_000.mid and .png, and with --gif MODE_000_process.gif, for each sample.

    What is kept of a prompt stays as it is, cell by cell. The same seed, machine and --batch-size give the same bytes.
    JSON keys: mode, checkpoint, seed, prompt, kept_cells, written_cells, tempo, constraints {scale, pitch_range,
    max_polyphony}, samples [{index, midi, picture, gif, frames, notes, steps, seconds}] and seconds, with null for what
    was not asked for.
    """
    from varcli.files import ensure_output_dir, refuse_existing
    from varcli.pianoroll.generation.settings import SampleSettings, check_settings

    levels, every = parse_levels(record_levels, "--record-levels"), parse_every(record_every, "--record-every")
    animated = gif_samples if gif else None
    outputs = Outputs(output_dir, mode.value, num_samples, animated, save_frames, levels, every, fps)
    warmth, share = parse_per_level(temperature, "--temperature"), parse_per_level(top_p, "--top-p")
    iterations = parse_counts(num_iter_list, "--num-iter-list")
    config = config_of(checkpoint)
    _check_levels(outputs, len(config.model.levels))
    constraints = Constraints(scale, pitch_range, max_polyphony)
    start = Start(mode, prompt, prompt_steps, tuple(region or ()), keep_track, constraints, target_width, tempo)
    ready = prepare(start, config)
    settings = SampleSettings(
        num_samples=num_samples,
        batch_size=batch_size,
        target_width=ready.width,
        num_iter_list=iterations,
        scan_order=scan_order.value if scan_order else None,
        temperature=warmth,
        top_p=share,
        tempo_bpm=ready.tempo_bpm,
        seed=seed,
        constraints=ready.constraints,
        steps_per_bar=ready.steps_per_bar,
        downbeats=ready.downbeats,
    )
    check_settings(config, settings)
    refuse_existing(outputs.paths(), overwrite)
    ensure_output_dir(output_dir)
    document = _run(outputs, checkpoint, config, settings, ready, device)
    emit(document, _lines(document), as_json)


def _run(
    outputs: Outputs,
    checkpoint: str,
    config: "PianorollConfig",
    settings: "SampleSettings",
    ready: Ready,
    device: Device,
) -> dict[str, Any]:
    """Sample, show and write; returns the document of --json."""
    from varcli import loading
    from varcli.pianoroll.events import SampleDone, SampleStarted
    from varcli.pianoroll.generation.generate import generate, vocabulary_of

    model, _ = loading.load_model(checkpoint, loading.pick_device(device))
    began = time.perf_counter()
    with Display() as display:
        for warning in ready.warnings:
            display.warn(warning)
        writer = Writer(outputs, vocabulary_of(model), config.name, settings.seed, display.show, ready.voice)
        for event in display.follow(generate(model, settings)):
            if isinstance(event, SampleStarted):
                writer.start(event)
            writer.record(event)
            if isinstance(event, SampleDone):
                said = writer.finish(event)
                if not said["notes"]:
                    display.warn(f"{said['midi']} has no notes; try another --seed")
                elif _nothing_new(event.roll):
                    display.warn(f"{said['midi']} holds what was kept and nothing else; try another --seed")
    return {
        "mode": outputs.mode,
        "checkpoint": checkpoint,
        "seed": settings.seed,
        **ready.document(),
        "samples": sorted(writer.written, key=lambda said: said["index"]),
        "seconds": round(time.perf_counter() - began, 3),
    }


def _lines(document: dict[str, Any]) -> Iterator[str]:
    for said in document["samples"]:
        files = [said[key] for key in ("midi", "picture", "gif", "frames") if said[key]]
        yield f"{'  '.join(files)}  ({said['notes']} notes, {said['seconds']:.1f} s)"


def _nothing_new(roll: "Roll") -> bool:
    return roll.kept is not None and not roll.cells[~roll.kept].any()


def _check_levels(outputs: Outputs, levels: int) -> None:
    unknown = sorted(level for level in outputs.record_levels if level >= levels)
    if unknown:
        raise UsageError(f"--record-levels: no level {unknown[0]}", f"the checkpoint has levels 0 to {levels - 1}")
