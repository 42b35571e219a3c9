"""A comparison of generated with real music as one page: a panel per metric, the classifier, the form, the copies."""

from collections.abc import Iterator, Sequence
from pathlib import PurePath

import numpy as np
from PIL import Image, ImageDraw

from varcli.charts import Axes, Box, Canvas, grid, tick_text, ticks
from varcli.colours import RGB, Theme, blend, load_font, make_theme
from varcli.pianoroll.evaluation.comparison import Compared, Copies, MusicComparison
from varcli.pianoroll.evaluation.form import LAGS, RECALL_LAG
from varcli.pianoroll.evaluation.music_metrics import DURATIONS, HISTOGRAMS
from varcli.pianoroll.evaluation.overlap import Interval
from varcli.pianoroll.evaluation.shared_runs import NOTHING, Voices
from varcli.pianoroll.evaluation.two_sample import TwoSample
from varcli.pianoroll.evaluation.windows import pieces_of

GENERATED: RGB = (248, 146, 74)
REFERENCE: RGB = (63, 155, 224)
_COLUMNS = 5
_PANEL, _GAP, _MARGIN, _HEAD = (324, 218), 14, 28, 92
_PAD, _PLOT_TOP, _PLOT_BOTTOM = 14, 60, 30
_OPACITY, _FAINTEST = 0.34, 0.003  # of areas; the share of its peak at which a curve ends
_HEADROOM = 1.02  # of the axes above the highest value
_NEAR = 0.05  # of the distance of ticks: how far beyond the edge one is drawn at the edge
_FEATURES_SHOWN = 8  # features that stand on the page
_COPY_BARS = 32  # most bars of a histogram of shared runs
_VOICES = {Voices.all: "Copies, all voices", Voices.top: "Copies, top line"}


def draw_report(
    comparison: MusicComparison, *, title: str = "", subtitle: str = "", theme: Theme | None = None
) -> Image.Image:
    """The page: core metrics, the summary, further metrics, the classifier, the form, and what is shared."""
    theme = theme or make_theme()
    core = [one for one in comparison.metrics if one.metric.core]
    further = [one for one in comparison.metrics if not one.metric.core]
    told, formed = comparison.two_sample, any(np.isfinite(one.best).any() for one in comparison.form)
    panels = len(core) + 1 + len(further) + 2 * (told is not None) + 2 * formed + len(comparison.copies)
    rows = -(-panels // _COLUMNS)
    width = 2 * _MARGIN + _COLUMNS * _PANEL[0] + (_COLUMNS - 1) * _GAP
    height = _HEAD + rows * (_PANEL[1] + _GAP) - _GAP + _MARGIN
    image = Image.new("RGB", (width, height), theme.background)
    large, heading, text, small = (load_font(size) for size in (52, 24, 16, 13))
    page = Canvas(image, ImageDraw.Draw(image), theme, large, heading, text, small, pad_px=_PAD, line=0.3, label=0.6)
    _draw_heading(page, title or "Generated music against real music", subtitle or _summary_of(comparison))
    boxes = grid((_MARGIN, _HEAD, width - _MARGIN, height - _MARGIN), rows, _COLUMNS, _GAP)
    for one in core:
        _draw_metric(page, next(boxes), one)
    _draw_summary(page, next(boxes), comparison)
    for one in further:
        _draw_metric(page, next(boxes), one)
    if told:
        _draw_judges(page, next(boxes), told)
        _draw_features(page, next(boxes), told)
    if formed:
        _draw_form(page, next(boxes), comparison, exact=False)
        _draw_form(page, next(boxes), comparison, exact=True)
    for copies in comparison.copies:
        _draw_copies(page, next(boxes), copies, comparison)
    return image


def _summary_of(comparison: MusicComparison) -> str:
    pieces = len(pieces_of(comparison.reference))
    steps = comparison.reference[0].cells.shape[1]
    return (
        f"{len(comparison.generated)} generated windows and {len(comparison.reference)} windows of {pieces} real pieces"
        f", {steps} steps each"
    )


def _draw_heading(page: Canvas, title: str, subtitle: str) -> None:
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


def _draw_panel(page: Canvas, box: Box, title: str, under: str, figure: str, beside: str) -> None:
    """Draw the ground of a panel, and what it shows at its head."""
    page.draw.rounded_rectangle(box, 6, fill=page.theme.mix(0.045))
    page.titles(box, title, figure, under, beside, font=page.text)


def _draw_metric(page: Canvas, box: Box, one: Compared) -> None:
    real = f" · real {one.real:.2f}" if np.isfinite(one.real) else ""
    beside = f"{_range(one.overlap)}{real}"
    _draw_panel(page, box, one.metric.label, one.metric.unit, _figure(one.overlap.value), beside)
    plot = _plot_of(box)
    if not np.isfinite(one.overlap.value):
        page.write_middle(box, "undefined in these windows")
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
    curves = ((reference[part], REFERENCE), (generated[part], GENERATED))
    x, highest = (float(at[part][0]), float(at[part][-1])), max(float(curve.max()) for curve, _ in curves)
    axes = Axes(page, plot, x, (0, highest * _HEADROOM))
    for curve, colour in curves:
        axes.area(at[part], curve, colour, _OPACITY)
    for curve, colour in curves:
        axes.curve(at[part], curve, colour)
    values = np.concatenate([one.generated, one.reference])
    numbers = ticks(x, 6, _NEAR)
    half = (numbers[1] - numbers[0]) / 2 if len(numbers) > 1 else np.inf
    numbers = [number for number in numbers if np.nanmin(values) - half <= number <= np.nanmax(values) + half]
    axes.x_axis(numbers, [tick_text(number) for number in numbers])


def _draw_summary(page: Canvas, box: Box, comparison: MusicComparison) -> None:
    page.draw.rounded_rectangle(box, 6, fill=page.theme.mix(0.045), outline=page.theme.mix(0.25))
    left, top, room = box[0] + _PAD, box[1], _PANEL[0] - 2 * _PAD
    figure = _figure(comparison.mean.value)
    page.write((left, top + 66), figure, 0.97, page.title)
    beside = left + page.title.width(figure) + 14
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


def _draw_judges(page: Canvas, box: Box, told: TwoSample) -> None:
    """Draw the AUC of the forest by all features and by each family, as dots with their intervals."""
    _draw_panel(page, box, "Told apart", "by a forest: AUC", f"{told.forest.value:.3f}", _range(told.forest))
    left, top, right, bottom = _plot_of(box)
    classifiers = {"logistic": told.logistic} | told.families
    low = min(0.4, *(one.low for one in classifiers.values()))
    plot = (left + max(map(page.small.width, classifiers)) + 10, top, right - 40, bottom)
    axes = Axes(page, plot, (low, 1.0), (len(classifiers), 0))
    axes.curve(np.array([0.5, 0.5]), np.array([0, len(classifiers)]), page.theme.mix(0.4), 1.0)
    for row, (name, one) in enumerate(classifiers.items()):
        y = row + 0.5
        down = float(axes.at(0.5, y)[1])
        page.write((left, down), name, 0.8, page.small, "lm")
        page.write((right, down), f"{one.value:.2f}", 0.8, page.small, "rm")
        axes.curve(np.array([one.low, one.high]), np.array([y, y]), _soft(page.theme, GENERATED))
        axes.dots(np.array([one.value]), np.array([y]), GENERATED)
    numbers = ticks((low, 1.0), 4)
    axes.x_axis(numbers, [tick_text(number) for number in numbers])


def _draw_features(page: Canvas, box: Box, told: TwoSample) -> None:
    """Write the features that tell the two apart best on their own."""
    _draw_panel(page, box, "Given away by", "a feature alone: AUC, means", "", "generated, real")
    right, columns = box[2] - _PAD, (0, 46, 92)
    for row, one in enumerate(told.features[:_FEATURES_SHOWN]):
        down = box[1] + 66 + 15 * row
        texts = f"{one.reference:.3g}", f"{one.generated:.3g}", f"{one.strength:.2f}"
        for across, text, colour in zip(columns, texts, (REFERENCE, GENERATED, page.theme.mix(0.9)), strict=True):
            page.draw.text((right - across, down), text, colour, page.small.face, "rs")
        room = right - columns[-1] - 34 - box[0] - _PAD
        page.write((box[0] + _PAD, down), page.small.fit(one.feature.label, room), 0.8, page.small)


def _draw_form(page: Canvas, box: Box, comparison: MusicComparison, *, exact: bool) -> None:
    """Draw the match of a bar with an earlier one by lag: the one so many bars back, or the best from there on."""
    ours, theirs = (one.at_lag if exact else one.best for one in comparison.form)
    recall = [one.recall.value for one in comparison.form]
    if exact:
        _draw_panel(page, box, "Form, bar by bar", "match with the bar so many back", "", "")
    else:
        returns = " / ".join(f"{one.returns:.0%}" for one in comparison.form if np.isfinite(one.returns))
        beside = f"{returns} return" if returns else ""
        figure = f"{_figure(recall[0])} / {_figure(recall[1])}" if np.isfinite(recall).any() else ""
        _draw_panel(page, box, "Form", "best match from so far back", figure, beside)
    known = np.flatnonzero(np.isfinite(ours) | np.isfinite(theirs))
    last = float(LAGS[known[-1]]) if len(known) else 1.0
    highest = max(np.nanmax(side, initial=0.0) for side in (ours, theirs))
    left, top, right, bottom = _plot_of(box)
    axes = Axes(page, (left + 30, top, right, bottom), (1.0, max(last, 2.0)), (0, max(highest * _HEADROOM, 0.1)))
    axes.y_axis(ticks(axes.y, 4))
    for side, colour in ((theirs, REFERENCE), (ours, GENERATED)):
        shown = np.isfinite(side)
        if shown.sum() > 1:
            axes.curve(LAGS[shown], side[shown], colour)
    if last >= RECALL_LAG and not exact:
        axes.upright(RECALL_LAG, "", page.theme.mix(0.4))
    numbers = [lag for lag in (1, 4, 8, 16, 24, 32, 48, 63) if lag <= last]
    axes.x_axis(numbers, [str(number) for number in numbers])


def _draw_copies(page: Canvas, box: Box, copies: Copies, comparison: MusicComparison) -> None:
    longest, window = max(
        zip((one.longest for one in copies.generated), comparison.generated, strict=True),
        key=lambda pair: (pair[0].steps, pair[0].notes),
    )
    held_out = [one.longest.steps for one in copies.held_out]
    beside = f"held-out pieces {max(held_out)}" if held_out else "no held-out piece"
    figure = f"{longest.steps} step{'s' * (longest.steps != 1)}"
    _draw_panel(page, box, _VOICES[copies.voices], "longest shared run", figure, beside)
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


def _draw_bars(page: Canvas, plot: Box, labels: Sequence[str], generated: np.ndarray, reference: np.ndarray) -> None:
    """A pair of bars for every class: reference behind, generated before it and narrower."""
    axes = Axes(page, plot, (0, len(labels)), (0, max(float(generated.max()), float(reference.max()))))
    edges = np.arange(len(labels) + 1)
    axes.bars(edges, reference, _soft(page.theme, REFERENCE), inset=0.08)
    axes.bars(edges, generated, GENERATED, inset=0.3)
    each = (plot[2] - plot[0]) / len(labels)
    every = next(n for n in (1, 2, 4, 8, 16, 32, 64) if n * each >= page.small.width("000") + 8)
    axes.x_axis([number + 0.5 for number in range(0, len(labels), every)], labels[::every], tick_px=0)


def _soft(theme: Theme, colour: RGB) -> RGB:
    return blend(theme.background, colour, 0.55)


def _figure(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "none"


def _range(interval: Interval) -> str:
    return f"{interval.low:.2f}-{interval.high:.2f}" if np.isfinite(interval.low) else ""
