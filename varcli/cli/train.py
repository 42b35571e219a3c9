"""`var train`: a preset or config, and some MIDI where it needs any, become a checkpoint."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from varcli import loading
from varcli.cli.options import (
    DeviceOption,
    JsonOption,
    OverwriteOption,
    SetOption,
    complete_preset,
)
from varcli.cli.output import emit, table
from varcli.cli.progress import Display
from varcli.errors import UsageError

RUN_FILES = ("config.toml", "best.safetensors", "last.safetensors", "last.state.safetensors", "log.jsonl")


def train(
    source: Annotated[
        str, typer.Argument(metavar="PRESET|CONFIG.toml", help="What to train.", autocompletion=complete_preset)
    ],
    settings: SetOption = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder or zip of MIDI, a .mat or an .npz; the config may name it too."),
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", help="Folder of the run; runs/NAME by default.", show_default=False)
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", min=1, help="Stop at this step; the learning-rate schedule stays.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in the folder stopped.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be trained, and write nothing.")] = False,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model; leaves config.toml, best and last weights, the state for --resume and log.jsonl in a folder.

    JSON keys: run, best, last, step, steps, nats_per_frame (of validation, at best) and seconds; with --dry-run those
    of the plan: name, parameters, parameters_per_level, steps, crops, frames.
    """
    from varcli.config import load_config

    config = load_config(source, settings or ())
    if dry_run:
        from varcli.train.tasks import plan

        document = plan(config)
        emit(document, table(document.items()), as_json)
        return
    files = _data_of(config, data)
    run = output_dir or Path("runs") / config.name
    first = os.environ.get("RANK", "0") == "0"
    if first:
        _prepare(run, resume, overwrite)
    from varcli.train.loop import train as train_model

    events = train_model(
        config, data=files, output_dir=run, max_steps=max_steps, resume=resume, device=_device_of_process(device)
    )
    document = _follow(events, run, first)
    if first:
        emit(document, table(document.items()), as_json)


def _data_of(config: Any, data: Path | None) -> Path | None:
    """The data to train on; None for emitters, whose frames are simulated."""
    if config.task == "emitters":
        if data is not None:
            raise UsageError(f"--data means nothing to {config.name}", "its frames are simulated: set simulation.*")
        return None
    files = data or (Path(config.data.path) if config.data.path else None)
    if files is None:
        raise UsageError("no data to train on", "say --data FILES: a folder or zip of MIDI, a .mat or an .npz")
    if not files.exists():
        raise UsageError(f"no data at {files}", "give a folder or zip of MIDI, a .mat or an .npz")
    return files


def _prepare(run: Path, resume: bool, overwrite: bool) -> None:
    """Make the folder of the run, or refuse one that holds another; --overwrite clears that one."""
    from varcli.files import ensure_output_dir, refuse_existing

    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other", "resume the run, or overwrite it")
    paths = [run / name for name in RUN_FILES]
    if not resume:
        try:
            refuse_existing(paths, overwrite)
        except UsageError as error:
            raise UsageError(error.message, "--resume goes on, --overwrite starts anew") from None
    elif not run.is_dir():
        raise UsageError(f"no run to resume in {run}", "train without --resume")
    ensure_output_dir(run)
    if overwrite:
        for path in paths:
            path.unlink(missing_ok=True)


def _device_of_process(device: str) -> str:
    """The device of this process: under torchrun, each takes its own GPU."""
    name = loading.pick_device(device)
    return f"cuda:{os.environ['LOCAL_RANK']}" if name == "cuda" and "LOCAL_RANK" in os.environ else name


def _follow(events: Iterator[Any], run: Path, shown: bool) -> dict[str, Any]:
    """Run the training to its end, showing it, and sum it up."""
    import time

    from varcli.events import TrainStep, Validated

    began, step, steps, best = time.perf_counter(), None, None, None
    with Display() as display:
        for event in display.follow(events) if shown else events:
            if isinstance(event, TrainStep):
                step, steps = event.step, event.total
            elif isinstance(event, Validated):
                best = event.nats_per_frame if best is None else min(best, event.nats_per_frame)
    return {
        "run": str(run),
        "best": str(run / "best.safetensors"),
        "last": str(run / "last.safetensors"),
        "step": step,
        "steps": steps,
        "nats_per_frame": best,
        "seconds": round(time.perf_counter() - began, 3),
    }
