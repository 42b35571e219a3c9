"""A stack that is an array in memory, or a lazy one that reads or computes frames when it is sliced.

Legend: n frames, Y X camera pixels.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np

from varcli.emitters.stack.stack import Stack, refuse_impossible
from varcli.errors import UsageError

_FRAMES_OF_LAZY = 60  # whose numbers are the fingerprint of an array that is not in memory


class Frames(Protocol):
    """What a stack can be made of: NumPy and memory-mapped arrays, those of dask, zarr and h5py, ..."""

    @property
    def shape(self) -> Any:
        """Frames, rows, columns; or rows and columns of a single frame."""
        ...

    @property
    def dtype(self) -> Any:
        """The type of its numbers."""
        ...

    def __getitem__(self, frames: Any, /) -> Any:
        """Some frames, as what `numpy.asarray` takes."""
        ...


@dataclass(frozen=True)
class ArrayStack(Stack):
    """Frames of an array, read a few at a time by slices of its first axis."""

    frames_nYX: Frames = field(default_factory=lambda: np.empty((0, 0, 0)), repr=False)

    @classmethod
    def of(cls, array: Frames) -> Self:
        """The stack of an array [n, Y, X] or [Y, X]; raises UsageError for one that is none."""
        shape, dtype = tuple(map(int, array.shape)), np.dtype(array.dtype)
        if len(shape) == 2:
            array, shape = np.asarray(array)[None], (1, *shape)
        if len(shape) != 3 or not all(shape):
            raise UsageError(f"an array of shape {shape} is no stack", "give one of frames, rows and columns")
        if dtype.kind not in "uif":
            raise UsageError(f"a stack of {dtype.name} is none", "give whole or floating-point numbers of the camera")
        return cls((), *shape, dtype.newbyteorder("="), {"kind": "array"}, frames_nYX=array)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames `start` to `stop` - 1 [n, Y, X]; raises VarError where numbers are negative or not finite."""
        assert 0 <= start <= stop <= self.frames
        frames = np.asarray(self.frames_nYX[start:stop], self.dtype)
        refuse_impossible(frames, start, "the array")
        return frames

    def fingerprint(self) -> str:
        """A digest of the numbers: of all that are in memory, else of 60 frames from all over the stack."""
        digest = hashlib.sha256(repr((self.frames, self.height, self.width, self.dtype.str)).encode())
        chosen = range(self.frames)
        if not isinstance(self.frames_nYX, np.ndarray):
            chosen = np.unique(np.linspace(0, self.frames - 1, _FRAMES_OF_LAZY).astype(int)).tolist()
        for frame in chosen:
            digest.update(np.ascontiguousarray(self.frames_nYX[frame : frame + 1], self.dtype).data)
        return digest.hexdigest()
