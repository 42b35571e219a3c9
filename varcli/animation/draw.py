"""The frames of an animation as pictures: the canvas so far, the patch being written, label, bar and statistics.

Nothing that is drawn depends on the clock, so the same recordings and options give the same pictures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from varcli.animation.frames import Bounds, Recording
from varcli.colours import Font, Theme, load_font, make_theme
from varcli.errors import UsageError
from varcli.pianoroll.figures.painter import RollPainter, lay_out, onsets_of
from varcli.pianoroll.figures.picture import draw_kept_legend, kept_legend_px

MARGIN_PX = 14
BAR_PX = 6
ALONE_PX, TOGETHER_PX = 1024, 1600  # width to aim at, of one recording and of several side by side
DEFAULT_MAPS = {"roll": "velocity", "image": "inferno"}
NARROWEST_PX = 380  # room for a label


@dataclass(frozen=True)
class AnimationOptions:
    """How an animation looks.

    `pixel_scale` is pixels per step of a roll or per image pixel, None fits the picture to a screen; `bar` and `stats`
    are drawn on the frame or not; `font` is a .ttf or .otf file, `font_size` in pixels; all frames share one palette of
    at most `colors` (2..256; 256 leave a GIF none to mark what does not change). Raises UsageError for a value out of
    range, a colour or colormap that does not exist and a font that cannot be read.
    """

    pixel_scale: int | None = None
    bar: bool = True
    stats: bool = True
    font: Path | None = None
    font_size: float = 15
    background: str = "#12141c"
    colormap: str | None = None
    colors: int = 255

    def __post_init__(self) -> None:
        ranges = (("pixel scale", self.pixel_scale, 1, 64), ("font size", self.font_size, 6, 96))
        for name, value, low, high in (*ranges, ("number of colors", self.colors, 2, 256)):
            if value is not None and not low <= value <= high:
                raise UsageError(f"a {name} of {value:g} cannot be used", f"it goes from {low} to {high}")
        make_theme(self.background, self.colormap or DEFAULT_MAPS["roll"])
        load_font(self.font_size, self.font)


@dataclass(frozen=True)
class Statistics:
    """Counts of one state: notes begun, cells occupied, mean polyphony of the steps that sound, and the highest."""

    notes: int
    cells: int
    polyphony: float
    most: int


def statistics(values: np.ndarray, onsets: np.ndarray) -> Statistics:
    """Count what intensities u8 [P, T] with note beginnings bool [P, T] hold."""
    voices = np.count_nonzero(values, axis=0)
    sounding = voices[voices > 0]
    mean = float(sounding.mean()) if len(sounding) else 0.0
    return Statistics(int(np.count_nonzero(onsets)), int(voices.sum()), mean, int(voices.max(initial=0)))


class Panel:
    """One recording's part of every frame."""

    def __init__(self, recording: Recording, options: AnimationOptions, *, width_px: int, title: str = "") -> None:
        self.recording, self.options, self.title = recording, options, title
        self.is_roll = recording.meta.kind == "roll"
        self.theme = make_theme(options.background, options.colormap or DEFAULT_MAPS[recording.meta.kind])
        self.font = load_font(options.font_size, options.font)
        small = load_font(max(options.font_size * 0.82, 6), options.font)
        if self.is_roll:
            self._painter = _roll_painter(recording, options, self.theme, small, width_px)
        else:
            self._painter = ImagePainter(recording, options, self.theme)
        self._texts = [self._describe(index) for index in range(len(recording))] if options.stats else []
        self._lay_out_head()

    def _lay_out_head(self) -> None:
        width, height = self._painter.size
        self.width = max(width, NARROWEST_PX)
        label = max(map(self.font.width, self.recording.labels), default=0)
        stats = max(map(self.font.width, self._texts), default=0)
        line = self.font.line_px + 4
        self._legend_px = kept_legend_px(self.font) + 16 if self.is_roll and self.recording.kept is not None else 0
        stats += self._legend_px
        # The layout holds for all frames: statistics go on a line of their own if they meet a label in any of them.
        self._two_lines = bool(stats) and label + stats + 24 > self.width
        self._label_y = line if self.title else 0
        self._stats_y = self._label_y + line * self._two_lines
        self._top = self._stats_y + line + 2
        self._bar_y = self._top + height + 6
        self.height = self._bar_y + (BAR_PX if self.options.bar else -6)

    def _describe(self, index: int) -> str:
        values = self.recording.frames[index]
        if not self.is_roll:
            return f"{np.count_nonzero(values)} occupied cells"
        counts = statistics(values, onsets_of(values, self.recording.meta.onsets))
        notes = f"{counts.notes} note{'s' * (counts.notes != 1)} · {counts.cells} cells"
        return f"{notes} · polyphony {counts.polyphony:.1f} (max {counts.most})"

    def draw(self, index: int, decided: np.ndarray | None) -> Image.Image:
        """The picture of frame `index`; cells outside `decided`, bool [H, W], are dimmed."""
        recording, theme, font = self.recording, self.theme, self.font
        image = Image.new("RGB", (self.width, self.height), theme.background)
        draw = ImageDraw.Draw(image)
        if self.title:
            draw.text((0, 0), font.fit(self.title, self.width), theme.mix(0.95), font.face)
        draw.text((0, self._label_y), font.fit(recording.labels[index], self.width), theme.mix(0.95), font.face)
        if self._texts:
            text = font.fit(self._texts[index], self.width - self._legend_px)
            x = 0 if self._two_lines else self.width - self._legend_px - font.width(text)
            draw.text((x, self._stats_y), text, theme.mix(0.6), font.face)
        if self._legend_px:
            draw_kept_legend(draw, self.width, self._stats_y + font.line_px // 2, theme, font)
        meta, values = recording.meta, recording.frames[index]
        outlined = meta.bounds[index] if meta.bounds else ()
        fresh = meta.fresh[index] if meta.fresh else ()
        onsets = onsets_of(values, meta.onsets) if self.is_roll else None
        canvas = self._painter.paint(values, onsets, decided=decided, fresh=fresh, outlined=outlined)
        image.paste(canvas, (0, self._top))
        if self.options.bar:
            done = round(float(recording.progress[index]) * (self.width - 1))
            low = self._bar_y + BAR_PX - 1
            draw.rectangle((0, self._bar_y, self.width - 1, low), fill=theme.mix(0.14))
            draw.rectangle((0, self._bar_y, done, low), fill=theme.mix(0.7))
        return image


class ImagePainter:
    """Paints images u8 [H, W], row 0 at the top, enlarged without smoothing."""

    def __init__(self, recording: Recording, options: AnimationOptions, theme: Theme) -> None:
        _, height, width = recording.frames.shape
        self._scale = options.pixel_scale or int(np.clip(640 // max(height, width), 1, 16))
        self._theme = theme
        self.size = (width * self._scale, height * self._scale)

    def paint(
        self,
        values: np.ndarray,
        onsets: np.ndarray | None = None,
        *,
        decided: np.ndarray | None = None,
        fresh: Sequence[Bounds] = (),
        outlined: Sequence[Bounds] = (),
    ) -> Image.Image:
        """Paint one image with a frame round the `outlined` patches; the other arguments are those of a roll."""
        large = values.repeat(self._scale, axis=0).repeat(self._scale, axis=1)
        image = Image.fromarray(self._theme.image[large])
        draw = ImageDraw.Draw(image)
        for top, bottom, left, right in outlined:
            box = (left * self._scale, top * self._scale, right * self._scale - 1, bottom * self._scale - 1)
            draw.rectangle(box, outline=(255, 255, 255))
        return image


def _roll_painter(
    recording: Recording, options: AnimationOptions, theme: Theme, font: Font, width_px: int
) -> RollPainter:
    meta = recording.meta
    axes = lay_out(
        recording.frames.max(axis=(0, 2)) > 0,
        recording.frames.shape[2],
        steps_per_beat=meta.steps_per_beat,
        steps_per_bar=meta.steps_per_bar,
        downbeats=meta.downbeats,
        pixel_scale=options.pixel_scale,
        width_px=width_px,
    )
    return RollPainter(axes, theme, font, recording.kept)


def in_step(recordings: Sequence[Recording]) -> list[tuple[int, ...]]:
    """Which frame of every recording stands in every frame of the animation.

    The longest recording sets the pace; the others show their latest frame that is no further along than it is.
    """
    pace = max(recordings, key=len).progress
    columns = [
        np.arange(len(pace))
        if recording.progress is pace or len(recording) == len(pace)
        else np.searchsorted(recording.progress, pace + 1e-9, side="right") - 1
        for recording in recordings
    ]
    return [tuple(int(max(index, 0)) for index in row) for row in zip(*columns, strict=True)]


class Film:
    """All frames of an animation of one or more recordings side by side; drawn anew each time it is gone through."""

    def __init__(self, recordings: Sequence[Recording], options: AnimationOptions) -> None:
        several = len(recordings) > 1
        width_px = TOGETHER_PX // len(recordings) if several else ALONE_PX
        self.recordings = recordings
        self.panels = [
            Panel(one, options, width_px=width_px, title=one.meta.title if several else "") for one in recordings
        ]
        self.schedule = in_step(recordings)
        across = sum(panel.width for panel in self.panels) + MARGIN_PX * 2 * len(self.panels)
        self.size = (across, max(panel.height for panel in self.panels) + 2 * MARGIN_PX)

    def __len__(self) -> int:
        return len(self.schedule)

    def __iter__(self) -> Iterator[Image.Image]:
        return self.draw(range(len(self)))

    def draw(self, indices: Sequence[int]) -> Iterator[Image.Image]:
        """The pictures of the frames `indices`, which grow."""
        decided = [_Decided(recording) for recording in self.recordings]
        for index in indices:
            image = Image.new("RGB", self.size, self.panels[0].theme.background)
            x = MARGIN_PX
            for panel, seen, frame in zip(self.panels, decided, self.schedule[index], strict=True):
                image.paste(panel.draw(frame, seen.up_to(frame)), (x, MARGIN_PX))
                x += panel.width + 2 * MARGIN_PX
            yield image


class _Decided:
    """The cells that patches have covered so far, for frames asked in growing order; None if bounds are unknown."""

    def __init__(self, recording: Recording) -> None:
        self._meta = recording.meta
        kept = recording.kept
        self._cells = np.zeros(recording.frames.shape[1:], bool) if kept is None else kept.copy()
        self._next = 0

    def up_to(self, index: int) -> np.ndarray | None:
        if not self._meta.bounds:
            return None
        while self._next <= index:
            fresh = self._meta.fresh[self._next] if self._meta.fresh else ()
            for low, high, start, stop in (*self._meta.bounds[self._next], *fresh):
                self._cells[low:high, start:stop] = True
            self._next += 1
        return self._cells
