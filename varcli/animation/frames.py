"""A recording of a generator at work, and frames.npz, the file that keeps it.

The file holds `frames` u8 [n, H, W] (row 0 = pitch 0 or image row 0; 0 empty, 1..255 velocity or intensity), `labels`
str [n], `level`, `iteration`, `batch` i32 [n] (level -1: the initial state), `seconds` f64 [n] and `meta`, a JSON
object (see FramesMeta). Of a file from elsewhere only `frames` is required: without `meta` it is drawn as a roll, row 0
at the bottom, if it has 128 rows, and as an image, row 0 at the top, if it has any other number. Where some cells were
known before the others were written, `kept` bool [H, W] says which.
"""

import json
import zipfile
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from varcli.errors import UsageError, VarError
from varcli.files import atomic_write

INIT_LEVEL = -1
ROLL_ROWS = 128
HINT = "give a frames.npz as `var sample --save-frames` writes it"

# What zipfile, zlib and numpy raise for bytes that they cannot make arrays of.
DAMAGED = (ValueError, OSError, EOFError, KeyError, RuntimeError, TokenError, zipfile.BadZipFile, zlib.error)

Bounds = tuple[int, int, int, int]  # row0, row1, column0, column1, half-open


class FramesMeta(BaseModel):
    """What the numbers of a recording mean: the JSON object `meta` of frames.npz. Unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["roll", "image"] = Field(default="roll", description="A roll is drawn with pitch 0 at the bottom.")
    title: str = Field(default="", description="What was recorded.")
    steps_per_beat: int = Field(default=4, ge=1, description="Steps of a roll in a quarter note.")
    steps_per_bar: int = Field(
        default=16, ge=1, description="Steps of a roll in a bar, where downbeats does not say otherwise."
    )
    downbeats: tuple[int, ...] | None = Field(default=None, description="Steps of a roll where bars start.")
    onsets: bool = Field(default=False, description="The lowest bit of a value says that a note begins in the cell.")
    progress: tuple[float, ...] = Field(default=(), description="Done fraction 0..1 of every frame.")
    bounds: tuple[tuple[Bounds, ...], ...] = Field(
        default=(), description="Patches that the step of every frame wrote."
    )
    fresh: tuple[tuple[Bounds, ...], ...] = Field(
        default=(), description="Other patches written since the frame before."
    )


@dataclass(frozen=True)
class Recording:
    """Frames u8 [n, H, W] in the order of generation, and per frame its label, level, iteration, batch and seconds.

    `kept` bool [H, W] are the cells that were known before, if any were.
    """

    frames: np.ndarray
    labels: tuple[str, ...]
    level: np.ndarray
    iteration: np.ndarray
    batch: np.ndarray
    seconds: np.ndarray
    meta: FramesMeta
    kept: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def progress(self) -> np.ndarray:
        """Done fraction 0..1 of every frame, f64 [n], growing to 1."""
        if self.meta.progress:
            return np.array(self.meta.progress)
        return np.linspace(0, 1, len(self)) if len(self) > 1 else np.ones(1)


def save_frames(path: Path | str, recording: Recording) -> None:
    """Write a recording as frames.npz, whole or not at all; equal recordings give equal bytes. Raises VarError."""
    optional: dict[str, Any] = {} if recording.kept is None else {"kept": recording.kept}
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            frames=recording.frames,
            labels=np.array(recording.labels, dtype=np.str_),
            level=recording.level.astype(np.int32),
            iteration=recording.iteration.astype(np.int32),
            batch=recording.batch.astype(np.int32),
            seconds=recording.seconds.astype(np.float64),
            meta=np.array(json.dumps(recording.meta.model_dump(mode="json"), sort_keys=True)),
            **optional,
        )


def load_frames(path: Path | str) -> Recording:
    """Read frames.npz; nothing in it is unpickled.

    Raises UsageError where there is no such file, VarError for what is no frames.npz or does not fit together.
    """
    path = Path(path)
    arrays = _read_arrays(path)
    frames = arrays.get("frames")
    if frames is None:
        raise VarError(f"{path} holds no array `frames`", HINT)
    if frames.dtype != np.uint8 or frames.ndim != 3:
        shape = "x".join(map(str, frames.shape)) or "scalar"
        raise VarError(f"{path}: `frames` is {frames.dtype} {shape}, not uint8 [n, height, width]", HINT)
    if 0 in frames.shape:
        raise VarError(f"{path}: `frames` is empty, {'x'.join(map(str, frames.shape))}", HINT)
    count = len(frames)
    labels = _column(
        path, arrays, "labels", count, "U", np.array([f"Frame {number + 1}/{count}" for number in range(count)])
    )
    zeros = np.zeros(count, np.int32)
    level, iteration, batch = (
        _column(path, arrays, name, count, "iu", zeros).astype(np.int32) for name in ("level", "iteration", "batch")
    )
    seconds = _column(path, arrays, "seconds", count, "fiu", zeros).astype(np.float64)
    meta = _read_meta(path, arrays.get("meta"), frames.shape)
    kept = _read_kept(path, arrays.get("kept"), frames.shape[1:])
    return Recording(frames, tuple(map(str, labels)), level, iteration, batch, seconds, meta, kept)


def _read_kept(path: Path, array: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
    if array is None:
        return None
    if array.dtype.kind not in "bu" or array.shape != shape:
        size = "x".join(map(str, array.shape)) or "scalar"
        raise VarError(f"{path}: `kept` is {array.dtype} {size}, not one truth value a cell", HINT)
    return array.astype(bool)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        raise UsageError(f"{path} does not exist", HINT)
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not a frames.npz", HINT)
    known = ("frames", "labels", "level", "iteration", "batch", "seconds", "meta", "kept")
    try:
        if not zipfile.is_zipfile(path):
            raise VarError(f"{path} is not an npz file, or is cut short", HINT)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in known if name in archive.files}
            if all(isinstance(array, np.ndarray) for array in arrays.values()):
                return arrays
            raise ValueError("an entry is no array")
    except PermissionError:
        raise VarError(f"{path} may not be read", "change its permissions") from None
    except DAMAGED as error:
        what = "holds Python objects, which are never read" if "allow_pickle" in str(error) else "is damaged"
        raise VarError(f"{path} {what}", HINT) from None
    except MemoryError:
        raise VarError(f"{path} says it holds more than fits in memory", HINT) from None


def _column(
    path: Path, arrays: dict[str, np.ndarray], name: str, count: int, kinds: str, default: np.ndarray
) -> np.ndarray:
    column = arrays.get(name, default)
    if column.dtype.kind not in kinds or column.ndim != 1:
        raise VarError(f"{path}: `{name}` is {column.dtype} with {column.ndim} axes, not one value a frame", HINT)
    if len(column) != count:
        raise VarError(f"{path}: `{name}` has {len(column)} values for {count} frames", HINT)
    return column


def _read_meta(path: Path, array: np.ndarray | None, shape: tuple[int, ...]) -> FramesMeta:
    count, rows, columns = shape
    plain = FramesMeta(kind="roll" if rows == ROLL_ROWS else "image")
    if array is None:
        return plain
    if array.dtype.kind != "U" or array.ndim != 0:
        raise VarError(f"{path}: `meta` is not a JSON text", HINT)
    try:
        given: Any = json.loads(array.item())
        if not isinstance(given, dict):
            raise ValueError("it is no object")
        meta = FramesMeta.model_validate({"kind": plain.kind, **given})
    except (ValidationError, ValueError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else "it is not a JSON object"
        raise VarError(f"{path}: `meta` cannot be used: {reason}", HINT) from None
    for name in ("progress", "bounds", "fresh"):
        if len(getattr(meta, name)) not in (0, count):
            raise VarError(f"{path}: `meta` holds {len(getattr(meta, name))} {name} for {count} frames", HINT)
    if not np.all(np.diff([0, *meta.progress, 1]) >= 0):
        raise VarError(f"{path}: `meta` holds progress that does not grow from 0 to 1", HINT)
    for row0, row1, column0, column1 in (patch for part in (*meta.bounds, *meta.fresh) for patch in part):
        if not (0 <= row0 < row1 <= rows and 0 <= column0 < column1 <= columns):
            raise VarError(f"{path}: `meta` holds bounds outside the frames", HINT)
    return meta


def select_frames(recording: Recording, *, every: int = 1, levels: Collection[int] | None = None) -> Recording:
    """Every `every`-th frame of the given levels (all by default); the initial and the final state always stay.

    Patches written in frames that are left out count as fresh in the next one. Raises UsageError for a level that the
    recording does not hold, or `every` below 1.
    """
    if every < 1:
        raise UsageError(f"every {every}th frame cannot be kept", "--every takes 1 or more")
    held = {int(level) for level in recording.level} - {INIT_LEVEL}
    unknown = sorted(set(levels or ()) - held)
    if unknown:
        there = ", ".join(map(str, sorted(held))) or "none"
        raise UsageError(f"level {unknown[0]} is not in the recording", f"it holds levels: {there}")
    wanted = held if levels is None else set(levels)
    passing = [i for i, level in enumerate(recording.level) if int(level) == INIT_LEVEL or int(level) in wanted]
    kept = passing[::every]
    last = len(recording) - 1
    return take_frames(recording, kept if kept and kept[-1] == last else [*kept, last])


def take_frames(recording: Recording, kept: Sequence[int]) -> Recording:
    """The frames with the indices `kept`, in growing order; see select_frames."""
    meta, chosen = recording.meta, list(kept)
    changes: dict[str, Any] = {}
    if meta.progress:
        changes["progress"] = tuple(meta.progress[i] for i in chosen)
    if meta.bounds:
        others = meta.fresh or ((),) * len(recording)
        changes["bounds"] = tuple(meta.bounds[i] for i in chosen)
        changes["fresh"] = tuple(
            tuple(p for i in range(before + 1, now) for p in (*others[i], *meta.bounds[i])) + others[now]
            for before, now in zip([-1, *chosen], chosen, strict=False)
        )
    return Recording(
        recording.frames[chosen],
        tuple(recording.labels[i] for i in chosen),
        recording.level[chosen],
        recording.iteration[chosen],
        recording.batch[chosen],
        recording.seconds[chosen],
        meta.model_copy(update=changes),
        recording.kept,
    )
