"""The map of expected emitters as a float32 TIFF, and pictures of how the network goes from coarse to fine.

Legend: n frames, Y X cells or pixels, H W pixels of a picture.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from varcli.colours import colormap_table, load_font, make_theme
from varcli.emitters.pipeline.localize import map_shape
from varcli.emitters.pipeline.survey import Microscope, Network
from varcli.emitters.stack.stack import Stack
from varcli.emitters.stack.window import Window
from varcli.emitters.stack.writer import tiff_tags
from varcli.errors import VarError
from varcli.files import atomic_write

_PANEL_PX = 360
_GAP_PX = 14
_GIF_SIDE = 512
_RING = "#35e0c8"


@dataclass(frozen=True)
class Progress:
    """One frame, coarse to fine: photoelectrons [Y, X], and by scale the expected counts [Y, X] and how many cells
    were worked out of how many; detections (px from the window's corner)."""

    frame: int
    frame_e: np.ndarray
    counts: dict[int, np.ndarray]
    cells: dict[int, tuple[int, int]]
    x_px: np.ndarray
    y_px: np.ndarray


def save_map(
    path: Path, maps: Iterator[np.ndarray], frames: int, shape: tuple[int, int], cell_nm: float, unit: str
) -> None:
    """Write `frames` maps, float32 of `shape`, one page each, with the size of a cell in the resolution tags.

    Raises VarError when the disk is full or the place cannot be written.
    """
    import tifffile

    with atomic_write(path) as part:
        tifffile.imwrite(
            part,
            maps,
            shape=(frames, *shape),
            dtype=np.float32,
            description=f'{{"cell_size_nm": {cell_nm:g}, "unit": "{unit}"}}',
            software=None,
            bigtiff=4 * frames * shape[0] * shape[1] > 2**31,
            **tiff_tags(cell_nm),
        )


def progress_of(
    stack: Stack, window: Window, network: Network, microscope: Microscope, scales: list[int], threshold: float
) -> Progress:
    """The first frame of a window through all `scales`."""
    frame_e = microscope.camera.to_electrons(window.read(stack, window.first, window.first + 1))
    prediction = network.predict(frame_e, microscope.conditions, threshold=threshold, scales=tuple(scales))
    counts = {}
    for scale in scales:
        rows, columns = map_shape(window, scale)
        counts[scale] = prediction.counts[scale][0, :rows, :columns]
    cells = {scale: (prediction.cells[scale], prediction.of_cells[scale]) for scale in scales}
    found = prediction.candidates
    return Progress(window.first, frame_e[0], counts, cells, found.x_px, found.y_px)


def save_progress(path: Path, progress: Progress, title: str) -> None:
    """Draw the camera's image and every scale side by side, the detections as rings on each."""
    theme = make_theme()
    font, small = load_font(15), load_font(12)
    Y, X = progress.frame_e.shape
    panels: list[tuple[str, str, np.ndarray, str]] = [
        ("Camera", f"{X}x{Y} pixels", _levels(progress.frame_e, 0.01), "gray")
    ]
    for scale, counts in progress.counts.items():
        rows, columns = counts.shape
        active, total = progress.cells[scale]
        figures = f"{counts.sum():.1f} expected · {100 * active / total:.0f}% of cells"
        panels.append((f"Scale {columns}x{rows}", figures, np.sqrt(counts / max(float(counts.max()), 1e-6)), "inferno"))
    zoom = _PANEL_PX / max(X, Y)
    size = (max(1, round(X * zoom)), max(1, round(Y * zoom)))
    head = font.line_px + _GAP_PX
    label = font.line_px + small.line_px + 6
    width = _GAP_PX + len(panels) * (max(size[0], 150) + _GAP_PX)
    picture = Image.new("RGB", (width, head + label + size[1] + _GAP_PX), theme.background)
    draw = ImageDraw.Draw(picture)
    draw.text((_GAP_PX, _GAP_PX // 2), font.fit(title, width - 2 * _GAP_PX), theme.ink, font.face)
    for number, (name, figures, levels, colormap) in enumerate(panels):
        left, top = _GAP_PX + number * (max(size[0], 150) + _GAP_PX), head + label
        draw.text((left, head), name, theme.ink, font.face)
        draw.text((left, head + font.line_px), figures, theme.mix(0.6), small.face)
        picture.paste(_panel(levels, colormap, size, progress, zoom), (left, top))
    with atomic_write(path) as part:
        picture.save(part, format="PNG")


def _panel(levels: np.ndarray, colormap: str, size: tuple[int, int], progress: Progress, zoom: float) -> Image.Image:
    colours = colormap_table(colormap)[np.round(np.clip(levels, 0, 1) * 255).astype(np.uint8)]
    image = Image.fromarray(colours)
    smaller = image.width > size[0] or image.height > size[1]
    image = image.resize(size, Image.Resampling.BOX if smaller else Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    radius = min(max(zoom * 0.9, 2.0), 7.0)
    for x, y in zip(progress.x_px * zoom, progress.y_px * zoom, strict=True):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=_RING)
    return image


def progress_frames(progress: Progress) -> tuple[np.ndarray, tuple[str, ...]]:
    """Frames u8 [n, H, W] on the finest grid, empty at first, then scale after scale, and what each is called."""
    finest = max(progress.counts)
    rows, columns = progress.counts[finest].shape
    frames, labels = [np.zeros((rows, columns), np.uint8)], ["Init"]
    for scale, counts in progress.counts.items():
        times = finest // scale
        full = counts.repeat(times, 0).repeat(times, 1)[:rows, :columns]
        frames.append(np.round(255 * np.sqrt(full / max(float(full.max()), 1e-6))).astype(np.uint8))
        labels.append(f"Scale {counts.shape[1]}x{counts.shape[0]}")
    stride = math.ceil(max(rows, columns) / _GIF_SIDE)
    if stride > 1:
        # The brightest of the cells that share a pixel: single emitters stay visible.
        edges = np.arange(0, rows, stride), np.arange(0, columns, stride)
        frames = [np.maximum.reduceat(np.maximum.reduceat(f, edges[0], 0), edges[1], 1) for f in frames]
    return np.stack(frames), tuple(labels)


def _levels(image: np.ndarray, clip: float) -> np.ndarray:
    low, high = np.quantile(image, [clip, 1 - clip / 4])
    return (image - low) / max(float(high - low), 1e-9)


def refuse_huge(shape: tuple[int, int], what: str, hint: str) -> None:
    """Raise VarError where an image of `shape` would have more than 2^30 pixels."""
    if shape[0] * shape[1] > 1 << 30:
        raise VarError(f"{what} would have {shape[1]}x{shape[0]} pixels", hint)
