"""Models rebuilt from their checkpoints."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from varcli.errors import UsageError, VarError
from varcli.registry import BUILDERS, get, names, suggestion

if TYPE_CHECKING:
    from varcli.checkpoint import Header
    from varcli.pianoroll.config import PianorollConfig


def resolve_checkpoint(name_or_path: str | Path) -> Path:
    """Find the file of a checkpoint: a registered name, a run folder (its best) or a file.

    Raises UsageError when there is none.
    """
    text, path = str(name_or_path), Path(name_or_path)
    if text in names():
        weights = get(text).weights
        if weights is None:
            raise UsageError(f"no weights ship for {text}", f"train them: var train {text} --data FILES")
        return weights
    if path.is_dir():
        best = path / "best.safetensors"
        if not best.is_file():
            raise UsageError(f"no best.safetensors in the folder {path}", "give a folder that `var train` wrote")
        return best
    if not path.exists():
        raise UsageError(f"no checkpoint {text!r}", suggestion(text) or f"give a file, or one of {', '.join(names())}")
    return path


def find_header(name_or_path: str | Path, task: str | None = "pianoroll") -> "tuple[Path, Header]":
    """Find a checkpoint and read what it says about itself; quick, for it needs neither torch nor the tensors.

    Raises UsageError when the file is missing, VarError when it is damaged or of another task than `task` (None: any).
    """
    from varcli.checkpoint import read_header

    path = resolve_checkpoint(name_or_path)
    header = read_header(path)
    if task not in (None, header.task) or header.task not in BUILDERS:
        raise VarError(f"{path} is a model for {header.task!r}, not for {task!r}", "`var inspect` lists what ships")
    return path, header


def config_of(name_or_path: str | Path) -> "PianorollConfig":
    """The config of a music model, read without torch, so that a wrong file is said at once; raises as find_header."""
    from varcli.config import config_from_json

    path, header = find_header(name_or_path)
    return config_from_json(header.config, str(path))


def pick_device(device: str = "auto") -> str:
    """The torch device to run on: "cpu", "cuda" or "mps"; "auto" takes a GPU if there is one.

    Raises UsageError for one that this machine does not have.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, is_there in there.items() if is_there)
    if not there.get(device):
        raise UsageError(f"--device {device}: this machine has none", "--device auto takes what there is")
    return device


def load(name_or_path: str | Path, device: str = "auto") -> "tuple[Any, Header]":
    """The model of a checkpoint of either family, ready to use on `device` (see `pick_device`), and its header.

    `name_or_path` is a registered name, a file, or the folder of a run (its best). Raises as `load_model`.
    """
    return load_model(name_or_path, pick_device(device), task=None)


def load_model(name_or_path: str | Path, device: str = "cpu", task: str | None = "pianoroll") -> "tuple[Any, Header]":
    """Rebuild a model from its checkpoint alone, in evaluation mode on `device`, and say where it came from.

    Raises UsageError when the file is missing, VarError when it is damaged or of another task than `task` (None: any).
    """
    from varcli.checkpoint import load_checkpoint
    from varcli.config import config_from_json

    path, _ = find_header(name_or_path, task)
    header, tensors = load_checkpoint(path)
    config = config_from_json(header.config, str(path))
    module, function = BUILDERS[header.task].split(":")
    model = getattr(import_module(module), function)(config)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise VarError(f"{path}: the weights do not fit the config they came with: {reason}") from None
    return model.to(device).eval(), header
