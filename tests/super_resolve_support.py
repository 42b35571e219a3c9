"""Calls of `var super-resolve` with a tiny model, or with one that finds spots in its place.

Test modules name it as a plugin of theirs, for its fixtures. PYTEST_DONT_REWRITE: it is imported before, and asserts
nothing.
"""

from pathlib import Path

import pytest
from emitter_support import SAID, Maxima, save_stack, spots

from varcli import loading
from varcli.checkpoint import save_checkpoint
from varcli.emitters.config import EmittersConfig
from varcli.emitters.network import predict

STEPS = ["--filter", "photons > 300", "--density", "1:3000", "--link", "--gap", "3", "--radius", "300", "--report"]
"""Options of all steps that may follow."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a few thousand fresh weights, of the whole trained domain."""
    import torch

    from varcli.emitters.training import build_model

    torch.manual_seed(0)
    model = {"encoder_width": 4, "encoder_layers": 1, "width": 8, "heads": 1, "layers": 1, "accumulated_width": 2}
    config = EmittersConfig.model_validate({"model": model})
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    held = config.model_dump(mode="json")
    data = {"simulated": held["simulation"]}
    weights = build_model(config).state_dict()
    save_checkpoint(path, weights, task="emitters", config=held, data=data, steps=1, metrics={}, seed=0)
    return path


@pytest.fixture
def maxima(monkeypatch: pytest.MonkeyPatch) -> Maxima:
    """A model that finds spots, in place of the tiny one's weights."""
    model = Maxima()
    in_place(model, monkeypatch)
    return model


def in_place(model: Maxima, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `model` stand for every network that is loaded."""
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: (model, None))
    monkeypatch.setattr(predict, "Predictor", lambda network: network)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    return save_stack(tmp_path / "img.tif", spots())


class Call:
    """A call of the command with the same checkpoint, camera and folder."""

    def __init__(self, checkpoint: Path, folder: Path) -> None:
        self.common = ["--checkpoint", str(checkpoint), "--output-dir", str(folder), "--polish", "none"]

    def args(self, *words: object, said: bool = True) -> list[str]:
        return ["super-resolve", *self.common, *(SAID if said else []), *map(str, words)]


@pytest.fixture
def call(checkpoint: Path, tmp_path: Path) -> Call:
    return Call(checkpoint, tmp_path / "out")


def outputs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
