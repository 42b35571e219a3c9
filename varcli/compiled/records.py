"""Records of arrays for compiled functions, which get the address of one instead of all of its arrays.

A named tuple of thirty arrays is some two hundred arguments to LLVM, at every call; that took most of the time of
compiling functions that hand one on. Arrays of a record are contiguous, and stay what they are while it lives.
"""

from functools import cache
from typing import Any, ClassVar

import numpy as np


class Record:
    """Arrays under names: a subclass lists them in `kinds`, each with its dtype and number of dimensions.

    Compiled code reads `record.name`, and so does Python.
    """

    kinds: ClassVar[dict[str, tuple[type, int]]] = {}

    def __init__(self, **arrays: np.ndarray) -> None:
        assert arrays.keys() == self.kinds.keys()
        _register(type(self))
        # Of each array its address, then its lengths; of those with fewer than two dimensions the others are one.
        self._table = np.ones((len(arrays), 3), np.int64)
        for row, (name, (dtype, dimensions)) in zip(self._table, self.kinds.items(), strict=True):
            array = np.ascontiguousarray(arrays[name], dtype)
            assert array.ndim == dimensions
            setattr(self, name, array)
            row[0], row[1 : 1 + dimensions] = array.ctypes.data, array.shape
        self.address = self._table.ctypes.data

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


@cache
def _register(record: type[Record]) -> None:
    """Make a kind of record known to numba, which is slow to import."""
    from varcli.compiled import record_types

    record_types.register(record)
