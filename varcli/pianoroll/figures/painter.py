"""The painter of rolls behind the .png of a sample and the frames of an animation.

Legend: P pitches (row 0 of an array is pitch 0, the bottom of a picture), T steps; `_px` are pixels. A long roll is
broken into systems, one below the other, as in a score.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from varcli.colours import RGB, Font, Theme, blend
from varcli.pianoroll.roll import HELD, ONSET, Vocabulary, intensity

Bounds = tuple[int, int, int, int]  # pitch0, pitch1, step0, step1, half-open

BLACK_KEYS = frozenset({1, 3, 6, 8, 10})
KEYBOARD_PX = 22
IVORY: RGB = (226, 226, 220)
EBONY: RGB = (38, 40, 48)
WHOLE_STEPS = 640  # a roll up to this long stays in one piece
SYSTEM_STEPS = 512  # a longer one is broken into systems of about this many


def marked_intensity(cells: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Brightness u8 [P, T] of a canvas of cell codes, 0 where silent, whose lowest bit is set where a note begins."""
    values = intensity(cells, vocabulary) & 0xFE
    begins = (cells == HELD) & (np.pad(cells, ((0, 0), (1, 0)))[:, :-1] == 0)
    if not vocabulary.binary:
        begins |= cells >= ONSET
    return values | begins.astype(np.uint8)


def onsets_of(values: np.ndarray, marked: bool) -> np.ndarray:
    """Where notes begin in an array of intensities u8 [P, T]: bool [P, T].

    `marked` values show it in their lowest bit (see marked_intensity); elsewhere a note begins where the value changes.
    """
    if marked:
        return (values & 1).astype(bool)
    return (values > 0) & (values != np.pad(values, ((0, 0), (1, 0)))[:, :-1])


@dataclass(frozen=True)
class RollAxes:
    """What a picture shows of a roll, and how large.

    Pitches `low` to `high` (half-open) and `steps` steps in systems of `system_steps`; a cell is `step_px` wide and
    `pitch_px` high; `bars` are the steps where bars start.
    """

    low: int
    high: int
    steps: int
    system_steps: int
    step_px: int
    pitch_px: int
    bars: tuple[int, ...]
    steps_per_beat: int = 4

    @property
    def systems(self) -> list[tuple[int, int]]:
        """Steps (first, last + 1) of every system."""
        starts = range(0, self.steps, self.system_steps)
        return [(start, min(start + self.system_steps, self.steps)) for start in starts]


def visible_pitches(used: np.ndarray) -> tuple[int, int]:
    """Whole octaves (low, high), half-open, around the pitches where `used`, bool [P], is true, with a small margin."""
    sounding, rows = np.flatnonzero(used), len(used)
    first, last = map(int, (sounding[0], sounding[-1]) if len(sounding) else (48, 71))
    low, high = max((first - 1) // 12 * 12, 0), min(-(-(last + 2) // 12) * 12, rows)
    while high - low < 24 and (low, high) != (0, rows):  # two octaves at least, where there are so many
        if low and (high == rows or first - low < high - last):
            low -= 12
        else:
            high = min(high + 12, rows)
    return low, high


def lay_out(
    used: np.ndarray,
    steps: int,
    *,
    steps_per_beat: int = 4,
    steps_per_bar: int = 16,
    downbeats: Sequence[int] | None = None,
    pixel_scale: int | None = None,
    width_px: int = 1280,
) -> RollAxes:
    """Axes for a roll of `steps` steps whose pitches `used`, bool [P], sound at some time.

    A step is `pixel_scale` pixels wide, or as wide as fits `width_px`; the height of rows follows from the width.
    """
    pieces = 1 if steps <= WHOLE_STEPS else -(-steps // SYSTEM_STEPS)
    bars_each = -(-steps // (pieces * steps_per_bar))
    system_steps = steps if pieces == 1 else bars_each * steps_per_bar
    low, high = visible_pitches(used)
    step_px = pixel_scale or int(np.clip(width_px // system_steps, 2, 24))
    pitch_px = int(np.clip(round(0.44 * max(step_px * system_steps, 480) / (high - low)), max(2, min(step_px, 4)), 16))
    bars = tuple(range(0, steps, steps_per_bar)) if downbeats is None else tuple(b for b in downbeats if 0 <= b < steps)
    return RollAxes(low, high, steps, system_steps, step_px, pitch_px, bars, steps_per_beat)


class RollPainter:
    """Paints canvases of one shape on the same axes; what does not change is drawn once.

    Cells that are `kept`, bool [P, T], stand on lighter ground, and their notes are grey. Of the others, those in
    which one of `voices`, bool [V, P, T], sounds have the hue of the first that does.
    """

    def __init__(
        self,
        axes: RollAxes,
        theme: Theme,
        font: Font,
        kept: np.ndarray | None = None,
        voices: np.ndarray | None = None,
    ) -> None:
        self.axes, self.theme, self.font, self.kept = axes, theme, font, kept
        self.left = font.width("C-1") + 6 + KEYBOARD_PX
        self.top = font.line_px + 4
        self.height_px = (axes.high - axes.low) * axes.pitch_px
        self._bases = [self._draw_base(*system) for system in axes.systems]
        self._notes = np.stack([theme.notes, theme.kept, *theme.voices(0 if voices is None else len(voices))])
        self._table = None if voices is None else np.where(voices.any(0), 2 + voices.argmax(0), 0)
        if kept is not None:
            self._table = kept.astype(np.intp) if self._table is None else np.where(kept, 1, self._table)
        self._held = _towards(self._notes, theme.background, 0.18)
        self._struck = _towards(self._notes, theme.ink, 0.62)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a painted roll in pixels."""
        count, gap = len(self._bases), self.font.line_px // 2
        return self._bases[0].width, count * self._bases[0].height + (count - 1) * gap

    def paint(
        self,
        values: np.ndarray,
        onsets: np.ndarray | None,
        *,
        decided: np.ndarray | None = None,
        fresh: Iterable[Bounds] = (),
        outlined: Sequence[Bounds] = (),
    ) -> Image.Image:
        """Paint intensities u8 [P, T] with the notes that begin at `onsets`, bool [P, T]; None paints plain cells.

        Cells outside `decided`, bool [P, T], are dimmed; `fresh` patches are lit, `outlined` ones framed as well.
        """
        image = Image.new("RGB", self.size, self.theme.background)
        lit = np.zeros(values.shape, bool)
        for low, high, start, stop in (*fresh, *outlined):
            lit[low:high, start:stop] = True
        for number, (system, base) in enumerate(zip(self.axes.systems, self._bases, strict=True)):
            part = base.copy()
            pixels = np.asarray(base)[self.top : self.top + self.height_px, self.left :][
                :, : self._width(system)
            ].copy()
            self._paint_ground(pixels, system, decided, lit)
            self._paint_notes(pixels, system, values, onsets)
            part.paste(Image.fromarray(pixels), (self.left, self.top))
            self._outline(ImageDraw.Draw(part), system, outlined)
            image.paste(part, (0, number * (base.height + self.font.line_px // 2)))
        return image

    def _width(self, system: tuple[int, int]) -> int:
        return (system[1] - system[0]) * self.axes.step_px

    def _enlarge(self, array: np.ndarray, system: tuple[int, int]) -> np.ndarray:
        cells = array[self.axes.low : self.axes.high, system[0] : system[1]][::-1]
        return cells.repeat(self.axes.pitch_px, axis=0).repeat(self.axes.step_px, axis=1)

    def _paint_ground(
        self, pixels: np.ndarray, system: tuple[int, int], decided: np.ndarray | None, lit: np.ndarray
    ) -> None:
        if self.kept is not None:
            kept = self._enlarge(self.kept, system)
            pixels[kept] = _towards(pixels[kept], self.theme.ink, 0.09)
        if decided is not None and not decided.all():
            waiting = ~self._enlarge(decided, system)
            pixels[waiting] = _towards(pixels[waiting], self.theme.background, 0.72)
        if lit.any():
            new = self._enlarge(lit, system)
            inner = np.pad(new, 1)
            inner = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
            pixels[new] = _towards(pixels[new], self.theme.ink, 0.10)
            pixels[new & ~inner] = self.theme.mix(0.55)

    def _paint_notes(
        self, pixels: np.ndarray, system: tuple[int, int], values: np.ndarray, onsets: np.ndarray | None
    ) -> None:
        large = self._enlarge(values, system)
        if onsets is None:
            pixels[large > 0] = self.theme.notes[large[large > 0]]
            return
        step_px, pitch_px = self.axes.step_px, self.axes.pitch_px
        column = np.arange(large.shape[1]) % step_px
        row = np.arange(large.shape[0]) % pitch_px
        struck = self._enlarge(onsets, system)
        body = large > 0
        if pitch_px >= 4:
            body &= (row > 0)[:, None]
        gap = int(step_px >= 3)  # a thin gap parts a repeated note from the one before it
        body &= ~(struck & (column < gap))
        head = body & struck & (column < gap + max(1, step_px // 4))
        table = np.zeros(large.shape, np.intp) if self._table is None else self._enlarge(self._table, system)
        onset = body & struck
        for colours, where in ((self._held, body), (self._notes, onset), (self._struck, head)):
            pixels[where] = colours[table[where], large[where]]

    def _outline(self, draw: ImageDraw.ImageDraw, system: tuple[int, int], outlined: Sequence[Bounds]) -> None:
        axes = self.axes
        floor, right = self.top + self.height_px, self.left + self._width(system)
        thick = 2 if axes.step_px >= 3 else 1
        for low, high, start, stop in outlined:
            if stop <= system[0] or start >= system[1]:
                continue
            x0 = max(self.left + (start - system[0]) * axes.step_px - 1, self.left - 1)
            x1 = min(self.left + (stop - system[0]) * axes.step_px, right)
            y0 = max(floor - (high - axes.low) * axes.pitch_px - 1, self.top - 1)
            y1 = min(floor - (low - axes.low) * axes.pitch_px, floor)
            if low >= axes.high:  # outside the pitches shown: a mark at the edge says where
                draw.rectangle((x0, self.top - 3, x1, self.top - 2), fill=self.theme.mix(0.9))
            elif high <= axes.low:
                draw.rectangle((x0, floor + 1, x1, floor + 2), fill=self.theme.mix(0.9))
            else:
                draw.rectangle((x0, y0, x1, y1), outline=self.theme.mix(0.95), width=thick)

    def _draw_base(self, start: int, stop: int) -> Image.Image:
        axes, theme = self.axes, self.theme
        longest = axes.systems[0][1] * axes.step_px
        image = Image.new("RGB", (self.left + longest + 1, self.top + self.height_px + 3), theme.background)
        draw = ImageDraw.Draw(image)
        right = self.left + self._width((start, stop)) - 1
        for pitch in range(axes.low, axes.high):
            floor = self.top + (axes.high - pitch) * axes.pitch_px - 1
            key = theme.mix(0.035 if pitch % 12 in BLACK_KEYS else 0.085)
            draw.rectangle((self.left, floor - axes.pitch_px + 1, right, floor), fill=key)
            if pitch % 12 == 0:
                draw.line((self.left, floor, right, floor), fill=theme.mix(0.2))
        self._draw_bars(draw, start, stop)
        self._draw_keyboard(draw)
        return image

    def _draw_bars(self, draw: ImageDraw.ImageDraw, start: int, stop: int) -> None:
        axes, theme = self.axes, self.theme
        bottom = self.top + self.height_px - 1
        if axes.step_px * axes.steps_per_beat >= 12 and axes.bars:
            offset = axes.bars[0] % axes.steps_per_beat
            for step in range(start + (offset - start) % axes.steps_per_beat, stop, axes.steps_per_beat):
                x = self.left + (step - start) * axes.step_px
                draw.line((x, self.top, x, bottom), fill=theme.mix(0.13))
        width = max((b - a for a, b in zip(axes.bars, axes.bars[1:], strict=False)), default=16) * axes.step_px
        every = next(n for n in (1, 2, 4, 8, 16, 32, 64, 1 << 30) if n * width >= self.font.width("0000") + 4)
        for number, step in enumerate(axes.bars):
            if not start <= step < stop:
                continue
            x = self.left + (step - start) * axes.step_px
            draw.line((x, self.top, x, bottom), fill=theme.mix(0.3))
            if number % every == 0:
                draw.line((x, self.top - 4, x, self.top), fill=theme.mix(0.45))
                draw.text((x + 3, self.top - 3), str(number + 1), theme.mix(0.55), self.font.face, "ls")

    def _draw_keyboard(self, draw: ImageDraw.ImageDraw) -> None:
        axes, theme, x0 = self.axes, self.theme, self.left - KEYBOARD_PX
        ivory, ebony = blend(IVORY, theme.background, 0.12), blend(EBONY, theme.background, 0.2)
        frame = (x0 - 1, self.top - 1, self.left - 2, self.top + self.height_px)
        draw.rectangle(frame, fill=ivory, outline=blend(ivory, ebony, 0.45))
        every = 1 if 12 * axes.pitch_px >= self.font.line_px else 2
        for pitch in range(axes.low, axes.high):
            floor = self.top + (axes.high - pitch) * axes.pitch_px - 1
            if pitch % 12 in BLACK_KEYS:
                draw.rectangle((x0, floor - axes.pitch_px + 1, x0 + KEYBOARD_PX * 5 // 9, floor), fill=ebony)
            elif pitch % 12 in (0, 5):
                draw.line((x0, floor, self.left - 3, floor), fill=blend(ivory, ebony, 0.45))
            if pitch % 12 == 0 and pitch // 12 % every == 0:
                name, middle = f"C{pitch // 12 - 1}", floor - axes.pitch_px / 2
                draw.text((x0 - 5, middle), name, theme.mix(0.75), self.font.face, "rm")


def _towards(colours: np.ndarray, goal: RGB, amount: float) -> np.ndarray:
    mixed = colours.astype(np.float32) * (1 - amount) + np.array(goal, np.float32) * amount
    return mixed.round().astype(np.uint8)
