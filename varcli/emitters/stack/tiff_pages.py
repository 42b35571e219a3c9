"""The pages of a TIFF file, read once from end to end: where each lies, and where the file stops making sense.

Source: TIFF 6.0 (Adobe, 1992) and BigTIFF. Only what a stack of grey frames needs is read here, a few bytes per page,
so that a file of a million pages opens in seconds and in constant memory; anything else is left to tifffile.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from varcli.errors import VarError

# Tags of a page (TIFF 6.0, section 8) and the bytes of each type of value.
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _OFFSETS, _SAMPLES = 256, 257, 258, 259, 273, 277
_COUNTS, _PREDICTOR, _TILE_WIDTH, _SAMPLE_FORMAT = 279, 317, 322, 339
_SHAPING = (_WIDTH, _HEIGHT, _BITS, _SAMPLES, _SAMPLE_FORMAT)
_NOT_PLAIN = (_PREDICTOR, _TILE_WIDTH)
_VALUE = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_KINDS = {1: "u", 2: "i", 3: "f"}
_READ_BYTES = 640  # one reading is enough for the directory of nearly every page


@dataclass(frozen=True)
class TiffPages:
    """All pages of one file that share a shape and a type.

    `directory` [n] is where each page is described; `data` [n] where its numbers begin, -1 where they are compressed or
    in pieces. `whole` is the number of pages, from the first, that the file holds entirely; `broken` says that it does
    not hold all that it announces, `next_directory` where the description of the next page should have been.
    """

    path: Path
    height: int
    width: int
    dtype: np.dtype
    samples: int
    directory: np.ndarray
    data: np.ndarray
    whole: int
    broken: bool
    next_directory: int = 0

    @property
    def page_bytes(self) -> int:
        """Bytes of a page that is not compressed."""
        return self.height * self.width * self.samples * self.dtype.itemsize


@dataclass(frozen=True)
class _Reader:
    """How numbers stand in this file: byte order, and 4 or 8 bytes per offset."""

    order: str
    big: bool

    @property
    def entry(self) -> struct.Struct:
        return struct.Struct(self.order + ("HHQ8s" if self.big else "HHI4s"))

    @property
    def count(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.big else "H"))

    @property
    def offset(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.big else "I"))


def scan_pages(path: Path) -> TiffPages:
    """Read the chain of pages of a TIFF or BigTIFF file.

    Raises VarError where it is no TIFF, has no pages, or pages of more than one shape or type of numbers.
    """
    try:
        with path.open("rb", buffering=0) as file:
            return _scan(path, file.fileno())
    except OSError as error:
        raise VarError(f"{path}: cannot be read: {error.strerror or error}") from None


def _scan(path: Path, handle: int) -> TiffPages:
    size = os.fstat(handle).st_size
    reader, first = _begin(path, os.pread(handle, 16, 0))
    directory: list[int] = []
    data: list[int] = []
    shape: tuple[int, ...] | None = None
    entry = reader.entry
    broken, missing = False, 0
    for offset, raw in _directories(handle, first, size, reader):
        if raw is None:
            broken, missing = True, offset
            break
        found = {tag: (kind, count, value) for tag, kind, count, value in entry.iter_unpack(raw)}
        here = tuple(_number(reader, found[tag]) if tag in found else 1 for tag in _SHAPING)
        if shape is None:
            shape = here
        elif here != shape:
            sizes = " and ".join(f"{width}x{height}, {bits} bit" for width, height, bits, *_ in (shape, here))
            raise VarError(
                f"{path}: page {len(directory) + 1} differs from the first: {sizes}",
                "a stack needs frames of one size and type: save them as a stack of their own",
            )
        directory.append(offset)
        data.append(_plain_data(reader, found, shape))
    if shape is None:
        what = "truncated within its first page" if broken else "a TIFF without pages"
        raise VarError(f"{path}: {what}", "copy the file again")
    width, height, bits, samples, kind = shape
    dtype = _dtype(path, bits, kind, reader.order)
    starts = np.array(data, np.int64)
    past = (starts >= 0) & (starts + height * width * samples * dtype.itemsize > size)
    whole = int(np.argmax(past)) if past.any() else len(starts)
    broken = broken or bool(past.any())
    described = np.array(directory, np.int64)
    return TiffPages(path, height, width, dtype, samples, described, starts, whole, broken, missing)


def _begin(path: Path, head: bytes) -> tuple[_Reader, int]:
    """How the file writes numbers, and where its first page is described."""
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    version = struct.unpack(order + "H", head[2:4])[0] if order and len(head) >= 8 else 0
    if order is None or version not in (42, 43) or (version == 43 and len(head) < 16):
        raise VarError(f"{path}: not a TIFF file", "export the stack as TIFF, OME-TIFF or BigTIFF")
    if version == 42:
        return _Reader(order, False), struct.unpack(order + "I", head[4:8])[0]
    return _Reader(order, True), struct.unpack(order + "Q", head[8:16])[0]


def _directories(handle: int, offset: int, size: int, reader: _Reader) -> Iterator[tuple[int, bytes | None]]:
    """Each page's offset and its entries; None for entries, and the end, where the chain leaves the file."""
    seen: set[int] = set()
    entry, count_of, offset_of = reader.entry.size, reader.count, reader.offset
    while offset:
        raw = os.pread(handle, _READ_BYTES, offset) if offset < size and offset not in seen else b""
        seen.add(offset)
        count = count_of.unpack_from(raw)[0] if len(raw) >= count_of.size else 0
        end = count_of.size + count * entry
        if 0 < count <= 65_535 and end + offset_of.size > len(raw):
            raw = os.pread(handle, end + offset_of.size, offset)
        if not 0 < count <= 65_535 or end + offset_of.size > len(raw):
            yield offset, None
            return
        yield offset, raw[count_of.size : end]
        offset = offset_of.unpack_from(raw, end)[0]


def _number(reader: _Reader, entry: tuple[int, int, bytes]) -> int:
    """The first value of an entry, 1 where it is not a whole number or stands elsewhere in the file."""
    kind, count, raw = entry
    letter = _VALUE.get(kind)
    if letter is None:
        return 1
    packed = struct.Struct(reader.order + letter)
    # More values than fit here stand elsewhere; only the bits of RGB pages do so, and those are told by their samples.
    return packed.unpack_from(raw)[0] if packed.size * count <= len(raw) else 8


def _plain_data(reader: _Reader, found: dict[int, tuple[int, int, bytes]], shape: tuple[int, ...]) -> int:
    """Where the numbers of a page begin if they lie there in one piece as they are, else -1."""
    width, height, bits, samples, _ = shape
    one_piece = _OFFSETS in found and found[_OFFSETS][1] == 1
    packed = _COMPRESSION in found and _number(reader, found[_COMPRESSION]) != 1
    if not one_piece or packed or any(tag in found and _number(reader, found[tag]) != 1 for tag in _NOT_PLAIN):
        return -1
    expected = height * width * samples * (bits // 8)
    if _COUNTS in found and _number(reader, found[_COUNTS]) < expected:
        return -1
    return _number(reader, found[_OFFSETS])


def _dtype(path: Path, bits: int, kind: int, order: str) -> np.dtype:
    letter = _KINDS.get(kind)
    if letter is None or bits not in (8, 16, 32, 64) or (letter == "f" and bits < 32) or (letter != "f" and bits > 32):
        what = {5: "complex", 6: "complex"}.get(kind, f"{bits}-bit")
        raise VarError(f"{path}: {what} pixels are not read", "save the stack as 8-bit, 16-bit or 32-bit grey")
    return np.dtype(f"{order}{letter}{bits // 8}")
