"""Bad input, kind by kind: one or two lines that say what, where and what to do, and nothing written."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_support import assert_refused, run, save_midi, save_tiny
from mido import MidiFile


def truncated(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-20])
    return path


def edited(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    content[-3] ^= 0x40
    path.write_bytes(content)
    return path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def pickled(path: Path) -> Path:
    torch.save({"a": torch.ones(2)}, path)
    return path


def midi_without_notes(path: Path) -> Path:
    file = MidiFile()
    file.add_track("silence")
    file.save(path)
    return path


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
    return path


CHECKPOINTS: dict[str, tuple[Callable[[Path], Path], int, str]] = {
    "missing": (lambda folder: folder / "none.safetensors", 2, "no checkpoint"),
    "truncated": (lambda folder: truncated(save_tiny(folder / "a.safetensors")), 1, "is truncated"),
    "edited": (lambda folder: edited(save_tiny(folder / "a.safetensors")), 1, "was altered"),
    "another task": (
        lambda folder: save_tiny(folder / "a.safetensors", task="emitters"),
        1,
        "is a model for 'emitters'",
    ),
    "text": (lambda folder: written(folder / "a.safetensors", b"hello"), 1, "is not a safetensors file"),
    "empty": (lambda folder: written(folder / "a.safetensors", b""), 1, "is empty"),
    "torch archive": (lambda folder: pickled(folder / "a.pt"), 1, "can run code"),
    "lightning": (lambda folder: pickled(folder / "a.ckpt"), 1, "can run code"),
    "renamed pickle": (lambda folder: pickled(folder / "a.safetensors"), 1, "nothing is unpickled"),
    "plain pickle": (lambda folder: written(folder / "a.pkl", pickle.dumps([1])), 1, "can run code"),
    "no run": (lambda folder: folder, 2, "no best.safetensors"),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_checkpoints(tmp_path: Path, kind: str, command: str) -> None:
    make, code, said = CHECKPOINTS[kind]
    (tmp_path / "models").mkdir()
    path = make(tmp_path / "models")
    out = tmp_path / "out"
    if command == "sample":
        result = run("sample", "--mode", "unconditional", "--checkpoint", path, "--output-dir", out, "--gif")
    else:
        data = save_midi(tmp_path / "0.mid")
        result = run("evaluate", "likelihood", path, data, "--surprise-map", out)
    assert_refused(result, code, said, path.name)
    assert not list(out.glob("*"))


MIDI: dict[str, tuple[Callable[[Path], Path], int, str]] = {
    "missing": (lambda folder: folder / "none.mid", 2, "none.mid"),
    "truncated": (lambda folder: truncated(save_midi(folder / "a.mid")), 1, "a.mid"),
    "text": (lambda folder: written(folder / "a.mid", b"not music at all"), 1, "a.mid"),
    "empty": (lambda folder: written(folder / "a.mid", b""), 1, "a.mid"),
    "no notes": (lambda folder: midi_without_notes(folder / "a.mid"), 1, "no notes"),
}


@pytest.mark.parametrize("kind", MIDI)
def test_midi(tmp_path: Path, kind: str) -> None:
    make, code, said = MIDI[kind]
    assert_refused(run("inspect", make(tmp_path)), code, said)


@pytest.mark.parametrize("kind", [kind for kind in MIDI if kind != "missing"])
def test_a_corpus_of_bad_midi_only(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "midi").mkdir()
    MIDI[kind][0](tmp_path / "midi")
    model = save_tiny(tmp_path / "a.safetensors")
    result = run("evaluate", "likelihood", model, tmp_path / "midi", "--json")
    assert_refused(result, 1, tmp_path / "midi", "a.mid")


OBJECTS = np.array([{"a": 1}], dtype=object)
FRAMES: dict[str, tuple[Callable[[Path], Path], int, str]] = {
    "missing": (lambda folder: folder / "none.npz", 2, "none.npz"),
    "objects": (lambda folder: npz(folder / "a.npz", frames=OBJECTS), 1, "a.npz"),
    "no frames": (lambda folder: npz(folder / "a.npz", other=np.zeros(3)), 1, "frames"),
    "floats": (lambda folder: npz(folder / "a.npz", frames=np.zeros((2, 128, 4))), 1, "uint8"),
    "text": (lambda folder: written(folder / "a.npz", b"hello"), 1, "a.npz"),
    "truncated": (lambda folder: truncated(npz(folder / "a.npz", frames=np.zeros((2, 128, 4), np.uint8))), 1, "a.npz"),
}


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("command", ["inspect", "gif"])
def test_frames(tmp_path: Path, kind: str, command: str) -> None:
    make, code, said = FRAMES[kind]
    path = make(tmp_path)
    there = set(tmp_path.iterdir())
    assert_refused(run(command, path), code, said)
    assert set(tmp_path.iterdir()) == there


@pytest.mark.parametrize("kind", ["objects", "text", "truncated"])
def test_benchmark_arrays(tmp_path: Path, kind: str) -> None:
    path = FRAMES[kind][0](tmp_path)
    from cli_support import tiny_config

    from varcli.pianoroll.model.fractal import FractalModel

    model = save_tiny(tmp_path / "m.safetensors", FractalModel(tiny_config(binary=True)))
    assert_refused(run("evaluate", "likelihood", model, path), 1, path)


def test_configs(tmp_path: Path) -> None:
    config = tmp_path / "a.toml"
    config.write_text("[model]\nlevles = 3\n")
    assert_refused(run("train", config, "--dry-run"), 2, config, "unknown key model.levles", "model.levels?")
    config.write_bytes(b"\xff\xfe broken")
    assert_refused(run("train", config, "--dry-run"), 2, config, "not TOML")
    assert_refused(run("inspect", config), 2, config)
    assert_refused(run("train", tmp_path / "none.toml", "--dry-run"), 2, "none.toml")
