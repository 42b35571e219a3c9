"""One safetensors file holds the weights, the config that rebuilds the model, and where they came from.

The file's metadata has one key, "varcli": sorted JSON. `digest` covers the tensors and `seal` the JSON itself, so an
edited file is noticed and equal content gives equal bytes. Nothing here unpickles.
"""

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from varcli.errors import UsageError, VarError
from varcli.files import write_bytes
from varcli.version import __version__

if TYPE_CHECKING:
    import torch

KEY = "varcli"
FORMAT = 1
PICKLED = frozenset({".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle", ".joblib", ".npy"})
_LENGTH_BYTES = 8
_LONGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class Header:
    """The description that a checkpoint holds of itself.

    `config` rebuilds the model, `data` names what it was trained on, `steps` counts optimiser steps, `metrics` holds
    finite numbers, `version` is the varcli that wrote it and `digest` the SHA-256 of the tensors.
    """

    task: str
    config: dict[str, Any]
    data: dict[str, Any]
    steps: int
    metrics: dict[str, Any]
    seed: int
    version: str
    digest: str


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies in the file: `start` and `end` are byte offsets from the beginning of the data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Layout:
    """The safetensors header of one file: tensors by name, the metadata, and the offset of the data in bytes."""

    tensors: tuple[TensorEntry, ...]
    metadata: dict[str, str]
    data_start: int


@dataclass(frozen=True)
class Checked:
    """A file whose bytes match its digest: all of them, where the tensors lie, and the JSON fields it carries."""

    blob: bytes
    layout: Layout
    fields: dict[str, Any]


def save_checkpoint(
    path: Path | str,
    tensors: "Mapping[str, torch.Tensor]",
    *,
    task: str,
    config: dict[str, Any],
    data: dict[str, Any],
    steps: int,
    metrics: dict[str, Any],
    seed: int,
) -> Header:
    """Write a checkpoint whole or not at all and return its header.

    Raises VarError when it cannot be written, or when a number in the header is not finite.
    """
    plain = _serialize(tensors, {})
    header = Header(task, config, data, steps, metrics, seed, __version__, _digest(plain, _parse(plain, path)))
    write_bytes(path, _serialize(tensors, _sealed(asdict(header), path)))
    return header


def load_checkpoint(path: Path | str) -> "tuple[Header, dict[str, torch.Tensor]]":
    """Read a checkpoint and its CPU tensors, every byte checked against the digest.

    Raises UsageError when the file is missing, VarError when it is no checkpoint, truncated, edited or newer.
    """
    checked = read_checked(path)
    return header_of(checked.fields, path), _tensors(checked, path)


def read_header(path: Path | str) -> Header:
    """Read the header of a checkpoint, without torch and without its tensors; raises like load_checkpoint."""
    return header_of(_fields(read_layout(path), path), path)


def read_checked(path: Path | str) -> Checked:
    """Read a checkpoint or a state whole, every byte checked against its digest, without torch.

    Raises like load_checkpoint.
    """
    blob = _existing(path).read_bytes()
    layout = _parse(blob, path)
    fields = _fields(layout, path)
    if fields.get("digest") != _digest(blob, layout):
        raise VarError(f"{path} was altered: its tensors do not match its digest", "copy or download it again")
    return Checked(blob, layout, fields)


def save_state(path: Path | str, tensors: "Mapping[str, torch.Tensor]", numbers: dict[str, Any]) -> None:
    """Write what --resume needs beside the weights: tensors, and numbers or text that JSON can hold."""
    plain = _serialize(tensors, {})
    fields = {"state": numbers, "version": __version__, "digest": _digest(plain, _parse(plain, path))}
    write_bytes(path, _serialize(tensors, _sealed(fields, path)))


def load_state(path: Path | str) -> "tuple[dict[str, torch.Tensor], dict[str, Any]]":
    """Read what save_state wrote: CPU tensors and numbers; raises like load_checkpoint."""
    checked = read_checked(path)
    if "state" not in checked.fields:
        raise VarError(f"{path} is a checkpoint, not the training state beside it", "give the *.state.safetensors file")
    return _tensors(checked, path), checked.fields["state"]


def read_layout(path: Path | str) -> Layout:
    """Read the safetensors header of a file: its tensors and metadata; raises like load_checkpoint."""
    path = _existing(path)
    with path.open("rb") as handle:
        start = handle.read(_LENGTH_BYTES)
        length = struct.unpack("<Q", start)[0] if len(start) == _LENGTH_BYTES else 0
        head = handle.read(length) if length <= _LONGEST_HEADER else handle.read(64)
    return _parse(start + head, path, size=path.stat().st_size)


def _existing(path: Path | str) -> Path:
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not a checkpoint", "give the .safetensors file in it")
    if not path.exists():
        raise UsageError(f"no checkpoint at {path}", "`var inspect` lists the models that ship")
    if path.suffix.lower() in PICKLED:
        raise VarError(
            f"{path}: {path.suffix} files can run code when they are read, so they are refused",
            "give a .safetensors file that `var train` wrote",
        )
    return path


def _parse(blob: bytes, path: Path | str, size: int | None = None) -> Layout:
    """Read the header at the start of `blob`; `size` is the whole file's, where `blob` is only its beginning."""
    size = len(blob) if size is None else size
    length = struct.unpack("<Q", blob[:_LENGTH_BYTES])[0] if size >= _LENGTH_BYTES else 0
    head = blob[_LENGTH_BYTES : _LENGTH_BYTES + length] if length <= _LONGEST_HEADER else b""
    if not head.startswith(b"{"):
        pickled = blob.startswith((b"PK", b"\x80"))
        kind = "a pickle or PyTorch archive, and nothing is unpickled" if pickled else "not a safetensors file"
        kind = "empty" if not blob else kind
        raise VarError(f"{path} is {kind}", "give a .safetensors file that `var train` wrote")
    if len(head) < length:
        raise VarError(f"{path} is truncated: it ends inside its header", "copy or download it again")
    try:
        content = json.loads(head)
        metadata = content.pop("__metadata__", {})
        tensors = tuple(
            TensorEntry(name, entry["dtype"], tuple(entry["shape"]), *entry["data_offsets"])
            for name, entry in sorted(content.items())
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise VarError(f"{path} has a damaged safetensors header", "copy or download it again") from None
    data_size = size - _LENGTH_BYTES - length
    expected = max((entry.end for entry in tensors), default=0)
    if data_size < expected:
        raise VarError(f"{path} is truncated: {data_size} of {expected} bytes of tensors", "copy or download it again")
    if data_size > expected:
        raise VarError(
            f"{path} was altered: {data_size - expected} bytes follow its tensors", "copy or download it again"
        )
    return Layout(tensors, metadata, _LENGTH_BYTES + length)


def _pieces(blob: bytes, layout: Layout) -> Iterator[bytes | memoryview]:
    view = memoryview(blob)[layout.data_start :]
    for entry in layout.tensors:
        yield json.dumps([entry.name, entry.dtype, entry.shape]).encode()
        yield view[entry.start : entry.end]


def _digest(blob: bytes, layout: Layout) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of the tensors, in order of name."""
    digest = hashlib.sha256()
    for piece in _pieces(blob, layout):
        digest.update(piece)
    return digest.hexdigest()


def _sealed(fields: dict[str, Any], path: Path | str) -> dict[str, str]:
    fields = {**fields, "format": FORMAT}
    try:
        return {KEY: _canonical({**fields, "seal": hashlib.sha256(_canonical(fields).encode()).hexdigest()})}
    except ValueError as error:
        raise VarError(f"{path} is not written: a number in its header is not finite ({error})") from None


def _canonical(fields: dict[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def _fields(layout: Layout, path: Path | str) -> dict[str, Any]:
    """The JSON under the one metadata key, its seal checked."""
    if KEY not in layout.metadata:
        raise VarError(
            f"{path} is a safetensors file of another program: no {KEY!r} in its metadata",
            "give a file that `var train` wrote",
        )
    try:
        fields = json.loads(layout.metadata[KEY])
        written, seal = fields["format"], fields.pop("seal")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise VarError(f"{path} has a damaged {KEY!r} header", "copy or download it again") from None
    if not isinstance(written, int) or written > FORMAT:
        raise VarError(f"{path} has format {written}; this varcli reads up to {FORMAT}", "update varcli")
    if seal != hashlib.sha256(_canonical(fields).encode()).hexdigest():
        raise VarError(f"{path} was altered: its header does not match its seal", "copy or download it again")
    return fields


def header_of(fields: dict[str, Any], path: Path | str) -> Header:
    """The header in the fields of a checkpoint; raises VarError for a training state or missing fields."""
    if "state" in fields:
        raise VarError(f"{path} is training state for --resume, not a model", "give best.safetensors beside it")
    names = Header.__dataclass_fields__
    missing = sorted(set(names) - set(fields))
    if missing:
        raise VarError(f"{path} has a header without {', '.join(missing)}", "copy or download it again")
    return Header(**{name: fields[name] for name in names})


def _serialize(tensors: "Mapping[str, torch.Tensor]", metadata: dict[str, str]) -> bytes:
    from safetensors.torch import save

    # Tied weights share memory, which the format refuses; a copy of each keeps the file self-contained.
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return save(copies, metadata=metadata or None)


def _tensors(checked: Checked, path: Path | str) -> "dict[str, torch.Tensor]":
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(checked.blob)
    except SafetensorError as error:
        raise VarError(f"{path} has a damaged safetensors header: {error}", "copy or download it again") from None
