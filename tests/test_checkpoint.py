"""Checkpoints: equal content gives equal bytes, every edit is noticed, nothing is unpickled."""

import json
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from varcli.checkpoint import (
    KEY,
    load_checkpoint,
    load_state,
    read_header,
    read_layout,
    save_checkpoint,
    save_state,
)
from varcli.errors import UsageError, VarError

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool)


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = {f"t.{dtype}": torch.randn(3, 2, generator=generator).to(dtype) for dtype in DTYPES}
    return made | {"scalar": torch.tensor(3.5), "empty": torch.zeros(0, 4), "turned": torch.randn(2, 5).T}


def save(path: Path, content: dict[str, torch.Tensor] | None = None, **changed: Any) -> Path:
    header = {
        "task": "pianoroll",
        "config": {"name": "tiny", "model": {"dropout": 0.1}},
        "data": {"files": 3},
        "steps": 12,
        "metrics": {"nats_per_frame": 5.25},
        "seed": 4,
    }
    save_checkpoint(path, tensors() if content is None else content, **(header | changed))
    return path


def rewrite(path: Path, change: Any) -> None:
    """Apply `change` to the parsed safetensors header, as somebody with an editor would."""
    blob = path.read_bytes()
    length = struct.unpack("<Q", blob[:8])[0]
    header = json.loads(blob[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + blob[8 + length :])


def claim(path: Path, **fields: Any) -> None:
    """Change fields of the JSON that a checkpoint says about itself, and nothing else."""

    def change(header: dict[str, Any]) -> None:
        header["__metadata__"][KEY] = json.dumps(json.loads(header["__metadata__"][KEY]) | fields)

    rewrite(path, change)


def test_tensors_and_header_come_back(tmp_path: Path) -> None:
    wanted = tensors()
    header, found = load_checkpoint(save(tmp_path / "a.safetensors", wanted))
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    assert (header.task, header.steps, header.seed) == ("pianoroll", 12, 4)
    assert header.config["model"] == {"dropout": 0.1}
    assert read_header(tmp_path / "a.safetensors") == header


def test_one_metadata_key_with_sorted_json(tmp_path: Path) -> None:
    metadata = read_layout(save(tmp_path / "a.safetensors")).metadata
    assert list(metadata) == [KEY]
    keys = list(json.loads(metadata[KEY]))
    assert keys == sorted(keys)
    assert {"task", "config", "data", "steps", "metrics", "seed", "version", "digest"} <= set(keys)


def test_equal_content_gives_equal_bytes_and_other_content_another_digest(tmp_path: Path) -> None:
    torch.manual_seed(1)
    content = tensors()
    turned = dict(reversed(content.items()))
    one, two = save(tmp_path / "1.safetensors", content), save(tmp_path / "2.safetensors", turned)
    assert one.read_bytes() == two.read_bytes()
    other = save(tmp_path / "3.safetensors", content | {"scalar": torch.tensor(3.6)})
    renamed = {("x" if name == "scalar" else name): tensor for name, tensor in content.items()}
    fourth = save(tmp_path / "4.safetensors", renamed)
    assert len({read_header(path).digest for path in (one, other, fourth)}) == 3


def test_tied_weights_are_kept(tmp_path: Path) -> None:
    shared = torch.ones(4)
    _, found = load_checkpoint(save(tmp_path / "a.safetensors", {"a": shared, "b": shared}))
    assert torch.equal(found["a"], found["b"])


@settings(deadline=None)
@given(cut=st.floats(0, 0.999))
def test_every_truncation_is_refused(tmp_path_factory: pytest.TempPathFactory, cut: float) -> None:
    path = save(tmp_path_factory.mktemp("cut") / "a.safetensors")
    blob = path.read_bytes()
    path.write_bytes(blob[: int(len(blob) * cut)])
    for read in (load_checkpoint, read_header):
        with pytest.raises(VarError) as raised:
            read(path)
        assert str(path) in raised.value.message
        assert raised.value.exit_code == 1


@settings(deadline=None)
@given(where=st.floats(0, 0.9999), bit=st.integers(0, 7))
def test_every_flipped_bit_is_noticed(tmp_path_factory: pytest.TempPathFactory, where: float, bit: int) -> None:
    path = save(tmp_path_factory.mktemp("flip") / "a.safetensors")
    blob = bytearray(path.read_bytes())
    blob[int(len(blob) * where)] ^= 1 << bit
    path.write_bytes(blob)
    with pytest.raises(VarError):
        load_checkpoint(path)


def test_bytes_after_the_tensors_are_noticed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(VarError, match="4 bytes follow"):
        read_header(path)


def test_an_edited_header_is_noticed_without_reading_the_tensors(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors")
    claim(path, steps=1_000_000)
    with pytest.raises(VarError, match="its header does not match its seal"):
        read_header(path)


def test_a_newer_format_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors")
    claim(path, format=99)
    with pytest.raises(VarError, match="format 99") as raised:
        read_header(path)
    assert raised.value.hint == "update varcli"


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".pth", ".bin", ".pkl", ".PT"])
def test_pickles_are_refused_by_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    torch.save({"a": torch.ones(2)}, path)
    with pytest.raises(VarError, match="can run code"):
        load_checkpoint(path)


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was run",))


@pytest.mark.parametrize("content", [pickle.dumps(_Bomb()), b"PK\x03\x04 an archive", b"text, not tensors", b""])
def test_other_content_under_the_right_name_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    for read in (load_checkpoint, read_header):
        with pytest.raises(VarError) as raised:
            read(path)
        assert len(raised.value.message.splitlines()) == 1


def test_a_safetensors_file_of_another_program_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(2)}, path, metadata={"format": "pt"})
    with pytest.raises(VarError, match="another program"):
        load_checkpoint(path)


def test_missing_files_and_folders_are_usage_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(UsageError):
            load_checkpoint(path)


def test_a_number_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(VarError, match="not finite"):
        save(tmp_path / "a.safetensors", metrics={"nats": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_state_comes_back_and_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.state.safetensors"
    numbers = {"step": 7, "best": 1.25, "bits": [1.0, 2.0], "none": None}
    save_state(path, {"m": torch.arange(3)}, numbers)
    found, loaded = load_state(path)
    assert torch.equal(found["m"], torch.arange(3))
    assert loaded == numbers
    with pytest.raises(VarError, match="training state"):
        load_checkpoint(path)
    with pytest.raises(VarError, match="is a checkpoint"):
        load_state(save(tmp_path / "a.safetensors"))


def test_the_header_is_read_without_torch(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors")
    code = f"import sys, varcli.checkpoint as c; c.read_header({str(path)!r}); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
