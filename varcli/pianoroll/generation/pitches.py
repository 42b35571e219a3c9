"""What happens on a canvas of planes, told as it happens on the roll that it stands for."""

from dataclasses import replace

import numpy as np

from varcli.events import Event
from varcli.pianoroll.events import PatchDone
from varcli.pianoroll.planes import Planes

Bounds = tuple[int, int, int, int]


class OnPitches:
    """A sample's canvas u8 [R, T] while it is written, and the roll u8 [P, T] that all of its voices make so far.

    Of two voices on one cell the louder onset is shown. Without voices and a plan both are the same array.
    """

    def __init__(self, planes: Planes, canvas: np.ndarray) -> None:
        self._planes, self._canvas = planes, canvas
        self.roll = self._shown(slice(None)) if planes.rows > planes.pitches else canvas

    def __call__(self, event: Event) -> Event:
        """The same event with bounds and canvas of the roll; in the plan and above a voice there are no bounds."""
        if self.roll is self._canvas or not isinstance(event, PatchDone):
            return event
        bounds = [at for at in map(self._on_roll, event.bounds) if at is not None]
        for _, _, start, stop in bounds:
            self.roll[:, start:stop] = self._shown(slice(start, stop))
        return replace(event, bounds=tuple(bounds), canvas=self.roll)

    def _shown(self, steps: slice) -> np.ndarray:
        return np.max([voice[:, steps] for voice in self._planes.split(self._canvas).values()], 0)

    def _on_roll(self, bounds: Bounds) -> Bounds | None:
        row, end, start, stop = bounds
        voice, low = self._planes.place_of(row)
        if voice is None or low >= self._planes.pitches:
            return None
        return low, min(low + end - row, self._planes.pitches), start, stop
