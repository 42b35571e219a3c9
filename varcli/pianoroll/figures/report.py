"""A comparison of generated with real music as one page: a panel per metric, the copies, and the figures that count."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from PIL import Image, ImageDraw

from varcli.colours import RGB, Font, Theme, blend, load_font, make_theme
from varcli.pianoroll.evaluation.comparison import Compared, Copies, MusicComparison
from varcli.pianoroll.evaluation.music_metrics import DURATIONS, HISTOGRAMS
from varcli.pianoroll.evaluation.overlap import Interval
from varcli.pianoroll.evaluation.shared_runs import NOTHING, Voices

GENERATED: RGB = (248, 146, 74)
REFERENCE: RGB = (63, 155, 224)
_COLUMNS = 5
_PANEL, _GAP, _MARGIN, _HEAD = (324, 218), 14, 28, 92
_PAD, _PLOT_TOP, _PLOT_BOTTOM = 14, 60, 30
_SMOOTH = 4  # curves are drawn this many times larger, then reduced
_FILL, _FAINTEST = 0.34, 0.003  # how opaque areas are; the share of its peak at which a curve ends
_NEAR = 0.05  # of the distance of ticks: how far beyond the edge one is drawn at the edge
_COPY_BARS = 32  # most bars of a histogram of shared runs
_VOICES = {Voices.all: "Copies, all voices", Voices.top: "Copies, top line"}

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class _Page:
    """The picture under work and what is written on it with."""

    image: Image.Image
    draw: ImageDraw.ImageDraw
    theme: Theme
    heading: Font
    text: Font
    small: Font
    large: Font

    def panel(self, number: int) -> Box:
        """Draw the ground of a panel; returns its box."""
        row, column = divmod(number, _COLUMNS)
        left, top = _MARGIN + column * (_PANEL[0] + _GAP), _HEAD + row * (_PANEL[1] + _GAP)
        box = (left, top, left + _PANEL[0], top + _PANEL[1])
        self.draw.rounded_rectangle(box, 6, fill=self.theme.mix(0.045))
        return box

    def write(self, at: tuple[float, float], text: str, strength: float, font: Font, anchor: str = "ls") -> None:
        """Write a line, `strength` (0..1) of the way to the full ink."""
        self.draw.text(at, text, self.theme.mix(strength), font.face, anchor)


def draw_report(
    comparison: MusicComparison, *, title: str = "", subtitle: str = "", theme: Theme | None = None
) -> Image.Image:
    """The page: core metrics, the summary, further metrics, and what is shared with the training pieces."""
    theme = theme or make_theme()
    core = [one for one in comparison.metrics if one.metric.core]
    further = [one for one in comparison.metrics if not one.metric.core]
    panels = len(core) + 1 + len(further) + len(comparison.copies)
    rows = -(-panels // _COLUMNS)
    width = 2 * _MARGIN + _COLUMNS * _PANEL[0] + (_COLUMNS - 1) * _GAP
    height = _HEAD + rows * (_PANEL[1] + _GAP) - _GAP + _MARGIN
    image = Image.new("RGB", (width, height), theme.background)
    fonts = [load_font(size) for size in (24, 16, 13, 52)]
    page = _Page(image, ImageDraw.Draw(image), theme, *fonts)
    _draw_heading(page, title or "Generated music against real music", subtitle or _summary_of(comparison))
    for number, one in enumerate(core):
        _draw_metric(page, page.panel(number), one)
    _draw_summary(page, page.panel(len(core)), comparison)
    for number, one in enumerate(further, len(core) + 1):
        _draw_metric(page, page.panel(number), one)
    for number, copies in enumerate(comparison.copies, len(core) + 1 + len(further)):
        _draw_copies(page, page.panel(number), copies, comparison)
    return image


def _summary_of(comparison: MusicComparison) -> str:
    pieces = len({id(window.piece) for window in comparison.reference})
    steps = comparison.reference[0].cells.shape[1]
    return (
        f"{len(comparison.generated)} generated windows and {len(comparison.reference)} windows of {pieces} real pieces"
        f", {steps} steps each"
    )


def _draw_heading(page: _Page, title: str, subtitle: str) -> None:
    room = page.image.width - 2 * _MARGIN
    page.write((_MARGIN, 42), page.heading.fit(title, room), 0.95, page.heading)
    legend = (("generated", GENERATED), ("real", REFERENCE))
    right = page.image.width - _MARGIN
    for name, colour in reversed(legend):
        right -= page.text.width(name)
        page.write((right, 70), name, 0.8, page.text)
        right -= 20
        page.draw.rectangle((right, 58, right + 12, 70), fill=_soft(page.theme, colour), outline=colour)
        right -= 22
    page.write((_MARGIN, 70), page.text.fit(subtitle, right - _MARGIN), 0.6, page.text)


def _draw_titles(page: _Page, box: Box, title: str, under: str, figure: str, beside: str) -> None:
    """Four texts at the head of a panel: what it shows on the left, its figures on the right."""
    left, right, top = box[0] + _PAD, box[2] - _PAD, box[1]
    page.write((right, top + 28), figure, 0.95, page.heading, "rs")
    page.write((right, top + 47), beside, 0.6, page.small, "rs")
    room = right - left - page.heading.width(figure) - 10
    page.write((left, top + 28), page.text.fit(title, room), 0.95, page.text)
    room = right - left - page.small.width(beside) - 10
    page.write((left, top + 47), page.small.fit(under, room), 0.6, page.small)


def _draw_metric(page: _Page, box: Box, one: Compared) -> None:
    real = f" · real {one.real:.2f}" if np.isfinite(one.real) else ""
    beside = f"{_range(one.overlap)}{real}"
    _draw_titles(page, box, one.metric.label, one.metric.unit, _figure(one.overlap.value), beside)
    plot = _plot_of(box)
    if not np.isfinite(one.overlap.value):
        page.write(
            ((plot[0] + plot[2]) / 2, (plot[1] + plot[3]) / 2), "undefined in these windows", 0.6, page.text, "mm"
        )
        return
    generated, reference = one.profile.shares
    if one.metric in HISTOGRAMS:
        labels = [f"{value:.0f}" for value in one.profile.at]
        if one.metric is DURATIONS:
            labels[-1] += "+"
        _draw_bars(page, plot, labels, generated, reference)
        return
    at = one.profile.at
    shown = np.maximum(generated / generated.max(), reference / reference.max()) > _FAINTEST
    # Kernels reach beyond what a metric can be; no curve is drawn there.
    inside = np.flatnonzero(shown & (at >= 0) & (at <= one.metric.most))
    part = slice(inside[0], inside[-1] + 1)
    at = at[part]
    _draw_curves(page, plot, [(reference[part], REFERENCE), (generated[part], GENERATED)])
    values = np.concatenate([one.generated, one.reference])
    _draw_axis(page, plot, (float(at[0]), float(at[-1])), (float(np.nanmin(values)), float(np.nanmax(values))))


def _draw_summary(page: _Page, box: Box, comparison: MusicComparison) -> None:
    page.draw.rounded_rectangle(box, 6, outline=page.theme.mix(0.25))
    left, top, room = box[0] + _PAD, box[1], _PANEL[0] - 2 * _PAD
    figure = _figure(comparison.mean.value)
    page.write((left, top + 66), figure, 0.97, page.large)
    beside = left + page.large.width(figure) + 14
    count = sum(one.metric.core for one in comparison.metrics)
    page.write((beside, top + 44), f"mean of the first {count}", 0.95, page.text)
    page.write((beside, top + 64), _range(comparison.mean), 0.6, page.small)
    lines = [f"{_figure(comparison.mean_all.value)}  mean of all {len(comparison.metrics)}"]
    if comparison.lowest:
        lines.insert(0, f"{comparison.lowest.overlap.value:.2f}  lowest: {comparison.lowest.metric.label.lower()}")
    if np.isfinite(comparison.real):
        lines.insert(0, f"{comparison.real:.2f}  real pieces among themselves")
    if comparison.silent:
        lines.append(f"{comparison.silent}  generated windows without a note")
    for number, line in enumerate(lines):
        page.write((left, top + 98 + 21 * number), page.small.fit(line, room), 0.85, page.small)
    for number, line in enumerate(_explained(comparison)):
        page.write((left, box[3] - 28 + 16 * number), page.small.fit(line, room), 0.5, page.small)


def _explained(comparison: MusicComparison) -> Iterator[str]:
    yield "overlap: the area under both curves, 95% interval"
    if comparison.real_windows:
        yield f"real: {comparison.real_windows} real windows against other pieces"


def _draw_copies(page: _Page, box: Box, copies: Copies, comparison: MusicComparison) -> None:
    longest, window = max(
        zip((one.longest for one in copies.generated), comparison.generated, strict=True),
        key=lambda pair: (pair[0].steps, pair[0].notes),
    )
    held_out = [one.longest.steps for one in copies.held_out]
    beside = f"held-out pieces {max(held_out)}" if held_out else "no held-out piece"
    figure = f"{longest.steps} step{'s' * (longest.steps != 1)}"
    _draw_titles(page, box, _VOICES[copies.voices], "longest shared run", figure, beside)
    where = "nothing is shared with the training pieces"
    if longest != NOTHING:
        here, there = (PurePath(piece.name).stem for piece in (window.piece, comparison.training[longest.found]))
        where = f"{here}, step {window.start + longest.step} = {there}, step {longest.found_step}"
    page.write((box[0] + _PAD, box[1] + 65), page.small.fit(where, _PANEL[0] - 2 * _PAD), 0.6, page.small)
    sides = [np.array([one.longest.steps for one in side], int) for side in (copies.generated, copies.held_out)]
    most = max(int(side.max()) for side in sides if len(side))
    bin_steps = -(-(most + 1) // _COPY_BARS)
    shares = [np.bincount(side // bin_steps, minlength=most // bin_steps + 1) / max(len(side), 1) for side in sides]
    plot = _plot_of(box)
    labels = [str(number * bin_steps) for number in range(len(shares[0]))]
    _draw_bars(page, (plot[0], plot[1] + 18, *plot[2:]), labels, *shares)


def _plot_of(box: Box) -> Box:
    return box[0] + _PAD, box[1] + _PLOT_TOP, box[2] - _PAD, box[3] - _PLOT_BOTTOM


def _draw_curves(page: _Page, plot: Box, curves: Sequence[tuple[np.ndarray, RGB]]) -> None:
    """Fill the areas below curves f64 [X] over the plot's width, each in its colour, and draw the curves on top."""
    width, height = (plot[2] - plot[0]) * _SMOOTH, (plot[3] - plot[1]) * _SMOOTH
    highest = max(float(curve.max()) for curve, _ in curves)
    outlines = []
    for curve, colour in curves:
        x = np.linspace(0, width - 1, len(curve))
        points = list(zip(x.tolist(), (height - 1 - curve / highest * (height - 3 * _SMOOTH)).tolist(), strict=True))
        mask = Image.new("L", (width, height))
        ImageDraw.Draw(mask).polygon([(0, height), *points, (width - 1, height)], fill=round(255 * _FILL))
        _lay(page, plot, mask, colour)
        outlines.append((points, colour))
    for points, colour in outlines:
        mask = Image.new("L", (width, height))
        ImageDraw.Draw(mask).line(points, fill=255, width=2 * _SMOOTH, joint="curve")
        _lay(page, plot, mask, colour)
    page.draw.line((plot[0], plot[3], plot[2], plot[3]), fill=page.theme.mix(0.3))


def _lay(page: _Page, plot: Box, mask: Image.Image, colour: RGB) -> None:
    page.image.paste(colour, plot[:2], mask.reduce(_SMOOTH))


def _draw_bars(page: _Page, plot: Box, labels: Sequence[str], generated: np.ndarray, reference: np.ndarray) -> None:
    """A pair of bars for every class: reference behind, generated before it and narrower."""
    highest = max(float(generated.max()), float(reference.max()))
    each = (plot[2] - plot[0]) / len(labels)
    height = plot[3] - plot[1]
    for number, pair in enumerate(zip(reference.tolist(), generated.tolist(), strict=True)):
        left = plot[0] + number * each
        for share, colour, inset in zip(pair, (REFERENCE, GENERATED), (0.08, 0.3), strict=True):
            if share > 0:
                x0, x1 = round(left + inset * each), round(left + (1 - inset) * each) - 1
                top = plot[3] - max(1, round(share / highest * height))
                fill = _soft(page.theme, colour) if colour is REFERENCE else colour
                page.draw.rectangle((x0, top, max(x1, x0), plot[3]), fill=fill)
    page.draw.line((plot[0], plot[3], plot[2], plot[3]), fill=page.theme.mix(0.3))
    every = next(n for n in (1, 2, 4, 8, 16, 32, 64) if n * each >= page.small.width("000") + 8)
    for number in range(0, len(labels), every):
        page.write((plot[0] + (number + 0.5) * each, plot[3] + 16), labels[number], 0.6, page.small, "ms")


def _draw_axis(page: _Page, plot: Box, shown: tuple[float, float], there: tuple[float, float]) -> None:
    """Ticks along the bottom at round numbers, within what is `shown` and not beyond the values that are `there`."""
    span = shown[1] - shown[0]
    step = next(s for s in _round_steps(span) if span / s <= 6)
    for number in range(int(np.ceil(shown[0] / step - _NEAR)), int(np.floor(shown[1] / step + _NEAR)) + 1):
        value = number * step
        if there[0] - step / 2 <= value <= there[1] + step / 2:
            x = plot[0] + float(np.clip((value - shown[0]) / span, 0, 1)) * (plot[2] - plot[0])
            page.draw.line((x, plot[3], x, plot[3] + 3), fill=page.theme.mix(0.3))
            page.write((x, plot[3] + 17), f"{value:.6g}", 0.6, page.small, "ms")


def _round_steps(span: float) -> list[float]:
    power = 10.0 ** np.floor(np.log10(span / 6))
    return [power * factor for factor in (1, 2, 5, 10, 20)]


def _soft(theme: Theme, colour: RGB) -> RGB:
    return blend(theme.background, colour, 0.55)


def _figure(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "none"


def _range(interval: Interval) -> str:
    return f"{interval.low:.2f}-{interval.high:.2f}" if np.isfinite(interval.low) else ""
