"""`var inspect` says what a file is, its numbers and its health."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_support import assert_refused, run, run_json, save_midi, save_tiny, tiny_config, tiny_toml

from varcli import registry
from varcli.checkpoint import save_state
from varcli.pianoroll.model.fractal import FractalModel


def test_without_a_path_it_lists_what_is_registered() -> None:
    models = run_json("inspect")["models"]
    assert [model["name"] for model in models] == list(registry.names())
    for model in models:
        assert set(model) == {"name", "task", "summary", "preset", "weights"}
    stdout = run("inspect").stdout
    assert all(name in stdout for name in registry.names())


def test_a_checkpoint_and_a_run_folder(tmp_path: Path) -> None:
    model = FractalModel(tiny_config())
    path = save_tiny(tmp_path / "best.safetensors", model)
    document = run_json("inspect", path)
    assert document["kind"] == "checkpoint"
    assert (document["task"], document["name"], document["steps"]) == ("pianoroll", "tiny", 1)
    parameters = document["parameters"]
    total = sum(tensor.numel() for tensor in model.state_dict().values())
    assert parameters["total"] == total == sum(count for key, count in parameters.items() if key != "total")
    assert {f"level {level}" for level in range(4)} <= set(parameters)
    assert document["health"] == {"ok": True, "problems": []}
    assert run_json("inspect", tmp_path)["digest"] == document["digest"]
    shown = run("inspect", path).stdout
    assert "health" in shown and "order random, temperature 1.0, top_p 1.0" in shown


def test_numbers_that_are_not_finite_are_found(tmp_path: Path) -> None:
    model = FractalModel(tiny_config())
    name, first = next(iter(model.named_parameters()))
    with torch.no_grad():
        first.view(-1)[0] = float("nan")
    document = run_json("inspect", save_tiny(tmp_path / "a.safetensors", model))
    assert document["health"] == {"ok": False, "problems": [f"{name}: 1 values are not finite"]}


def test_weights_stored_as_float16_are_healthy(tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "a.safetensors", FractalModel(tiny_config()).half())
    document = run_json("inspect", path)
    assert document["health"] == {"ok": True, "problems": []}
    assert document["parameters"] == run_json("inspect", save_tiny(tmp_path / "b.safetensors"))["parameters"]
    assert path.stat().st_size < (tmp_path / "b.safetensors").stat().st_size


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_every_kind_of_float_is_looked_at(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "last.state.safetensors"
    save_state(path, {"m": torch.tensor([1.0, float("inf"), -2.0, float("nan")]).to(dtype)}, {"step": 3})
    document = run_json("inspect", path)
    assert (document["kind"], document["numbers"]) == ("training-state", {"step": 3})
    assert document["health"]["problems"] == ["m: 2 values are not finite"]


def test_presets_and_configs(tmp_path: Path) -> None:
    for entry in registry.entries():
        if entry.weights is None:
            assert run_json("inspect", entry.name)["kind"] == "config"
    path = tmp_path / "mine.toml"
    path.write_text(tiny_toml())
    document = run_json("inspect", path)
    assert document["config"] == tiny_config().model_dump(mode="json")
    assert [level["child"] for level in document["levels"]] == ["64x8", "8x4", "1x1", "value"]


def test_midi(tmp_path: Path) -> None:
    document = run_json("inspect", save_midi(tmp_path / "scale.mid", steps=32))
    assert document["kind"] == "midi"
    assert (document["notes"], document["steps"], document["bars"]) == (16, 32, 2)
    assert (document["lowest_pitch"], document["highest_pitch"]) == (60, 72)
    assert document["tempo_bpm"] == pytest.approx(120)
    assert document["loss"]["moved"] == 0
    assert document["health"]["ok"]


def test_frames(tmp_path: Path) -> None:
    frames = np.zeros((3, 128, 32), np.uint8)
    frames[1:, 60, 0] = 200
    path = tmp_path / "a_frames.npz"
    # Below level 0 every parent's children have the same labels.
    np.savez(path, frames=frames, labels=np.array(["Init", "AR L1 patch 1/16", "AR L1 patch 1/16"]))
    document = run_json("inspect", path)
    assert (document["kind"], document["frames"], document["height"], document["width"]) == ("frames", 3, 128, 32)
    assert document["health"]["ok"]
    np.savez(path, frames=np.zeros((3, 128, 32), np.uint8))
    assert not run_json("inspect", path)["health"]["ok"]


def test_what_it_cannot_read_is_said(tmp_path: Path) -> None:
    odd = tmp_path / "notes.docx"
    odd.write_text("hello")
    assert_refused(run("inspect", odd), 2, odd, "unknown kind")
    assert_refused(run("inspect", "fractal-aar"), 2, "did you mean fractal-ar?")
    assert_refused(run("inspect", tmp_path / "none.mid"), 2, "none.mid")
    assert_refused(run("inspect", tmp_path), 2, "no best.safetensors")
    assert_refused(run("inspect", odd, "--json"), 2, odd)


def test_json_is_all_there_is_on_stdout(tmp_path: Path) -> None:
    result = run("inspect", save_midi(tmp_path / "a.mid"), "--json")
    assert json.loads(result.stdout)["kind"] == "midi"
    assert result.stderr == ""
