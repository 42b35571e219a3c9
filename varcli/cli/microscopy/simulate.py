"""`var simulate`: made-up measurements whose truth is known."""

from pathlib import Path
from typing import Annotated, Any

import typer

from varcli.cli.options import DeviceOption, JsonOption, OverwriteOption, SeedOption, SetOption
from varcli.cli.output import emit, table
from varcli.cli.progress import Display

app = typer.Typer(no_args_is_help=True, help="Make measurements up whose truth is known.")


@app.callback()
def simulate() -> None:
    """Make measurements up whose truth is known."""


def complete_simulation(incomplete: str) -> list[tuple[str, str]]:
    """Names of the presets; files complete where none fits."""
    from varcli.registry import SIMULATIONS

    return [(name, summary) for name, summary in SIMULATIONS if name.startswith(incomplete)]


Source = Annotated[
    str,
    typer.Argument(
        metavar="[PRESET|CONFIG.toml]", help="What to simulate.", autocompletion=complete_simulation, show_default=True
    ),
]
Output = Annotated[Path, typer.Option("--output", help="The camera stack, .tif; the truth goes beside it.")]


@app.command("emitters")
def emitters(
    source: Source = "blinking",
    settings: SetOption = None,
    seed: SeedOption = 0,
    output: Output = Path("stack.tif"),
    device: DeviceOption = "cpu",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """A camera stack of blinking molecules, STEM_truth.csv with each of them in every frame, and STEM_camera.toml.

    JSON keys: output, truth, camera, frames, height, width, emitters, emitters_per_frame, seed.
    """
    from varcli.api.microscopy import simulate_events
    from varcli.emitters.results.simulation import Simulation

    events = simulate_events(source, settings or (), seed=seed, device=device, output=output, overwrite=overwrite)
    with Display() as display:
        done = display.result(events, Simulation)
    config, files = done.config, done.files
    assert files is not None
    document: dict[str, Any] = {
        "output": str(files.stack),
        "truth": str(files.truth),
        "camera": str(files.camera),
        "frames": config.frames,
        "height": config.height,
        "width": config.width,
        "emitters": done.emitters,
        "emitters_per_frame": done.emitters / config.frames,
        "seed": seed,
    }
    emit(document, table(document.items()), as_json)
