"""One page of a table for the notebook: the rendered image, its figures of quality, and the drift."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from varcli.charts import Box, Canvas, draw_axes, grid, tick_text
from varcli.colours import RGB, blend, load_font, make_theme
from varcli.emitters.figures.render import Renderer
from varcli.emitters.figures.views import draw_views
from varcli.emitters.post.drift import Drift
from varcli.emitters.post.frc import THRESHOLD, Frc
from varcli.emitters.post.nena import Nena
from varcli.emitters.post.quality import Histogram, Quality
from varcli.files import atomic_write

BLUE: RGB = (31, 103, 176)
ORANGE: RGB = (214, 93, 20)
_BARS: RGB = blend((255, 255, 255), BLUE, 0.55)
_SIZE = (1600, 1100)
_MARGIN, _GAP, _HEAD = 26, 14, 90
_LEFT = 606  # width of the column with the image
_INSET = 354  # side of the detail and height of the summary beside it
_HEADROOM = 1.12  # of the axes above the highest value
_FRC_SHOWN = 2.5  # of the crossing's frequency: where the curve ends


@dataclass(frozen=True)
class TableSummary:
    """The words of the page: its file, the camera's pixel, what was done to it; and the colours of the image."""

    file: str
    camera_pixel_nm: float | None = None
    steps: tuple[str, ...] = ()
    colormap: str = "inferno"


def draw_page(quality: Quality, summary: TableSummary, renderer: Renderer, drift: Drift | None, path: Path) -> None:
    """Write the page of `page_image` as PNG; raises VarError where it cannot be written."""
    image = page_image(quality, summary, renderer, drift)
    with atomic_write(path) as part:
        image.save(part, format="PNG")


def page_image(quality: Quality, summary: TableSummary, renderer: Renderer, drift: Drift | None) -> Image.Image:
    """The page, 1600 x 1100 pixels: the image with a detail and the figures on the left, six plots on the right.

    `drift` is what was taken off the table, None where nothing was. What could not be measured is explained in words.
    """
    theme = make_theme("#ffffff")
    image = Image.new("RGB", _SIZE, theme.background)
    title, heading, text, small = (load_font(size) for size in (27, 18, 17, 14))
    canvas = Canvas(image, ImageDraw.Draw(image), theme, title, heading, text, small)
    _draw_heading(canvas, quality, summary, renderer.pixel_nm)
    right, bottom = _MARGIN + _LEFT, _SIZE[1] - _MARGIN
    whole, detail = draw_views(renderer, _LEFT, bottom - _INSET - _GAP - _HEAD, _INSET, summary.colormap)
    image.paste(whole, (_MARGIN, _HEAD))
    image.paste(detail, (_MARGIN, bottom - _INSET))
    _draw_summary(canvas, quality, drift, (_MARGIN + _INSET + _GAP, bottom - _INSET, right, bottom))
    boxes = grid((right + _GAP, _HEAD, _SIZE[0] - _MARGIN, bottom), 3, 2, _GAP)
    _draw_histogram(canvas, next(boxes), "Photons", "photons", quality.photons, quality.missing.get("photons"))
    spread, why = quality.uncertainty_xy_nm, quality.missing.get("uncertainty_xy_nm")
    _draw_histogram(canvas, next(boxes), "Uncertainty", "uncertainty of x and y (nm)", spread, why)
    _draw_over_time(canvas, next(boxes), quality)
    _draw_nena(canvas, next(boxes), quality.nena, quality.missing.get("nena"))
    _draw_frc(canvas, next(boxes), quality.frc, quality.missing.get("frc"))
    _draw_drift(canvas, next(boxes), drift)
    return image


def _draw_heading(canvas: Canvas, quality: Quality, summary: TableSummary, pixel_nm: float) -> None:
    room = _SIZE[0] - 2 * _MARGIN
    canvas.write((_MARGIN, 44), canvas.title.fit(summary.file, room), 0.95, canvas.title)
    parts = [
        f"{quality.localizations:,} localisations",
        f"frames {quality.first_frame:,} to {quality.last_frame:,}",
        *([f"camera pixel {summary.camera_pixel_nm:g} nm"] if summary.camera_pixel_nm else []),
        f"image pixel {pixel_nm:g} nm",
        *summary.steps,
    ]
    canvas.write((_MARGIN, 72), canvas.text.fit("  ·  ".join(parts), room), 0.65, canvas.text)


def _draw_summary(canvas: Canvas, quality: Quality, drift: Drift | None, box: Box) -> None:
    canvas.panel(box, "Figures")
    photons, background, spread = quality.photons, quality.background, quality.uncertainty_xy_nm
    resolution = quality.frc.resolution_nm if quality.frc else None
    lines = [
        ("localisations", f"{quality.localizations:,}"),
        ("per frame, mean", f"{quality.localizations_per_frame:.3g}"),
        ("photons, median", f"{photons.median:.0f}" if photons else "none"),
        ("background, median", f"{background.median:.3g}" if background else "none"),
        ("uncertainty, median", f"{spread.median:.1f} nm" if spread else "none"),
        ("precision (NeNA)", f"{quality.nena.precision_nm:.1f} nm" if quality.nena else "none"),
        ("resolution (FRC)", f"{resolution:.1f} nm" if resolution else "none"),
        ("drift, largest", f"{_largest_nm(drift):.0f} nm" if drift else "none"),
    ]
    for number, (name, figure) in enumerate(lines):
        y = box[1] + 68 + 36 * number
        canvas.write((box[0] + 16, y), name, 0.7, canvas.small)
        canvas.write((box[2] - 16, y), figure, 0.95, canvas.small, "rs")
        canvas.draw.line((box[0] + 16, y + 12, box[2] - 16, y + 12), fill=canvas.theme.mix(0.1))


def _largest_nm(drift: Drift) -> float:
    """The farthest from where the sample was at first."""
    return float(np.hypot(drift.x_nm, drift.y_nm).max())


def _draw_histogram(
    canvas: Canvas, box: Box, title: str, label: str, values: Histogram | None, missing: str | None
) -> None:
    if values is None:
        canvas.panel(box, title)
        canvas.write_middle(box, missing or "not measured")
        return
    nm = "(nm)" in label
    more = f", {values.beyond:,} beyond the axis" if values.beyond else ""
    more += f", {values.not_finite:,} not finite" if values.not_finite else ""
    canvas.panel(
        box,
        title,
        f"median {values.median:.1f} nm" if nm else f"median {values.median:.0f}",
        f"localisations per bin{more}",
    )
    top = max(1.0, values.counts.max() * _HEADROOM)
    axes = draw_axes(canvas, box, (float(values.edges[0]), float(values.edges[-1])), (0, top), label)
    axes.bars(values.edges, values.counts, _BARS)
    axes.upright(values.median, "", ORANGE)


def _draw_over_time(canvas: Canvas, box: Box, quality: Quality) -> None:
    stretch = (quality.last_frame - quality.first_frame + 1) / len(quality.over_time)
    under = f"mean of stretches of about {stretch:.0f} frames" if stretch > 1.5 else "every frame"
    canvas.panel(box, "Localisations per frame", f"mean {quality.localizations_per_frame:.3g}", under)
    end = quality.last_frame + 1
    top = max(float(quality.over_time.max()) * _HEADROOM, 1e-9)
    axes = draw_axes(canvas, box, (float(quality.first_frame), float(end)), (0, top), "frame")
    axes.bars(np.append(quality.stretch_frame, end), quality.over_time, _BARS)


def _draw_nena(canvas: Canvas, box: Box, nena: Nena | None, missing: str | None) -> None:
    if nena is None:
        canvas.panel(box, "Precision (NeNA)")
        canvas.write_middle(box, missing or "not measured")
        return
    figure = f"{nena.precision_nm:.2f} ± {nena.error_nm:.2f} nm"
    canvas.panel(box, "Precision (NeNA)", figure, "nearest neighbours in consecutive frames; line: fit")
    half = (nena.distance_nm[1] - nena.distance_nm[0]) / 2
    edges = np.append(nena.distance_nm - half, nena.distance_nm[-1] + half)
    top = float(max(nena.counts.max(), nena.fitted.max())) * _HEADROOM
    axes = draw_axes(canvas, box, (0, float(edges[-1])), (0, top), "distance (nm)")
    axes.bars(edges, nena.counts, _BARS)
    axes.curve(nena.distance_nm, nena.fitted, ORANGE)


def _draw_frc(canvas: Canvas, box: Box, frc: Frc | None, missing: str | None) -> None:
    if frc is None:
        canvas.panel(box, "Resolution (FRC)")
        canvas.write_middle(box, missing or "not measured")
        return
    resolution = frc.resolution_nm
    figure = f"{resolution:.1f} nm" if resolution else "beyond the pixels"
    spread = f", spread {frc.spread_nm:.1f} nm" if frc.spread_nm is not None else ""
    canvas.panel(box, "Resolution (FRC)", figure, frc.reason or f"correlation of halves, {frc.splits} splits{spread}")
    end = float(frc.frequency_per_nm[-1])
    end = min(end, _FRC_SHOWN / resolution) if resolution else end
    low = min(0.0, float(frc.curve[frc.frequency_per_nm <= end].min()))
    axes = draw_axes(canvas, box, (0, end), (max(low, -0.25), 1.05), "spatial frequency (1/nm)")
    axes.curve(frc.frequency_per_nm, frc.curve, canvas.theme.mix(0.3), 1)
    axes.curve(frc.frequency_per_nm, frc.smooth, BLUE, 2.5)
    axes.level(THRESHOLD, "1/7")
    if resolution:
        axes.upright(1 / resolution, f"{resolution:.1f} nm", ORANGE)
        axes.dots(np.array([1 / resolution]), np.array([THRESHOLD]), ORANGE, 5)


def _draw_drift(canvas: Canvas, box: Box, drift: Drift | None) -> None:
    if drift is None:
        canvas.panel(box, "Drift")
        canvas.write_middle(box, "no drift correction")
        return
    under = f"nm; dots: {len(drift.segment_frame)} segments; residual {drift.residual_nm:.1f} nm rms"
    canvas.panel(box, "Drift", "", under)
    both = np.concatenate([drift.x_nm, drift.y_nm, drift.segment_x_nm, drift.segment_y_nm])
    low, high = float(both.min()), float(both.max())
    room = max(high - low, 1.0) * 0.06
    ends = (float(drift.frame[0]), float(max(drift.frame[-1], drift.frame[0] + 1)))
    axes = draw_axes(canvas, box, ends, (low - room, high + room), "frame")
    right = box[2] - 16
    for name, curve, dots, colour in (
        ("y", drift.y_nm, drift.segment_y_nm, ORANGE),
        ("x", drift.x_nm, drift.segment_x_nm, BLUE),
    ):
        axes.curve(drift.frame[:: max(1, len(drift.frame) // 2000)], curve[:: max(1, len(curve) // 2000)], colour, 2.5)
        axes.dots(drift.segment_frame, dots, colour)
        text = f"{name} to {tick_text(round(float(curve[-1])))} nm"
        canvas.draw.text((right, box[1] + 26), text, colour, canvas.heading.face, "rs")
        right -= canvas.heading.width(text) + 18
