"""Plots for a page: a canvas with its letters, and axes with round ticks that curves and bars are drawn in."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from varcli.colours import RGB, Font, Theme, blend

BLUE: RGB = (31, 103, 176)
ORANGE: RGB = (214, 93, 20)
_SMOOTH = 4  # curves are drawn this many times larger, then reduced
_PAD, _TITLE_PX, _LEFT_PX, _FOOT_PX = 16, 58, 58, 54  # around the axes in a panel's box
_TICK_GAP = 14  # least free pixels between the labels of two ticks
_TICK_ROW = 40  # pixels of height that a tick of the y axis takes at least
_DASH = (7, 5)

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels
Range = tuple[float, float]


@dataclass(frozen=True)
class Canvas:
    """The picture under work and what is written on it with."""

    image: Image.Image
    draw: ImageDraw.ImageDraw
    theme: Theme
    title: Font
    heading: Font
    text: Font
    small: Font

    def write(self, at: tuple[float, float], text: str, strength: float, font: Font, anchor: str = "ls") -> None:
        """Write a line, `strength` (0..1) of the way to the full ink."""
        self.draw.text(at, text, self.theme.mix(strength), font.face, anchor)

    def panel(self, box: Box, title: str, figure: str = "", under: str = "") -> None:
        """Draw a panel's frame with its title on the left, its figure on the right, and a line under the title."""
        self.draw.rounded_rectangle(box, 6, outline=self.theme.mix(0.2))
        left, right, top = box[0] + _PAD, box[2] - _PAD, box[1]
        self.write((right, top + 26), figure, 0.95, self.heading, "rs")
        room = right - left - self.heading.width(figure) - 12
        self.write((left, top + 26), self.heading.fit(title, room), 0.95, self.heading)
        self.write((left, top + 46), self.small.fit(under, right - left), 0.65, self.small)

    def say(self, box: Box, text: str) -> None:
        """Write words in the middle of a panel, in as many lines as they need."""
        lines = wrapped(text, self.text, box[2] - box[0] - 4 * _PAD)
        middle = ((box[0] + box[2]) / 2, (box[1] + _TITLE_PX + box[3] - _PAD) / 2)
        for number, line in enumerate(lines):
            y = middle[1] + (number - (len(lines) - 1) / 2) * (self.text.line_px + 4)
            self.write((middle[0], y), line, 0.65, self.text, "mm")


@dataclass(frozen=True)
class Axes:
    """The rectangle `plot` of a canvas that shows values of x and of y, y upwards."""

    canvas: Canvas
    plot: Box
    x: Range
    y: Range

    def at(self, x: np.ndarray | float, y: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Pixels, with fractions, of values."""
        left, top, right, bottom = self.plot
        across = left + (np.asarray(x, float) - self.x[0]) / (self.x[1] - self.x[0]) * (right - left)
        down = bottom - (np.asarray(y, float) - self.y[0]) / (self.y[1] - self.y[0]) * (bottom - top)
        return across, down

    def curve(self, x: np.ndarray, y: np.ndarray, colour: RGB, width_px: float = 2.0) -> None:
        """Draw a line through points, smoothly, cut off at the edges of the plot."""
        across, down = self.at(x, y)
        left, top = self.plot[:2]
        size = (self.plot[2] - left + 1, self.plot[3] - top + 1)
        mask = Image.new("L", (size[0] * _SMOOTH, size[1] * _SMOOTH))
        points = np.column_stack([across - left, down - top]) * _SMOOTH
        ImageDraw.Draw(mask).line(points.ravel().tolist(), 255, max(1, round(width_px * _SMOOTH)), joint="curve")
        self.canvas.image.paste(colour, (left, top), mask.reduce(_SMOOTH))

    def bars(self, edges: np.ndarray, heights: np.ndarray, colour: RGB) -> None:
        """Fill a bar from 0 up between every two edges [B + 1]."""
        across, _ = self.at(edges, 0.0)
        _, down = self.at(0.0, heights)
        bottom = self.plot[3]
        fill = blend(self.canvas.theme.background, colour, 0.55)
        for start, end, top, height in zip(across[:-1], across[1:], down, heights, strict=True):
            if height > 0:
                box = (round(start), min(round(float(top)), bottom - 1), max(round(end) - 1, round(start)), bottom)
                self.canvas.draw.rectangle(box, fill=fill)

    def dots(self, x: np.ndarray, y: np.ndarray, colour: RGB, radius_px: float = 3.0) -> None:
        """Draw a dot on every point."""
        for across, down in zip(*self.at(x, y), strict=True):
            box = (across - radius_px, down - radius_px, across + radius_px, down + radius_px)
            self.canvas.draw.ellipse(box, fill=colour)

    def upright(self, x: float, text: str, colour: RGB) -> None:
        """Draw a dashed line from the top to the bottom, with its text beside the top, on the side that has room."""
        across = float(self.at(x, 0.0)[0])
        _, top, right, bottom = self.plot
        self._dash((across, top), (across, bottom), colour)
        font = self.canvas.text
        beyond = across + 6 + font.width(text) > right
        place, anchor = (across - 6, "rs") if beyond else (across + 6, "ls")
        self.canvas.draw.text((place, top + font.line_px - 4), text, colour, font.face, anchor)

    def level(self, y: float, text: str) -> None:
        """Draw a dashed line from the left to the right, with its text above the right end."""
        down = float(self.at(0.0, y)[1])
        left, _, right, _ = self.plot
        self._dash((left, down), (right, down), self.canvas.theme.mix(0.6))
        self.canvas.write((right - 2, down - 5), text, 0.75, self.canvas.small, "rs")

    def _dash(self, start: tuple[float, float], end: tuple[float, float], colour: RGB) -> None:
        length = math.hypot(end[0] - start[0], end[1] - start[1])
        step = ((end[0] - start[0]) / length, (end[1] - start[1]) / length)
        for at in np.arange(0, length, sum(_DASH)):
            to = min(at + _DASH[0], length)
            line = [(start[0] + step[0] * place, start[1] + step[1] * place) for place in (at, to)]
            self.canvas.draw.line(line, fill=colour, width=2)


def draw_axes(canvas: Canvas, box: Box, x: Range, y: Range, x_label: str) -> Axes:
    """Lines, round ticks and labels of both axes in a panel's box, and what is needed to draw between them."""
    plot = (box[0] + _PAD + _LEFT_PX - 14, box[1] + _TITLE_PX + 6, box[2] - _PAD - 6, box[3] - _FOOT_PX)
    axes = Axes(canvas, plot, x, y)
    left, top, right, bottom = plot
    faint, ink = canvas.theme.mix(0.1), canvas.theme.mix(0.5)
    for value in ticks(y, max(2, (bottom - top) // _TICK_ROW)):
        down = float(axes.at(x[0], value)[1])
        canvas.draw.line((left, down, right, down), fill=faint)
        canvas.draw.line((left - 4, down, left, down), fill=ink)
        canvas.write((left - 8, down), tick_text(value), 0.75, canvas.small, "rm")
    shown = _ticks_with_room(x, right - left, canvas.small)
    for value in shown:
        across = float(axes.at(value, y[0])[0])
        canvas.draw.line((across, bottom, across, bottom + 4), fill=ink)
        canvas.write((across, bottom + 7), tick_text(value), 0.75, canvas.small, "ma")
    canvas.draw.line((left, bottom, right, bottom), fill=ink)
    canvas.draw.line((left, top, left, bottom), fill=ink)
    canvas.write(((left + right) / 2, box[3] - 9), x_label, 0.75, canvas.small, "ms")
    return axes


def _ticks_with_room(shown: Range, width_px: int, font: Font) -> list[float]:
    """As many round values as can stand beside each other under an axis."""
    for most in range(8, 1, -1):
        values = ticks(shown, most)
        widest = max((font.width(tick_text(value)) for value in values), default=0)
        if len(values) * (widest + _TICK_GAP) <= width_px:
            return values
    return ticks(shown, 1)


def ticks(shown: Range, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten within a range: at most `most` + 1 of them."""
    low, high = shown
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if (high - low) / (power * factor) <= most * (1 + 1e-9))
    near = 1e-6  # of a step: rounding does not lose a tick on the edge
    return [number * step for number in range(math.ceil(low / step - near), math.floor(high / step + near) + 1)]


def tick_text(value: float) -> str:
    """A round value in few letters: 0.05, 250, 20k, 1.5M."""
    for unit, letter in ((1e6, "M"), (1e4, "k")):
        if abs(value) >= unit * (1 - 1e-9):
            return f"{value / (1e3 if letter == 'k' else unit):.6g}{letter}"
    return f"{value:.6g}"


def wrapped(text: str, font: Font, width_px: int) -> Sequence[str]:
    """A text in lines no wider than `width_px`; a word that is wider is cut with an ellipsis."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.width(longer) <= width_px:
            lines[-1] = longer
        elif lines[-1]:
            lines.append(font.fit(word, width_px))
        else:
            lines[-1] = font.fit(word, width_px)
    return lines
