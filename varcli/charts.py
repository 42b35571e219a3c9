"""Charts of a page: a canvas with its letters, panels on it, and axes with round ticks for curves and bars."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from varcli.colours import RGB, Font, Theme

_SMOOTH = 4  # curves are drawn this many times larger, then reduced
_TITLE_PX, _LEFT_PX, _FOOT_PX = 58, 58, 54  # around the axes in a panel's box
_TICK_GAP = 14  # least free pixels between the labels of two ticks
_TICK_ROW = 40  # pixels of height that a tick of the y axis takes at least
_DASH = (7, 5)

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels
Range = tuple[float, float]


@dataclass(frozen=True)
class Canvas:
    """The picture under work and what is drawn on it with.

    `pad_px` is the room between a panel's frame and what stands in it; `line` and `label` (0..1) are how far axes and
    what is written beside them are on the way to the full ink.
    """

    image: Image.Image
    draw: ImageDraw.ImageDraw
    theme: Theme
    title: Font
    heading: Font
    text: Font
    small: Font
    pad_px: int = 16
    line: float = 0.5
    label: float = 0.75

    def write(self, at: tuple[float, float], text: str, strength: float, font: Font, anchor: str = "ls") -> None:
        """Write a line, `strength` (0..1) of the way to the full ink."""
        self.draw.text(at, text, self.theme.mix(strength), font.face, anchor)

    def panel(self, box: Box, title: str, figure: str = "", under: str = "") -> None:
        """Draw a panel's frame, with what it shows and a figure at its head, and a line under them."""
        self.draw.rounded_rectangle(box, 6, outline=self.theme.mix(0.2))
        self.titles(box, title, figure, under, font=self.heading)

    def titles(self, box: Box, title: str, figure: str, under: str, beside: str = "", *, font: Font) -> None:
        """Write at the head of a panel what it shows on the left, figures on the right, with a line under each."""
        left, right, top = box[0] + self.pad_px, box[2] - self.pad_px, box[1]
        for down, texts, strength, fonts in (
            (27, (title, figure), 0.95, (font, self.heading)),
            (46, (under, beside), 0.65, (self.small, self.small)),
        ):
            self.write((right, top + down), texts[1], strength, fonts[1], "rs")
            room = right - left - (fonts[1].width(texts[1]) + 10 if texts[1] else 0)
            self.write((left, top + down), fonts[0].fit(texts[0], room), strength, fonts[0])

    def write_middle(self, box: Box, text: str) -> None:
        """Write words in the middle of a panel, in as many lines as they need."""
        lines = wrapped(text, self.text, box[2] - box[0] - 4 * self.pad_px)
        middle = ((box[0] + box[2]) / 2, (box[1] + _TITLE_PX + box[3] - self.pad_px) / 2)
        for number, line in enumerate(lines):
            y = middle[1] + (number - (len(lines) - 1) / 2) * (self.text.line_px + 4)
            self.write((middle[0], y), line, 0.65, self.text, "mm")


def grid(box: Box, rows: int, columns: int, gap_px: int) -> Iterator[Box]:
    """Equal boxes, row by row, with gaps between them."""
    width, height = (box[2] - box[0] + gap_px) // columns - gap_px, (box[3] - box[1] + gap_px) // rows - gap_px
    for row in range(rows):
        for column in range(columns):
            left, top = box[0] + column * (width + gap_px), box[1] + row * (height + gap_px)
            yield left, top, left + width, top + height


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
        mask = self._mask()
        ImageDraw.Draw(mask).line(self._points(x, y), 255, max(1, round(width_px * _SMOOTH)), joint="curve")
        self._paste(mask, colour)

    def area(self, x: np.ndarray, y: np.ndarray, colour: RGB, opacity: float) -> None:
        """Fill what lies between a line through points and the bottom of the plot."""
        mask = self._mask()
        ends = np.concatenate([x[:1], x, x[-1:]]), np.concatenate([self.y[:1], y, self.y[:1]])
        ImageDraw.Draw(mask).polygon(self._points(*ends), fill=round(255 * opacity))
        self._paste(mask, colour)

    def _mask(self) -> Image.Image:
        left, top, right, bottom = self.plot
        return Image.new("L", ((right - left + 1) * _SMOOTH, (bottom - top + 1) * _SMOOTH))

    def _points(self, x: np.ndarray, y: np.ndarray) -> list[float]:
        """Pixels of the enlarged plot, x and y in turn."""
        across, down = self.at(x, y)
        return (np.column_stack([across - self.plot[0], down - self.plot[1]]) * _SMOOTH).ravel().tolist()

    def _paste(self, mask: Image.Image, colour: RGB) -> None:
        self.canvas.image.paste(colour, self.plot[:2], mask.reduce(_SMOOTH))

    def bars(self, edges: np.ndarray, heights: np.ndarray, fill: RGB, inset: float = 0.0) -> None:
        """Fill a bar from 0 up between every two edges [B + 1]; `inset` of its width is left free on either side."""
        across, _ = self.at(edges, 0.0)
        _, down = self.at(0.0, heights)
        bottom = self.plot[3]
        for start, end, top, height in zip(across[:-1], across[1:], down, heights, strict=True):
            if height > 0:
                left, right = round(start + inset * (end - start)), round(end - inset * (end - start)) - 1
                self.canvas.draw.rectangle((left, min(round(float(top)), bottom - 1), max(right, left), bottom), fill)

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

    def x_axis(self, values: Sequence[float], texts: Sequence[str], tick_px: int = 4) -> None:
        """Draw the line at the bottom, and under it texts at values, with ticks where they have a length."""
        left, _, right, bottom = self.plot
        ink = self.canvas.theme.mix(self.canvas.line)
        for value, text in zip(values, texts, strict=True):
            across = float(np.clip(self.at(value, self.y[0])[0], left, right))
            if tick_px:
                self.canvas.draw.line((across, bottom, across, bottom + tick_px), fill=ink)
            self.canvas.write((across, bottom + 7), text, self.canvas.label, self.canvas.small, "ma")
        self.canvas.draw.line((left, bottom, right, bottom), fill=ink)

    def y_axis(self, values: Sequence[float]) -> None:
        """Draw the line on the left, ticks with their values beside it, and faint lines across the plot."""
        left, top, right, bottom = self.plot
        canvas, ink = self.canvas, self.canvas.theme.mix(self.canvas.line)
        for value in values:
            down = float(self.at(self.x[0], value)[1])
            canvas.draw.line((left, down, right, down), fill=canvas.theme.mix(0.1))
            canvas.draw.line((left - 4, down, left, down), fill=ink)
            canvas.write((left - 8, down), tick_text(value), canvas.label, canvas.small, "rm")
        canvas.draw.line((left, top, left, bottom), fill=ink)


def draw_axes(canvas: Canvas, box: Box, x: Range, y: Range, x_label: str) -> Axes:
    """Lines, round ticks and labels of both axes in a panel's box, and what is needed to draw between them."""
    pad = canvas.pad_px
    plot = (box[0] + pad + _LEFT_PX - 14, box[1] + _TITLE_PX + 6, box[2] - pad - 6, box[3] - _FOOT_PX)
    axes = Axes(canvas, plot, x, y)
    left, top, right, bottom = plot
    axes.y_axis(ticks(y, max(2, (bottom - top) // _TICK_ROW)))
    shown = _ticks_with_room(x, right - left, canvas.small)
    axes.x_axis(shown, [tick_text(value) for value in shown])
    canvas.write(((left + right) / 2, box[3] - 9), x_label, canvas.label, canvas.small, "ms")
    return axes


def _ticks_with_room(shown: Range, width_px: int, font: Font) -> list[float]:
    """As many round values as can stand beside each other under an axis."""
    for most in range(8, 1, -1):
        values = ticks(shown, most)
        widest = max((font.width(tick_text(value)) for value in values), default=0)
        if len(values) * (widest + _TICK_GAP) <= width_px:
            return values
    return ticks(shown, 1)


def ticks(shown: Range, most: int, near: float = 1e-6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten within a range: at most `most` + 1 of them.

    `near` is how far beyond an end one may lie, as a share of the step: rounding does not lose a tick on the edge.
    """
    low, high = shown
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if (high - low) / (power * factor) <= most * (1 + 1e-9))
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
