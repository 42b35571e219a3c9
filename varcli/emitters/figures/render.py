"""Super-resolution images: each emitter drawn as the Gaussian of its own uncertainty, or counted.

Legend: E emitters; H W pixels of the image.
"""

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from varcli.colours import RGB, Font, colormap_table, load_font, parse_colour
from varcli.compiled import kernel
from varcli.emitters.stack.writer import tiff_tags
from varcli.emitters.table import EmitterTable
from varcli.errors import VarError
from varcli.files import atomic_write

_REACH = 3.5  # standard deviations that are drawn; what lies beyond (0.05%) is shared out among the pixels within
_STEPS = 1024  # entries of the table of the normal distribution per standard deviation
_LARGEST_PNG = 4096  # pixels; a larger image is summed down for the picture, the TIFF keeps all of it
_SMALLEST_PNG = 256
_TILE = 512
_ZLIB_LEVEL = 1  # higher levels take several times as long and save little of what is noise
_ROWS_AT_ONCE = 500_000  # of a table, so that memory is that of the image whatever the table's length
_BAND_BYTES, _LEAST_BAND, _MOST_BANDS = 2**21, 32, 64  # of the image that is drawn at a time: bytes, rows, how many
_WORTH_THREADS = 20_000  # emitters


@dataclass(frozen=True)
class Rendering:
    """How to draw a table: pixels of `pixel_nm` (None: no image), `style` (None: Gaussians where there are
    uncertainties), the TIFF in 16 bits or as float32, the colours of the PNG."""

    pixel_nm: float | None
    style: Literal["gaussian", "histogram"] | None = None
    sixteen_bit: bool = False
    colormap: str = "inferno"


class Renderer:
    """An image of `pixel_nm` wide pixels that emitters are added to; memory is that of the image alone.

    `image_HW` is float32 and sums to the number of emitters inside; `left_out` counts those that could not be drawn,
    for want of a finite position or uncertainty. Equal emitters in equal order give equal bytes, however they are
    shared out.
    """

    def __init__(self, height_nm: float, width_nm: float, pixel_nm: float) -> None:
        assert pixel_nm > 0
        self.pixel_nm = pixel_nm
        height, width = (max(1, math.ceil(round(side / pixel_nm, 6))) for side in (height_nm, width_nm))
        try:
            self.image_HW = np.zeros((height, width), np.float32)
        except MemoryError:
            message = f"an image of {width}x{height} pixels does not fit in memory"
            raise VarError(message, "choose larger pixels: --render NM") from None
        self.left_out = 0
        self._normal = _normal_table()

    def draw(self, table: EmitterTable, style: Literal["gaussian", "histogram"] | None = None) -> bool:
        """Draw every emitter, by default as a Gaussian where the table has uncertainties; returns whether it did."""
        gaussian = style != "histogram" and table.sd_x_nm is not None and table.sd_y_nm is not None
        self.add(table) if gaussian else self.count(table)
        return gaussian

    def add(self, table: EmitterTable) -> None:
        """Draw every emitter as a Gaussian of its uncertainty; the table must have uncertainties of x and y."""
        assert table.sd_x_nm is not None and table.sd_y_nm is not None, "a table without uncertainties"
        columns = (table.x_nm, table.y_nm, table.sd_x_nm, table.sd_y_nm)
        for x, y, sd_x, sd_y in self._parts(columns):
            drawable = np.isfinite(x) & np.isfinite(y) & np.isfinite(sd_x) & np.isfinite(sd_y) & (sd_x > 0) & (sd_y > 0)
            if not drawable.all():
                self.left_out += int(len(x) - drawable.sum())
                x, y, sd_x, sd_y = x[drawable], y[drawable], sd_x[drawable], sd_y[drawable]
            self._draw(x, y, sd_x, sd_y)

    def count(self, table: EmitterTable) -> None:
        """Count every emitter in its pixel: a histogram."""
        for x, y in self._parts((table.x_nm, table.y_nm)):
            self.left_out += int(len(x) - (np.isfinite(x) & np.isfinite(y)).sum())
            _count(self.image_HW, x, y)

    def _parts(self, columns_nm: tuple[np.ndarray, ...]) -> Iterator[list[np.ndarray]]:
        """The columns in pixels, a part of the rows at a time."""
        for start in range(0, len(columns_nm[0]), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            yield [np.ascontiguousarray(column[part], np.float64) / self.pixel_nm for column in columns_nm]

    def _draw(self, x: np.ndarray, y: np.ndarray, sd_x: np.ndarray, sd_y: np.ndarray) -> None:
        """Draw emitters band by band: each band fits in the processor's cache, and threads never share one.

        Every pixel gets its emitters in their order, so that bytes do not depend on bands or threads.
        """
        height, width = self.image_HW.shape
        rows = max(_LEAST_BAND, _BAND_BYTES // (4 * width), -(-height // _MOST_BANDS))
        starts = range(0, height, rows)

        def draw(start: int) -> None:
            _add_gaussians(self.image_HW, start, min(start + rows, height), x, y, sd_x, sd_y, self._normal)

        if len(starts) == 1 or len(x) < _WORTH_THREADS:
            for start in starts:
                draw(start)
            return
        with ThreadPoolExecutor(min(len(starts), os.cpu_count() or 1)) as pool:
            list(pool.map(draw, starts))

    def save_tiff(self, path: Path, *, sixteen_bit: bool = False) -> None:
        """Write the image with its pixel size in the resolution tags, in tiles where it is large.

        Float32 holds emitters per pixel; 16-bit runs from 0 to the brightest pixel.
        """
        import tifffile

        image = self.image_HW
        scale, kind = None, np.dtype(np.float32)
        description = f'{{"pixel_size_nm": {self.pixel_nm:g}, "unit": "emitters per pixel"}}'
        if sixteen_bit:
            top = float(image.max()) or 1.0
            scale, kind = 65535 / top, np.dtype(np.uint16)
            description = f'{{"pixel_size_nm": {self.pixel_nm:g}, "emitters_per_step": {top / 65535:.9g}}}'
        tiled = max(image.shape) > 4 * _TILE
        with atomic_write(path) as part:
            tifffile.imwrite(
                part,
                _tiles(image, scale) if tiled else _stepped(image, scale),
                shape=image.shape,
                dtype=kind,
                tile=(_TILE, _TILE) if tiled else None,
                compression="zlib" if tiled else None,
                compressionargs={"level": _ZLIB_LEVEL} if tiled else None,
                description=description,
                software=None,
                bigtiff=image.nbytes > 2**31,
                **tiff_tags(self.pixel_nm),
            )

    def save(self, tiff: Path, png: Path, rendering: Rendering) -> None:
        """Write the image as TIFF and as PNG."""
        self.save_tiff(tiff, sixteen_bit=rendering.sixteen_bit)
        self.save_png(png, rendering.colormap)

    def save_png(self, path: Path, colormap: str = "inferno") -> None:
        """Write a picture with a scale bar: square root of brightness, the brightest 0.5% of drawn pixels clipped.

        Images beyond 4096 pixels are summed down by a whole factor, small ones enlarged by one.
        """
        image, pixel_nm = self._for_screen()
        picture = coloured(image, colormap)
        draw_scale_bar(picture, pixel_nm)
        with atomic_write(path) as part:
            picture.save(part, format="PNG")

    def _for_screen(self) -> tuple[np.ndarray, float]:
        """The image at a size for a picture, and the size of its pixels."""
        image, side = self.image_HW, max(self.image_HW.shape)
        if side > _LARGEST_PNG:
            factor = -(-side // _LARGEST_PNG)
            return summed_down(image, factor), self.pixel_nm * factor
        factor = -(-_SMALLEST_PNG // side) if side < _SMALLEST_PNG else 1
        if factor == 1:
            return image, self.pixel_nm
        return image.repeat(factor, 0).repeat(factor, 1), self.pixel_nm / factor


def _tiles(image_HW: np.ndarray, scale: float | None) -> Iterator[np.ndarray]:
    """The image's tiles, row by row, those at its edges filled up with 0."""
    height, width = image_HW.shape
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            tile = _stepped(image_HW[top : top + _TILE, left : left + _TILE], scale)
            yield np.pad(tile, ((0, _TILE - tile.shape[0]), (0, _TILE - tile.shape[1])))


def _stepped(image_HW: np.ndarray, scale: float | None) -> np.ndarray:
    """The image as it is, or times `scale` in whole steps of 16 bits."""
    return image_HW if scale is None else np.round(image_HW * scale).astype(np.uint16)


def summed_down(image_HW: np.ndarray, factor: int) -> np.ndarray:
    """The image in pixels that are `factor` times wider and higher; those of the last row and column may be cut."""
    rows, columns = (np.arange(0, length, factor) for length in image_HW.shape)
    return np.add.reduceat(np.add.reduceat(image_HW, rows, 0), columns, 1)


def coloured(image_HW: np.ndarray, colormap: str = "inferno") -> Image.Image:
    """A picture of an image: square root of brightness, the brightest 0.5% of drawn pixels clipped."""
    drawn = image_HW[image_HW > 0]
    top = float(np.percentile(drawn[:: max(1, drawn.size // 1_000_000)], 99.5)) if drawn.size else 1.0
    levels = np.sqrt(np.clip(image_HW / top, 0, 1))
    return Image.fromarray(colormap_table(colormap)[np.round(levels * 255).astype(np.uint8)])


def scale_bar_nm(width_nm: float) -> float:
    """The roundest length (1, 2 or 5 times a power of ten) that is at most a quarter of a picture's width."""
    power = 10.0 ** math.floor(math.log10(width_nm / 4))
    return max(step * power for step in (1, 2, 5) if step * power <= width_nm / 4)


def length_text(length_nm: float) -> str:
    """A length as it stands beside a scale bar: 200 nm, 5 µm."""
    return f"{length_nm / 1000:g} µm" if length_nm >= 1000 else f"{length_nm:g} nm"


def draw_scale_bar(picture: Image.Image, pixel_nm: float) -> None:
    """A white bar with its length, low on the right, on a dark edge so that it shows on bright ground too."""
    bar_nm = scale_bar_nm(picture.width * pixel_nm)
    length, thick = round(bar_nm / pixel_nm), max(2, picture.width // 130)
    margin = max(6, picture.width // 40)
    font = load_font(max(13, picture.width // 32))
    text = length_text(bar_nm)
    right, bottom = picture.width - margin, picture.height - margin
    draw = ImageDraw.Draw(picture)
    ink, edge = parse_colour("white"), parse_colour("black")
    draw.rectangle((right - length - 1, bottom - thick - 1, right + 1, bottom + 1), fill=edge)
    draw.rectangle((right - length, bottom - thick, right, bottom), fill=ink)
    width = font.width(text.replace("µ", "u"))
    place = (min(right - (length + width) / 2, right - width), bottom - thick - font.line_px - 2)
    _write(draw, place, text, font, ink, edge)


def _write(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, font: Font, ink: RGB, edge: RGB) -> None:
    """Write a text on a dark edge; the bundled font has no µ, so a u gets its stem here."""
    plain = text.replace("µ", "u")
    letters = Image.new("L", (font.width(plain) + 4, font.line_px + 4))
    drawn = ImageDraw.Draw(letters)
    drawn.text((2, 2), plain, 255, font.face)
    if "µ" in text:
        mask = font.face.getmask("u")
        width, height = mask.size
        stem = [x for x in range(width // 2) if mask.getpixel((x, height // 2)) >= 128]
        start = 2 + round(font.face.getlength(plain[: text.index("µ")]))
        top = 2 + round(font.face.getbbox("u")[1])
        drawn.rectangle((start + stem[0], top, start + stem[-1], top + round(1.3 * height)), fill=255)
    corner = (round(place[0]) - 2, round(place[1]) - 2)
    draw.bitmap(corner, letters.filter(ImageFilter.MaxFilter(3)), fill=edge)
    draw.bitmap(corner, letters, fill=ink)


def _normal_table() -> np.ndarray:
    """The normal distribution's integral from -(reach + 1) on, in steps; linear between them it is right to 2e-7."""
    from scipy.special import ndtr

    reach = math.ceil(_REACH) + 1
    return ndtr(np.arange(-reach * _STEPS, reach * _STEPS + 2) / _STEPS)


@kernel()
def _share(at: float, sd: float, length: int, normal: np.ndarray, into: np.ndarray) -> tuple[int, int]:
    """What each of the pixels from the first returned on gets of an emitter along one axis, and how many there are."""
    first = max(0, math.floor(at - _REACH * sd))
    last = min(length - 1, math.floor(at + _REACH * sd))
    middle = (len(normal) - 2) // 2
    scale = _STEPS / sd
    low = normal[middle - round(_REACH * _STEPS)]
    whole = 1 - 2 * low
    before = -1.0
    for edge in range(first, last + 2):
        place = (edge - at) * scale
        place = min(max(place, -_REACH * _STEPS), _REACH * _STEPS) + middle
        step = int(place)
        value = normal[step] + (normal[step + 1] - normal[step]) * (place - step)
        if edge > first:
            into[edge - first - 1] = (value - before) / whole
        before = value
    return first, last - first + 1


@kernel()
def _add_gaussians(
    image: np.ndarray,
    start: int,
    stop: int,
    x: np.ndarray,
    y: np.ndarray,
    sd_x: np.ndarray,
    sd_y: np.ndarray,
    normal: np.ndarray,
) -> None:
    """Add what lies in the rows from `start` to before `stop` of pixel-integrated Gaussians of weight 1, all in pixels.

    Only emitters [E] that can be drawn may come.
    """
    height, width = image.shape
    across, down = np.empty(width + 1), np.empty(height + 1)
    for e in range(len(x)):
        reach_x, reach_y = _REACH * sd_x[e], _REACH * sd_y[e]
        if not (start < y[e] + reach_y and y[e] - reach_y < stop and x[e] + reach_x > 0 and x[e] - reach_x < width):
            continue
        column, columns = _share(x[e], sd_x[e], width, normal, across)
        row, rows = _share(y[e], sd_y[e], height, normal, down)
        for i in range(max(row, start), min(row + rows, stop)):
            for j in range(columns):
                image[i, column + j] += np.float32(down[i - row] * across[j])


@kernel()
def _count(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Add 1 to the pixel of every emitter inside, in pixels [E]."""
    height, width = image.shape
    for e in range(len(x)):
        if 0 <= x[e] < width and 0 <= y[e] < height:
            image[int(y[e]), int(x[e])] += np.float32(1)
