"""The registry: names, presets, weights, and models rebuilt from their files alone."""

from pathlib import Path

import pytest
import torch
from cli_support import save_tiny, tiny_config
from fractal_support import tiny_config as small_config

from varcli import loading, registry
from varcli.checkpoint import load_checkpoint, save_checkpoint
from varcli.config import load_config
from varcli.errors import UsageError, VarError
from varcli.loading import config_of
from varcli.pianoroll.events import SampleDone
from varcli.pianoroll.generation.generate import SampleSettings, generate
from varcli.pianoroll.model.fractal import FractalModel


def test_entries_are_whole() -> None:
    names = [entry.name for entry in registry.entries()]
    assert names == list(registry.names())
    assert len(set(names)) == len(names)
    for entry in registry.entries():
        assert entry.preset.is_file()
        assert entry.weights is None or entry.weights.is_file()
        assert registry.get(entry.name) == entry


def test_weights_sample_as_their_preset_says() -> None:
    for entry in registry.entries():
        if entry.weights is not None and entry.task == "pianoroll":
            assert config_of(entry.name).sample == load_config(entry.name).sample


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError) as raised:
        registry.get("fractal-arr")
    assert raised.value.hint == "did you mean fractal-ar?"


def test_names_run_folders_and_files_resolve(tmp_path: Path) -> None:
    file = save_tiny(tmp_path / "best.safetensors")
    assert loading.resolve_checkpoint(file) == file
    assert loading.resolve_checkpoint(str(tmp_path)) == file
    for entry in registry.entries():
        if entry.weights is None:
            with pytest.raises(UsageError, match="no weights ship"):
                loading.resolve_checkpoint(entry.name)
        else:
            assert loading.resolve_checkpoint(entry.name) == entry.weights


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    for bad in (tmp_path, tmp_path / "none.safetensors", "fractal-aar"):
        with pytest.raises(UsageError):
            loading.resolve_checkpoint(bad)


def test_a_model_is_rebuilt_from_its_file_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = FractalModel(tiny_config())
    rebuilt, header = loading.load_model(save_tiny(tmp_path / "a.safetensors", model))
    assert not rebuilt.training
    assert header.config == tiny_config().model_dump(mode="json")
    wanted = model.state_dict()
    assert set(rebuilt.state_dict()) == set(wanted)
    assert all(torch.equal(value, wanted[name]) for name, value in rebuilt.state_dict().items())


def test_weights_stored_as_float16_make_a_float32_model(tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "a.safetensors", FractalModel(tiny_config()).half())
    model, _ = loading.load_model(path)
    stored = load_checkpoint(path)[1]
    assert {value.dtype for value in stored.values()} == {torch.float16}
    for name, value in model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, stored[name].float())
    *_, done = generate(model, SampleSettings(target_width=16))
    assert isinstance(done, SampleDone) and done.roll.steps == 16


@pytest.mark.parametrize("task", ["emitters", "pianoroll2"])
def test_a_model_of_another_task_is_refused(tmp_path: Path, task: str) -> None:
    path = save_tiny(tmp_path / "a.safetensors", task=task)
    with pytest.raises(VarError, match=f"for '{task}', not for 'pianoroll'"):
        loading.load_model(path)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = FractalModel(tiny_config())
    narrow = tiny_config().model_dump(mode="json")
    narrow["model"]["levels"][0]["width"] = 24
    with pytest.raises(VarError, match="do not fit") as raised:
        loading.load_model(save_tiny(tmp_path / "a.safetensors", model, config=narrow))
    assert len(raised.value.message.splitlines()) == 1


def test_weights_of_older_checkpoints_find_the_names_of_today(tmp_path: Path) -> None:
    config = small_config("ar", "8x1>1x1", 16, model={"polyphony": True})
    model = FractalModel(config)
    old = config.model_dump(mode="json")
    old["model"]["voices"] = old["model"].pop("polyphony")
    weights = {name.replace("polyphony", "voices"): value for name, value in model.state_dict().items()}
    assert set(weights) != set(model.state_dict())
    about = {"data": {}, "steps": 0, "metrics": {}, "seed": 0}
    save_checkpoint(tmp_path / "old.safetensors", weights, task="pianoroll", config=old, **about)
    rebuilt, _ = loading.load_model(tmp_path / "old.safetensors")
    assert rebuilt.config == config
    assert all(torch.equal(value, rebuilt.state_dict()[name]) for name, value in model.state_dict().items())
