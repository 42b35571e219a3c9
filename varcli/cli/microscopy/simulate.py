"""`var simulate`: made-up measurements whose truth is known."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from varcli.cli.options import Device, DeviceOption, JsonOption, OverwriteOption, SeedOption, SetOption, pick_device
from varcli.cli.output import emit, table
from varcli.cli.progress import Display
from varcli.emitters.events import FramesSimulated
from varcli.errors import UsageError

if TYPE_CHECKING:
    from varcli.emitters.simulation.config import StackConfig

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
    device: DeviceOption = Device.cpu,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """A camera stack of blinking molecules, STEM_truth.csv with each of them in every frame, and STEM_camera.toml.

    JSON keys: output, truth, camera, frames, height, width, emitters, emitters_per_frame, seed.
    """
    if output.suffix.lower() not in {".tif", ".tiff"}:
        raise UsageError(f"--output {output}: not a .tif", "for example --output stack.tif")
    from varcli.config import load_simulation
    from varcli.files import ensure_output_dir, refuse_existing

    config = load_simulation(source, settings or ())
    paths = _Paths(output)
    refuse_existing(paths.all, overwrite)
    ensure_output_dir(output.parent)
    folder = Path(source).parent if Path(source).is_file() else Path()
    where = pick_device(device)
    with Display() as display:
        *_, last = display.follow(_write(config, paths, seed, where, folder))
    document: dict[str, Any] = {
        "output": str(output),
        "truth": str(paths.truth),
        "camera": str(paths.camera),
        "frames": config.frames,
        "height": config.height,
        "width": config.width,
        "emitters": last.emitters,
        "emitters_per_frame": last.emitters / config.frames,
        "seed": seed,
    }
    emit(document, table(document.items()), as_json)


class _Paths:
    """The files of a simulation: the stack, the truth with its provenance, and the camera."""

    def __init__(self, output: Path) -> None:
        self.stack = output
        self.truth = output.with_name(f"{output.stem}_truth.csv")
        self.camera = output.with_name(f"{output.stem}_camera.toml")
        self.all = [self.stack, self.truth, self.truth.with_suffix(".json"), self.camera]


def _write(config: "StackConfig", paths: _Paths, seed: int, device: str, folder: Path) -> Iterator[FramesSimulated]:
    """Write the files of a simulation while it goes on; they appear when all is done."""
    from varcli.emitters.camera.file import camera_of, dump_camera
    from varcli.emitters.simulation.acquisition import simulate_stack
    from varcli.emitters.stack.writer import StackWriter
    from varcli.emitters.tables import FORMATS, Field
    from varcli.emitters.tables.writer import RowWriter
    from varcli.files import write_text
    from varcli.version import __version__

    camera = camera_of(config.camera, folder)
    field = Field.of(camera, config.frames, config.height, config.width)
    done = emitters = 0
    with (
        RowWriter(FORMATS["csv"], paths.truth, field) as truth,
        StackWriter(paths.stack, config.frames, config.height, config.width, camera.pixel_size_nm) as stack,
    ):
        for frames, rows in simulate_stack(config, seed, device, folder):
            stack.append(frames)
            truth.append(rows)
            done, emitters = done + len(frames), emitters + len(rows)
            yield FramesSimulated(done, config.frames, emitters)
        stack.finish()
        simulated = {"simulated": config.model_dump(mode="json"), "seed": seed, "version": __version__}
        truth.finish({"stack": paths.stack.name, "truth": True, **simulated})
    write_text(paths.camera, dump_camera(config.camera, folder))
