"""Camera stacks: frames of one or several TIFF files, read a few at a time, whatever their size.

Legend: n frames, Y X camera pixels.
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from varcli.emitters.stack.tiff_layout import quiet_tifffile
from varcli.emitters.stack.tiff_series import Part, Series, open_series
from varcli.errors import VarError


class TruncatedStack(VarError):
    """A stack whose file ends too early; `frames` can be read before it does."""

    def __init__(self, path: Path, page: int, frames: int) -> None:
        super().__init__(f"{path}: truncated: page {page} is not whole", f"{frames} frames before it can be read")
        self.frames = frames


@dataclass(frozen=True)
class Stack:
    """Frames of equal size and type, in order, as the camera's numbers (ADU).

    `frames` is how many can be read; where a file ends too early, `truncated` is the reason. `metadata` holds "kind",
    and where the files give them "pixel_size_nm" with "pixel_size_from", "significant_bits", and "camera_hints" by
    their own names. `assumed` are sentences about what had to be taken for granted to tell frames apart.
    """

    paths: tuple[Path, ...]
    frames: int
    height: int
    width: int
    dtype: np.dtype
    metadata: dict[str, Any]
    assumed: tuple[str, ...] = ()
    truncated: TruncatedStack | None = None
    _parts: tuple[Part, ...] = field(default=(), repr=False)

    @classmethod
    def open(cls, paths: Sequence[Path], channel: int | None = None) -> Self:
        """The frames of `paths`, one after the other; files of one OME-TIFF series count once.

        `channel` (from 0) chooses where there are several. Raises UsageError for a missing file or channel, VarError
        for what is no stack of grey frames; a truncated file is no error here unless it holds no frame at all.
        """
        assert paths
        opened = _distinct([open_series(Path(path), channel) for path in paths])
        first = opened[0]
        for other in opened[1:]:
            if (other.height, other.width, other.dtype.name) != (first.height, first.width, first.dtype.name):
                sizes = " and ".join(f"{at.width}x{at.height} {at.dtype.name}" for at in (first, other))
                raise VarError(f"{other.path}: differs from {first.path}: {sizes}", "give files of one camera setting")
        parts: list[Part] = []
        truncated = None
        for file in opened:
            parts += file.parts
            if file.truncated_at is not None:
                # What comes after a gap is no longer at its place in time.
                truncated = TruncatedStack(file.path, file.truncated_at + 1, sum(map(len, parts)))
                break
        frames = sum(map(len, parts))
        if not frames:
            raise truncated or VarError(f"{first.path}: no frames")
        return cls(
            tuple(Path(path) for path in paths),
            frames,
            first.height,
            first.width,
            first.dtype.newbyteorder("="),
            first.metadata,
            tuple(f"{file.path.name}: {sentence}" for file in opened for sentence in file.assumed),
            truncated,
            tuple(parts),
        )

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames `start` to `stop` - 1 as [n, Y, X] in the stack's type; needs no memory beyond them.

        Raises VarError, naming the frame, where numbers are negative or not finite or a page cannot be decoded, and
        TruncatedStack beyond the last frame of a truncated stack.
        """
        if stop > self.frames and self.truncated is not None:
            raise self.truncated
        assert 0 <= start <= stop <= self.frames
        try:
            frames = np.empty((stop - start, self.height, self.width), self.dtype)
        except MemoryError:
            hint = "read fewer at a time with --batch-size"
            raise VarError(f"{stop - start} frames of {self.width}x{self.height} do not fit in memory", hint) from None
        before = 0
        for part in self._parts:
            first, last = max(start, before), min(stop, before + len(part))
            if first < last:
                rows = frames[first - start : last - start]
                _fill(rows, part, first - before, last - before)
                refuse_impossible(rows, first, part.path)
            before += len(part)
        return frames

    def fingerprint(self) -> str:
        """A digest that changes when a file, its time or the choice of frames does."""
        digest = hashlib.sha256(repr((self.frames, self.height, self.width, self.dtype.str)).encode())
        for path in sorted({part.path for part in self._parts}):
            status = path.stat()
            digest.update(repr((path.name, status.st_size, status.st_mtime_ns)).encode())
        for part in self._parts:
            digest.update(part.directory.tobytes() + part.data.tobytes())
        return digest.hexdigest()


def _fill(frames: np.ndarray, part: Part, start: int, stop: int) -> None:
    """Put frames `start` to `stop` - 1 of a part into `frames`."""
    data = part.data[start:stop]
    try:
        if (data >= 0).all():
            _fill_plain(frames, part, data)
        else:
            _fill_decoded(frames, part, start)
    except OSError as error:
        raise VarError(f"{part.path}: cannot be read: {error.strerror or error}") from None


def _fill_plain(frames: np.ndarray, part: Part, data: np.ndarray) -> None:
    """Read runs of frames that follow each other in the file in one go."""
    size = frames[0].nbytes
    breaks = np.flatnonzero(np.diff(data) != size) + 1
    with part.path.open("rb", buffering=0) as file:
        for run in np.split(np.arange(len(data)), breaks):
            rows = frames[run[0] : run[-1] + 1]
            file.seek(int(data[run[0]]))
            _read_into(file, rows, part.path)
    if not part.dtype.isnative:
        frames.byteswap(inplace=True)


def _fill_decoded(frames: np.ndarray, part: Part, start: int) -> None:
    import tifffile

    with quiet_tifffile(), tifffile.TiffFile(part.path) as tif:
        for row in range(len(frames)):
            tif.filehandle.seek(int(part.directory[start + row]))
            page = tifffile.TiffPage(tif, index=start + row)
            try:
                frames[row] = page.asarray()
            except (ValueError, RuntimeError, ImportError, EOFError, TypeError) as error:
                what = str(error).splitlines()[0] if str(error) else type(error).__name__
                hint = "pip install imagecodecs, or save it without compression"
                raise VarError(f"{part.path}: page {start + row + 1} cannot be decoded: {what}", hint) from None


def _read_into(file: io.FileIO, rows: np.ndarray, path: Path) -> None:
    """Fill `rows` with the next bytes of a file; one call may bring less than it was asked for."""
    left = rows.reshape(-1).view(np.uint8).data
    while left:
        count = file.readinto(left)
        if not count:
            raise VarError(f"{path}: became shorter while it was read", "wait until it is written, then start again")
        left = left[count:]


def refuse_impossible(frames: np.ndarray, start: int, source: Path | str) -> None:
    """A camera counts: numbers below zero or not finite are none of its own; raises VarError, naming the frame."""
    if frames.dtype.kind == "u" or not frames.size:
        return
    # The smallest shows both: NaN wins over every number.
    smallest, largest = frames.min(axis=(1, 2)), frames.max(axis=(1, 2))
    bad = ~(np.isfinite(smallest) & np.isfinite(largest) & (smallest >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        value = smallest[row] if not (np.isfinite(smallest[row]) and smallest[row] >= 0) else largest[row]
        what = "a negative number" if value < 0 and np.isfinite(value) else "a number that is not finite"
        hint = "a stack holds the camera's own numbers: export it without subtracting or normalising"
        raise VarError(f"{source}: frame {start + row} holds {what} ({value:g})", hint)


def _distinct(series: Sequence[Series]) -> list[Series]:
    """Every series once, however many of its files were named, in the order of the first of them."""
    kept: list[Series] = []
    for one in series:
        files = {file.resolve() for file in one.files}
        # A later file of a series may not know the others: the longer list counts.
        longer = any(files <= {file.resolve() for file in other.files} for other in kept)
        longer = longer or any(files < {file.resolve() for file in other.files} for other in series)
        if not longer:
            kept.append(one)
    return kept


@dataclass
class StackHealth:
    """What was found in the frames seen so far; its fields are plain numbers, so that a stopped run can keep them."""

    limit: int | None
    frames: int = 0
    saturated: int = 0
    first_saturated: int = -1
    constant: int = 0
    first_constant: int = -1

    @classmethod
    def of(cls, stack: Stack) -> Self:
        """No frame seen yet; the camera's limit is that of its bits where the file gives them, else of its type."""
        if stack.dtype.kind == "f":
            return cls(None)
        bits = stack.metadata.get("significant_bits") or stack.dtype.itemsize * 8 - (stack.dtype.kind == "i")
        return cls(2 ** int(bits) - 1)

    def add(self, start: int, frames: np.ndarray) -> None:
        """Count frames [n, Y, X] of which the first is number `start`."""
        largest, smallest = frames.max(axis=(1, 2)), frames.min(axis=(1, 2))
        constant = largest == smallest
        saturated = largest >= self.limit if self.limit is not None else np.zeros(len(frames), bool)
        self.frames += len(frames)
        self.saturated, self.first_saturated = _count(saturated, start, self.saturated, self.first_saturated)
        self.constant, self.first_constant = _count(constant, start, self.constant, self.first_constant)

    def warnings(self) -> list[str]:
        """One sentence per kind of trouble."""
        found = []
        if self.saturated:
            found.append(
                f"{self.saturated} of {self.frames} frames have pixels at the limit of {self.limit}, "
                f"first frame {self.first_saturated}: photons there are too few"
            )
        if self.constant:
            found.append(
                f"{self.constant} of {self.frames} frames hold one number throughout, first frame {self.first_constant}"
            )
        return found


def _count(found: np.ndarray, start: int, before: int, first: int) -> tuple[int, int]:
    if first < 0 and found.any():
        first = start + int(np.argmax(found))
    return before + int(found.sum()), first
