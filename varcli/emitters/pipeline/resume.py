"""The state of an unfinished run in a folder, so that a killed one goes on where it was, to the same bytes.

call.json says which call the run belongs to; rows.bin holds the emitters found so far; map_N.npy the summed map after N
frames, or map.bin the map of every frame; state.json says how much of them counts. What was written after the last
state.json is cut off when the run goes on.
"""

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from varcli.emitters.pipeline.chunk import ChunkDone
from varcli.emitters.stack.stack import StackHealth
from varcli.emitters.table import EmitterTable
from varcli.errors import UsageError, VarError
from varcli.files import write_text

MapKind = Literal["sum", "frames", "none"]

_COLUMNS = tuple(f.name for f in fields(EmitterTable) if f.name != "meta")
ROW = np.dtype([(name, "<i8" if name == "frame" else "<f8") for name in _COLUMNS])
_ROWS_AT_ONCE = 65_536
_SECONDS_BETWEEN_SAVES = 2.0


@dataclass
class State:
    """How far a run is: frames done, bytes of rows.bin, columns that the rows have, cells by scale, what was seen of
    the frames; `writing` names the outputs that were being written, once every frame is done."""

    frames: int = 0
    rows: int = 0
    columns: list[str] = field(default_factory=list)
    cells: dict[str, list[int]] = field(default_factory=dict)
    health: dict[str, Any] = field(default_factory=dict)
    writing: list[str] = field(default_factory=list)


class Partial:
    """The folder of one run. `state` is what a run begins with: that of the run that was interrupted, or a new one."""

    def __init__(self, folder: Path, call: dict[str, Any], map_kind: MapKind, map_shape: tuple[int, int]) -> None:
        """Raises UsageError where the folder belongs to another call, or another process is at work in it."""
        self.folder, self._map_kind, self._map_shape = folder, map_kind, map_shape
        self.state = self._resume(call) if folder.exists() else self._begin(call)
        self._lock = _locked(folder)
        self._saved = time.monotonic()
        self._rows = self._opened("rows.bin", self.state.rows * ROW.itemsize)
        self._map_file: IO[bytes] | None = None
        self._sum = np.zeros(map_shape)
        if map_kind == "frames":
            self._map_file = self._opened("map.bin", self.state.frames * 4 * map_shape[0] * map_shape[1])
        elif map_kind == "sum" and self.state.frames:
            self._sum = np.load(self._sum_path(self.state.frames), allow_pickle=False)

    def add(self, chunk: ChunkDone) -> None:
        """Keep a chunk; it counts from the next `save` on, which happens by itself every few seconds."""
        packed = np.zeros(len(chunk.table), ROW)
        columns = chunk.table.columns()
        for name in columns:
            packed[name] = getattr(chunk.table, name)
        self._rows.write(packed.tobytes())
        if self._map_kind == "sum" and chunk.counts is not None:
            self._sum += chunk.counts.sum(0, dtype=np.float64)
        elif self._map_file is not None and chunk.counts is not None:
            self._map_file.write(np.ascontiguousarray(chunk.counts, "<f4").tobytes())
        state = self.state
        state.frames += chunk.stop - chunk.start
        state.rows += len(packed)
        state.columns = list(columns)
        for scale, counts in chunk.cells.items():
            before = state.cells.get(str(scale), [0, 0])
            state.cells[str(scale)] = [before[0] + counts[0], before[1] + counts[1]]
        state.health = _joined(state.health, chunk.health)
        if time.monotonic() - self._saved > _SECONDS_BETWEEN_SAVES:
            self.save()

    def save(self) -> None:
        """Make everything added so far count, whatever happens next."""
        for file in (self._rows, self._map_file):
            if file is not None:
                file.flush()
                os.fsync(file.fileno())
        if self._map_kind == "sum":
            path = self._sum_path(self.state.frames)
            np.save(path, self._sum)
        write_text(self.folder / "state.json", json.dumps(asdict(self.state)))
        if self._map_kind == "sum":
            for other in self.folder.glob("map_*.npy"):
                if other != path:
                    other.unlink()
        self._saved = time.monotonic()

    def begin_writing(self, names: Iterable[str]) -> None:
        """Note that every frame is done and the outputs called `names` are being written."""
        self.state.writing = sorted({*self.state.writing, *names})
        self.save()

    def tables(self) -> Iterator[EmitterTable]:
        """All rows so far, in order, a block at a time."""
        self._rows.flush()
        names = self.state.columns
        with (self.folder / "rows.bin").open("rb") as file:
            for start in range(0, self.state.rows, _ROWS_AT_ONCE):
                count = min(_ROWS_AT_ONCE, self.state.rows - start)
                block = np.frombuffer(file.read(count * ROW.itemsize), ROW)
                columns: dict[str, Any] = {name: block[name].copy() for name in names}
                yield EmitterTable(**columns)

    def table(self, meta: dict[str, Any]) -> EmitterTable:
        """All rows so far as one table of this provenance; there is no second copy of them while it is made."""
        columns: dict[str, Any] = {name: np.empty(self.state.rows, ROW[name]) for name in self.state.columns}
        start = 0
        for block in self.tables():
            for name, column in columns.items():
                column[start : start + len(block)] = getattr(block, name)
            start += len(block)
        return EmitterTable(**columns, meta=meta)

    def maps(self) -> Iterator[np.ndarray]:
        """The map of every frame, float32 [rows, columns], in order; of the sum just one."""
        if self._map_file is None:
            yield self._sum.astype(np.float32)
            return
        self._map_file.flush()
        size = 4 * self._map_shape[0] * self._map_shape[1]
        with (self.folder / "map.bin").open("rb") as file:
            for _ in range(self.state.frames):
                yield np.frombuffer(file.read(size), "<f4").reshape(self._map_shape)

    def health(self) -> StackHealth | None:
        """What was seen of all frames so far."""
        return StackHealth(**self.state.health) if self.state.health else None

    def close(self) -> None:
        """Let go of the files; the folder stays."""
        for file in (self._rows, self._map_file, self._lock):
            if file is not None:
                file.close()

    def remove(self) -> None:
        """Remove the folder: the run is finished."""
        self.close()
        shutil.rmtree(self.folder)

    def _begin(self, call: dict[str, Any]) -> State:
        # The folder appears with its call in it, or not at all.
        new = self.folder.with_name(f".{self.folder.name}.{os.getpid()}")
        new.mkdir()
        write_text(new / "call.json", json.dumps(call, indent=2, sort_keys=True))
        os.replace(new, self.folder)
        return State()

    def _resume(self, call: dict[str, Any]) -> State:
        hint = f"the same call again goes on; to start anew, remove {self.folder}"
        try:
            before = json.loads((self.folder / "call.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise UsageError(f"{self.folder} is not the state of an unfinished run", "move it out of the way") from None
        now = json.loads(json.dumps(call))
        if before != now:
            other = sorted(key for key in now.keys() | before.keys() if now.get(key) != before.get(key))
            what = ", ".join(other).replace("_", " ")
            raise UsageError(f"{self.folder} holds an unfinished run of another call: {what} differ", hint)
        path = self.folder / "state.json"
        return State(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else State()

    def _opened(self, name: str, size: int) -> IO[bytes]:
        """A file of the state, cut to the bytes that count, open at its end."""
        path = self.folder / name
        file = path.open("r+b" if path.exists() else "w+b")
        if path.stat().st_size < size:
            file.close()
            raise VarError(f"{path}: shorter than state.json says", f"remove {self.folder} to start anew")
        file.truncate(size)
        file.seek(size)
        return file

    def _sum_path(self, frames: int) -> Path:
        return self.folder / f"map_{frames}.npy"


def _joined(before: dict[str, Any], chunk: StackHealth) -> dict[str, Any]:
    """What was seen of earlier frames and of a chunk together."""
    now = asdict(chunk)
    if not before:
        return now
    joined = {name: before[name] + now[name] for name in ("frames", "saturated", "constant")}
    firsts = {name: before[name] if before[name] >= 0 else now[name] for name in ("first_saturated", "first_constant")}
    return {"limit": before["limit"], **joined, **firsts}


def _locked(folder: Path) -> IO[str] | None:
    """Hold the folder for this process, where the system can; raises UsageError if another one has it."""
    try:
        import fcntl
    except ImportError:
        return None
    file = (folder / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise UsageError(
            f"another process is at work in {folder}", "wait for it, or choose another --output-dir"
        ) from None
    return file
