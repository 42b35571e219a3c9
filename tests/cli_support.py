"""What the tests of the command line share: a tiny model, small MIDI files and a runner that keeps streams apart."""

import json
import sys
from pathlib import Path
from typing import Any

from roll_support import notes_to_cells
from typer.testing import CliRunner, Result

from varcli.checkpoint import save_checkpoint
from varcli.cli.app import app
from varcli.pianoroll.config import PianorollConfig
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.roll import Note, Roll, Vocabulary
from varcli.pianoroll.score.midi import write_midi

TINY_TOML = """
name = "tiny"

[model]
context_steps = 16
velocity_bins = 2
{model}

[data]
crop_steps = 16

[train]
steps = 4
batch_size = 2
warmup_steps = 1
validate_every = 2
save_every = 2
validation_crops = 2
parents_per_level = 8
{train}

{levels}
"""

LEVEL_TOML = """
[[model.levels]]
kind = "{kind}"
{shape}
width = 16
blocks = 1
heads = 1
steps_before = 4
pitches_around = 2
"""


def tiny_toml(kind: str = "ar", model: str = "", train: str = "", binary: bool = False) -> str:
    """A config whose model has a few thousand parameters."""
    shapes = ["64x8", "8x4", "1x1"] + ([] if binary else [None])
    levels = "".join(LEVEL_TOML.format(kind=kind, shape=f'shape = "{shape}"' if shape else "") for shape in shapes)
    if binary:
        model += '\nvocabulary = "binary"'
    return TINY_TOML.format(model=model, train=train, levels=levels)


def tiny_config(kind: str = "ar", binary: bool = False) -> PianorollConfig:
    """The config of tiny_toml."""
    import tomli

    from varcli.config import config_from_json

    return config_from_json(tomli.loads(tiny_toml(kind, binary=binary)))


def save_tiny(
    path: Path, model: FractalModel | None = None, *, task: str = "pianoroll", config: dict[str, Any] | None = None
) -> Path:
    """Save a tiny model with fresh weights as a checkpoint."""
    import torch

    torch.manual_seed(0)
    model = model or FractalModel(tiny_config())
    config = config or model.config.model_dump(mode="json")
    data = {"name": "made up"}
    save_checkpoint(path, model.state_dict(), task=task, config=config, data=data, steps=1, metrics={}, seed=0)
    return path


def save_midi(path: Path, steps: int = 32) -> Path:
    """Write a scale in eighth notes, as MIDI."""
    scale = (60, 62, 64, 65, 67, 69, 71, 72)
    notes = [Note(scale[step // 2 % 8], step, 2, 40 + step) for step in range(0, steps, 2)]
    cells, _ = notes_to_cells(notes, steps, Vocabulary())
    write_midi(Roll(cells, Vocabulary()), path)
    return path


def save_corpus(folder: Path, count: int = 12) -> Path:
    """Write numbered MIDI files, so that every split has at least one."""
    folder.mkdir()
    for number in range(count):
        save_midi(folder / f"{number:03d}.mid", 32 + 2 * number)
    return folder


def run(*args: object) -> Result:
    """Run `var` in this process."""
    return CliRunner().invoke(app, [str(arg) for arg in args], prog_name="var")


def run_json(*args: object) -> dict[str, Any]:
    """Run `var ... --json` and read the one document on stdout."""
    result = run(*args, "--json")
    assert result.exit_code == 0, (result.stderr, result.exception)
    return json.loads(result.stdout)


def assert_refused(result: Result, code: int, *said: object) -> None:
    """One or two lines on stderr that name `said`, nothing on stdout, no traceback."""
    assert result.exit_code == code, (result.stdout, result.stderr)
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert "Traceback" not in result.stderr
    if lines[0].startswith("Usage:"):
        # Typer's own usage messages keep their form: a box, broken where the line ends.
        text = "".join(line.strip("│ ") for line in lines).replace(" ", "")
        assert all(str(part).replace(" ", "") in text for part in said), result.stderr
        return
    assert lines[0].startswith("error: ")
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: ")), result.stderr
    for part in said:
        assert str(part) in result.stderr, result.stderr


PYTHON = sys.executable
