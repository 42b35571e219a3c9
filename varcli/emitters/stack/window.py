"""A part of a stack."""

from dataclasses import dataclass

import numpy as np

from varcli.emitters.stack.stack import Stack


@dataclass(frozen=True)
class Window:
    """Columns `left` to `right` - 1 and rows `top` to `bottom` - 1 of every frame, `first` to `last` - 1 in time."""

    left: int
    right: int
    top: int
    bottom: int
    first: int
    last: int

    @property
    def frames(self) -> int:
        """How many frames."""
        return self.last - self.first

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    def read(self, stack: Stack, start: int, stop: int) -> np.ndarray:
        """The window of frames `start` to `stop` - 1 of a stack."""
        return stack.read(start, stop)[:, self.top : self.bottom, self.left : self.right]
