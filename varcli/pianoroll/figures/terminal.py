"""A roll in the terminal while a model writes it: two pitches to a line in half blocks, coloured by velocity.

Legend: P pitches, T steps, L half lines, C columns of characters.
"""

from itertools import groupby

import numpy as np

from varcli.colours import make_theme
from varcli.pianoroll.events import PatchDone, SampleDone, SampleStarted
from varcli.pianoroll.roll import Vocabulary, intensity

LEAST_WIDTH, LEAST_HEIGHT = 40, 14
"""Columns and lines of a terminal that is large enough."""
_MARGIN = 4  # columns for the names of octaves
_LINES_BELOW = 7  # of bars, and of what is said under the roll
_KEYS = (21, 109)  # those of a piano; others are shown where they sound


class RollView:
    """What is shown of a roll: that of the sample which is being written, the first of several."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary, self._theme = vocabulary, make_theme()
        self._canvases: dict[int, np.ndarray] = {}
        self._bounds: dict[int, tuple[tuple[int, int, int, int], ...]] = {}
        self._last: np.ndarray | None = None

    def absorb(self, event: object) -> None:
        """Keep what will be shown; cheap, for it is called for every event."""
        if isinstance(event, SampleStarted):
            self._canvases[event.sample] = event.canvas
        elif isinstance(event, PatchDone):
            self._canvases[event.sample] = event.canvas
            if event.level == 0:
                self._bounds[event.sample] = event.bounds
        elif isinstance(event, SampleDone):
            self._last = self._canvases.pop(event.sample, None)
            self._bounds.pop(event.sample, None)

    def lines(self, width: int, height: int) -> list[list[tuple[str, str]]]:
        """The roll in so many columns and lines, each of pieces of text with their styles ("#ffffff on #000000").

        There are none before anything is written, and where there is no room.
        """
        sample = min(self._canvases, default=None)
        canvas = self._last if sample is None else self._canvases[sample]
        if canvas is None or width < LEAST_WIDTH or height < LEAST_HEIGHT:
            return []
        bounds = self._bounds.get(-1 if sample is None else sample, ())
        return self._drawn(canvas, bounds, width - _MARGIN, 2 * (height - _LINES_BELOW))

    def _drawn(
        self, canvas: np.ndarray, bounds: tuple[tuple[int, int, int, int], ...], columns: int, half_lines: int
    ) -> list[list[tuple[str, str]]]:
        sounding = np.flatnonzero(canvas.any(1))
        low, high = min([_KEYS[0], *sounding[:1]]), max([_KEYS[1], *(sounding[-1:] + 1)])
        pitches, steps = -(-(high - low) // half_lines), -(-canvas.shape[1] // columns)
        outlined = np.zeros(canvas.shape, bool)
        for p0, p1, t0, t1 in bounds:
            outlined[p0:p1, t0:t1] = True
        values = _pooled(intensity(canvas, self._vocabulary)[low:high], pitches, steps)[::-1]
        marks = _pooled(outlined[low:high].astype(np.uint8), pitches, steps)[::-1]
        lines = []
        for line in range(0, len(values) - 1, 2):
            # Of the pitches of a line the C, if there is one, names its octave.
            top = low + (len(values) - line) * pitches
            octaves = [pitch // 12 - 1 for pitch in range(top - 2 * pitches, top) if pitch % 12 == 0]
            lines.append([(f"C{octaves[0]}".ljust(_MARGIN) if octaves else " " * _MARGIN, "dim")])
            cells = zip(*values[line : line + 2].tolist(), *marks[line : line + 2].tolist(), strict=True)
            for (upper, lower, *where), run in groupby(cells):
                style = f"{self._colour(upper, where[0])} on {self._colour(lower, where[1])}"
                lines[-1].append(("▀" * len(list(run)), style))
        return lines

    def _colour(self, value: int, mark: int) -> str:
        colour = self._theme.notes[value].tolist() if value else self._theme.mix(0.22 if mark else 0.05)
        return "#{:02x}{:02x}{:02x}".format(*colour)


def _pooled(values_PT: np.ndarray, pitches: int, steps: int) -> np.ndarray:
    """The largest of each so many pitches and steps, u8 [L, C], L even."""
    P, T = values_PT.shape
    rows = -(-P // (2 * pitches)) * 2
    padded = np.pad(values_PT, ((0, rows * pitches - P), (0, -T % steps)))
    return padded.reshape(rows, pitches, -1, steps).max((1, 3))
