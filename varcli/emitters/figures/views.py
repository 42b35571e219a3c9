"""Two views of a rendered image for a page: all of it, and its fullest part enlarged, each with its scale bar.

Legend: H W pixels of an image.
"""

import numpy as np
from PIL import Image, ImageDraw

from varcli.colours import colormap_table
from varcli.emitters.figures.render import Renderer, coloured, draw_scale_bar, summed_down

_LEAST_ZOOM, _MOST_ZOOM = 2.0, 6.0  # how much larger the detail is than the whole
_FEWEST_PIXELS = 64  # of the image across the detail, where it can be


def draw_views(
    renderer: Renderer, width: int, height: int, inset_px: int, colormap: str = "inferno"
) -> tuple[Image.Image, Image.Image]:
    """The whole image on `width` x `height` pixels with a frame around its fullest part, and that part as a square."""
    image_HW, pixel_nm = renderer.image_HW, renderer.pixel_nm
    red, green, blue = colormap_table(colormap)[0].tolist()
    ground = red, green, blue
    factor = max(1, int(max(image_HW.shape[0] / (2 * height), image_HW.shape[1] / (2 * width))))
    small_HW = summed_down(image_HW, factor) if factor > 1 else image_HW
    zoom = min(width / small_HW.shape[1], height / small_HW.shape[0])
    size = (max(1, round(small_HW.shape[1] * zoom)), max(1, round(small_HW.shape[0] * zoom)))
    picture = coloured(small_HW, colormap).resize(size, _method(zoom))
    # Pixels of the picture per pixel of the image. The detail is at most six times as large as the whole, and at least
    # twice; between the two, pixels of the image are not drawn larger than they need be.
    shown = zoom / factor
    wanted = min(_MOST_ZOOM * shown, max(_LEAST_ZOOM * shown, inset_px / _FEWEST_PIXELS))
    side = max(1, min(round(inset_px / wanted), *image_HW.shape))
    row, column = _fullest(image_HW, side)
    detail = coloured(image_HW[row : row + side, column : column + side], colormap)
    detail = detail.resize((inset_px, inset_px), _method(inset_px / side))
    draw_scale_bar(detail, pixel_nm * side / inset_px)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    whole = Image.new("RGB", (width, height), ground)
    whole.paste(picture, (left, top))
    edges = [value * shown for value in (column, row, column + side, row + side)]
    frame = (edges[0] + left, edges[1] + top, edges[2] + left, edges[3] + top)
    ImageDraw.Draw(whole).rectangle(frame, outline=(255, 255, 255), width=2)
    draw_scale_bar(whole, pixel_nm / shown)
    return whole, detail


def _method(zoom: float) -> Image.Resampling:
    """Large pixels stay squares, small ones are averaged."""
    return Image.Resampling.NEAREST if zoom >= 2 else Image.Resampling.LANCZOS


def _fullest(image_HW: np.ndarray, side: int) -> tuple[int, int]:
    """First row and column of the square of `side` pixels with most light, among squares half a side apart."""
    step = max(1, side // 2)
    blocks_HW = summed_down(image_HW, step).astype(np.float64)
    if min(blocks_HW.shape) > 1:
        blocks_HW = blocks_HW[:-1, :-1] + blocks_HW[1:, :-1] + blocks_HW[:-1, 1:] + blocks_HW[1:, 1:]
    row, column = np.unravel_index(np.argmax(blocks_HW), blocks_HW.shape)
    return min(int(row) * step, image_HW.shape[0] - side), min(int(column) * step, image_HW.shape[1] - side)
