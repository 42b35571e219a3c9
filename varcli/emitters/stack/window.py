"""A part of a stack."""

from dataclasses import dataclass

import numpy as np

from varcli.emitters.stack.stack import Stack
from varcli.errors import UsageError

Span = tuple[int | None, int | None]


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


def window_of(stack: Stack, frames: Span | None = None, roi: tuple[Span, Span] | None = None) -> tuple[Window, bool]:
    """The part of a stack that is asked for, and whether it is meant to reach the stack's end.

    Spans are half-open, None stands for the stack's own begin or end; `roi` holds columns, then rows. Raises UsageError
    for what does not lie within the stack.
    """
    columns, rows = roi or ((None, None), (None, None))
    left, right = _within(columns, stack.width, "--roi: columns")
    top, bottom = _within(rows, stack.height, "--roi: rows")
    # A truncated stack was meant to have more frames than can be read.
    first, last = _within(frames or (None, None), stack.frames, "--frames:", beyond=stack.truncated is not None)
    if first >= stack.frames:
        raise stack.truncated or UsageError(f"--frames {first}:{last}: beyond the stack")
    to_end = last > stack.frames or frames is None or frames[1] is None
    return Window(left, right, top, bottom, first, min(last, stack.frames)), to_end


def _within(span: Span, size: int, where: str, *, beyond: bool = False) -> tuple[int, int]:
    first, last = span[0] or 0, size if span[1] is None else span[1]
    if not 0 <= first < last or (last > size and not beyond):
        raise UsageError(f"{where} {first}:{last} are not within 0:{size}", "the end is excluded")
    return first, last
