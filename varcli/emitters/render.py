"""Super-resolution images: each emitter drawn as the Gaussian of its own uncertainty, or counted.

Legend: E emitters; H W pixels of the image.
"""

import math
from pathlib import Path

import numpy as np
from numba import njit
from PIL import Image, ImageDraw

from varcli.colours import colormap_table, load_font, parse_colour
from varcli.emitters.table import EmitterTable
from varcli.errors import VarError
from varcli.files import atomic_write

_REACH = 3.5  # standard deviations that are drawn; what lies beyond (0.05%) is shared out among the pixels within
_STEPS = 1024  # entries of the table of the normal distribution per standard deviation
_LARGEST_PNG = 4096  # pixels; a larger image is summed down for the picture, the TIFF keeps all of it
_SMALLEST_PNG = 256
_TILE = 512


class Renderer:
    """An image of `pixel_nm` wide pixels that emitters are added to; memory is that of the image alone.

    `image_HW` is float32 and sums to the number of emitters inside; `left_out` counts those that could not be drawn,
    for want of a finite uncertainty. Equal emitters in equal order give equal bytes, however they are shared out.
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

    def add(self, table: EmitterTable) -> None:
        """Draw every emitter as a Gaussian of its uncertainty; the table must have uncertainties of x and y."""
        assert table.sd_x_nm is not None and table.sd_y_nm is not None, "a table without uncertainties"
        columns = (table.x_nm, table.y_nm, table.sd_x_nm, table.sd_y_nm)
        x, y, sd_x, sd_y = (np.ascontiguousarray(column, np.float64) / self.pixel_nm for column in columns)
        self.left_out += int(_add_gaussians(self.image_HW, x, y, sd_x, sd_y, self._normal))

    def count(self, table: EmitterTable) -> None:
        """Count every emitter in its pixel: a histogram."""
        x, y = table.x_nm / self.pixel_nm, table.y_nm / self.pixel_nm
        height, width = self.image_HW.shape
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        np.add.at(self.image_HW, (y[inside].astype(np.int64), x[inside].astype(np.int64)), 1)

    def save_tiff(self, path: Path, *, sixteen_bit: bool = False) -> None:
        """Write the image with its pixel size in the resolution tags, in tiles where it is large.

        Float32 holds emitters per pixel; 16-bit runs from 0 to the brightest pixel.
        """
        import tifffile

        image = self.image_HW
        description = f'{{"pixel_size_nm": {self.pixel_nm:g}, "unit": "emitters per pixel"}}'
        if sixteen_bit:
            top = float(image.max()) or 1.0
            image = np.round(image * (65535 / top)).astype(np.uint16)
            description = f'{{"pixel_size_nm": {self.pixel_nm:g}, "emitters_per_step": {top / 65535:.9g}}}'
        tile = (_TILE, _TILE) if max(image.shape) > 4 * _TILE else None
        per_cm = 1e7 / self.pixel_nm
        with atomic_write(path) as part:
            tifffile.imwrite(
                part,
                image,
                photometric="minisblack",
                tile=tile,
                compression="zlib" if tile else None,
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                description=description,
                metadata=None,
                software=None,
                bigtiff=image.nbytes > 2**31,
            )

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
        return image.repeat(factor, 0).repeat(factor, 1), self.pixel_nm / factor


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
    """A length as it stands beside a scale bar: 200 nm, 5 um (the bundled font has no letter for micro)."""
    return f"{length_nm / 1000:g} um" if length_nm >= 1000 else f"{length_nm:g} nm"


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
    place = (right - (length + font.width(text)) / 2, bottom - thick - font.line_px - 2)
    draw.text(
        (min(place[0], right - font.width(text)), place[1]), text, ink, font.face, stroke_width=1, stroke_fill=edge
    )


def _normal_table() -> np.ndarray:
    """The normal distribution's integral from -(reach + 1) on, in steps; linear between them it is right to 2e-7."""
    from scipy.special import ndtr

    reach = math.ceil(_REACH) + 1
    return ndtr(np.arange(-reach * _STEPS, reach * _STEPS + 2) / _STEPS)


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _add_gaussians(
    image: np.ndarray, x: np.ndarray, y: np.ndarray, sd_x: np.ndarray, sd_y: np.ndarray, normal: np.ndarray
) -> int:
    """Add pixel-integrated Gaussians of weight 1, all in pixels [E]; returns how many could not be drawn."""
    height, width = image.shape
    across, down = np.empty(width + 1), np.empty(height + 1)
    left_out = 0
    for e in range(len(x)):
        if not (sd_x[e] > 0 and sd_y[e] > 0 and math.isfinite(sd_x[e]) and math.isfinite(sd_y[e])):
            left_out += 1
            continue
        near_x = -_REACH * sd_x[e] < x[e] < width + _REACH * sd_x[e]
        near_y = -_REACH * sd_y[e] < y[e] < height + _REACH * sd_y[e]
        if not (near_x and near_y):
            continue
        column, columns = _share(x[e], sd_x[e], width, normal, across)
        row, rows = _share(y[e], sd_y[e], height, normal, down)
        for i in range(rows):
            for j in range(columns):
                image[row + i, column + j] += np.float32(down[i] * across[j])
    return left_out
