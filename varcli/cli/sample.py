"""`var sample`: a trained model writes piano rolls, as MIDI, a picture and an animation of how it wrote them."""

import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from varcli.cli.options import (
    Device,
    DeviceOption,
    JsonOption,
    OutputDirOption,
    OverwriteOption,
    SeedOption,
    complete_checkpoint,
    parse_counts,
    parse_every,
    parse_levels,
    pick_device,
)
from varcli.cli.output import emit
from varcli.cli.progress import Display
from varcli.cli.writer import GifSamples, Outputs, Writer
from varcli.errors import UsageError

if TYPE_CHECKING:
    from varcli.pianoroll.generate import SampleSettings


class Mode(StrEnum):
    """What a sample starts from."""

    unconditional = "unconditional"


class ScanOrder(StrEnum):
    """Order of autoregressive children."""

    row_major = "row_major"
    column_major = "column_major"


def sample(
    mode: Annotated[Mode, typer.Option("--mode", help="What the samples start from.")],
    checkpoint: Annotated[
        str,
        typer.Option("--checkpoint", help="A model's name, file or run folder.", autocompletion=complete_checkpoint),
    ] = "fractal-ar",
    num_samples: Annotated[int, typer.Option("--num-samples", min=1, help="How many rolls.")] = 1,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Rolls written together.")] = 1,
    target_width: Annotated[
        int, typer.Option("--target-width", min=1, help="Length in steps of the grid, 16th notes by default.")
    ] = 256,
    num_iter_list: Annotated[
        str | None,
        typer.Option("--num-iter-list", help='Masked models: iterations per level, such as "12 8 4 1".'),
    ] = None,
    scan_order: Annotated[
        ScanOrder | None, typer.Option("--scan-order", help="Order of children; the checkpoint's own by default.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="Divides the logits; 1.0 unless the checkpoint says else.")
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            "--top-p", help="Keep the likeliest values up to this share; 1.0 unless the checkpoint says else."
        ),
    ] = None,
    tempo: Annotated[
        float, typer.Option("--tempo", min=4, max=1000, metavar="BPM", help="Quarter notes a minute.")
    ] = 120,
    gif: Annotated[bool, typer.Option("--gif/--no-gif", help="Animate how the model wrote the roll.")] = False,
    gif_samples: Annotated[
        GifSamples, typer.Option("--gif-samples", help="Which samples are animated.")
    ] = GifSamples.first,
    fps: Annotated[float, typer.Option("--fps", min=0.1, max=100, help="Frames a second of the animation.")] = 2,
    record_levels: Annotated[
        str, typer.Option("--record-levels", help='Levels whose patches make a frame, such as "0,1".')
    ] = "0",
    record_every: Annotated[
        str, typer.Option("--record-every", metavar="auto|N", help="Keep each N-th frame; auto keeps at most 48.")
    ] = "auto",
    save_frames: Annotated[bool, typer.Option("--save-frames", help="Keep frames.npz, which `var gif` reads.")] = False,
    seed: SeedOption = 0,
    device: DeviceOption = Device.auto,
    output_dir: OutputDirOption = Path("outputs"),
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write new piano rolls: MODE_000.mid and .png, and with --gif MODE_000_process.gif, for each sample.

    The same seed, machine and --batch-size give the same bytes. JSON keys: mode, checkpoint, seed, samples [{index,
    midi, picture, gif, frames, notes, steps, seconds}] and seconds, with null for a file that was not asked for.
    """
    from varcli import registry
    from varcli.files import ensure_output_dir, refuse_existing

    outputs = Outputs(
        output_dir,
        mode.value,
        num_samples,
        gif_samples if gif else None,
        save_frames,
        parse_levels(record_levels, "--record-levels"),
        parse_every(record_every, "--record-every"),
        fps,
    )
    _check_share(temperature, "--temperature", most=None)
    _check_share(top_p, "--top-p", most=1.0)
    iterations = parse_counts(num_iter_list, "--num-iter-list")
    registry.resolve_checkpoint(checkpoint)
    refuse_existing(outputs.paths(), overwrite)
    ensure_output_dir(output_dir)

    from varcli.pianoroll.generate import SampleSettings

    settings = SampleSettings(
        num_samples=num_samples,
        batch_size=batch_size,
        target_width=target_width,
        num_iter_list=iterations,
        scan_order=scan_order.value if scan_order else None,
        temperature=temperature,
        top_p=top_p,
        tempo_bpm=tempo,
        seed=seed,
    )
    document = _run(outputs, checkpoint, settings, device)
    emit(document, _lines(document), as_json)


def _run(outputs: Outputs, checkpoint: str, settings: "SampleSettings", device: Device) -> dict[str, Any]:
    """Sample, show and write; returns the document of --json."""
    from varcli import registry
    from varcli.config import config_from_json
    from varcli.events import SampleDone, SampleStarted
    from varcli.pianoroll.generate import generate
    from varcli.pianoroll.roll import Vocabulary

    model, header = registry.load_model(checkpoint, pick_device(device))
    config = config_from_json(header.config)
    _check_levels(outputs, len(config.model.levels))
    vocabulary = Vocabulary(config.model.velocity_bins, binary=config.model.vocabulary == "binary")
    began = time.perf_counter()
    with Display() as display:
        writer = Writer(outputs, vocabulary, config.name, settings.seed, display.show)
        for event in display.follow(generate(model, settings)):
            if isinstance(event, SampleStarted):
                writer.start(event)
            writer.record(event)
            if isinstance(event, SampleDone):
                said = writer.finish(event)
                if not said["notes"]:
                    display.warn(f"{said['midi']} has no notes; try another --seed")
    return {
        "mode": outputs.mode,
        "checkpoint": checkpoint,
        "seed": settings.seed,
        "samples": sorted(writer.written, key=lambda said: said["index"]),
        "seconds": round(time.perf_counter() - began, 3),
    }


def _lines(document: dict[str, Any]) -> Iterator[str]:
    for said in document["samples"]:
        files = [said[key] for key in ("midi", "picture", "gif", "frames") if said[key]]
        yield f"{'  '.join(files)}  ({said['notes']} notes, {said['seconds']:.1f} s)"


def _check_share(value: float | None, option: str, most: float | None) -> None:
    if value is not None and not (0 < value <= (most or float("inf")) and value != float("inf")):
        bound = "above 0" if most is None else f"above 0 and at most {most:g}"
        raise UsageError(f"{option} {value:g}: must be {bound}", f"for example {option} 0.9")


def _check_levels(outputs: Outputs, levels: int) -> None:
    unknown = sorted(level for level in outputs.record_levels if level >= levels)
    if unknown:
        raise UsageError(f"--record-levels: no level {unknown[0]}", f"the checkpoint has levels 0 to {levels - 1}")
