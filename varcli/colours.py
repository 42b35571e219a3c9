"""Colours and letters of every picture: colormaps, a theme derived from its background, text cut to fit."""

import difflib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ImageColor, ImageFont

from varcli.errors import UsageError

RGB = tuple[int, int, int]

# Colours at equal distances from the softest (or emptiest) to the loudest (or brightest) value.
COLORMAPS: dict[str, tuple[str, ...]] = {
    "velocity": ("#5668d8", "#3f9be0", "#35c6b4", "#93d35f", "#f5cd47", "#f8924a", "#f0566b"),
    "magma": ("#000004", "#1d1147", "#51127c", "#832681", "#b73779", "#e75263", "#fc8961", "#fec488", "#fcfdbf"),
    "inferno": ("#000004", "#210c4a", "#57106e", "#8a226a", "#bc3754", "#e45a31", "#f98e09", "#f9cb35", "#fcffa4"),
    "hot": ("#000000", "#550000", "#aa0000", "#ff0000", "#ff5500", "#ffaa00", "#ffff00", "#ffff80", "#ffffff"),
    "viridis": ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"),
    "ice": ("#03051a", "#14205c", "#1d4fa3", "#2f86c9", "#5fbbdc", "#a8e2ea", "#f2fdfb"),
    "gray": ("#000000", "#ffffff"),
}
VOICES = ("#e69f00", "#009e73", "#56b4e9", "#cc79a7", "#f0e442", "#d55e00", "#0072b2")
"""Colours that people with any kind of colour vision tell apart (Okabe and Ito, 2008)."""
HUE_MAPS = frozenset({"velocity"})  # equally light all along, so they serve dark and light backgrounds as they are
SOFTEST = 0.35  # where notes begin on a map of lightness, so that the softest still stands out


@dataclass(frozen=True)
class Theme:
    """The colours of a picture: `background`, `ink` for what is drawn on it, and tables u8 [256, 3] of values.

    `notes` keeps the softest value apart from the background; `image` runs from the map's first colour to its last.
    """

    background: RGB
    ink: RGB
    notes: np.ndarray
    image: np.ndarray

    @property
    def kept(self) -> np.ndarray:
        """Colours u8 [256, 3] of notes that were there before the others: greys, the brighter the louder."""
        return np.array([self.mix(0.45 + 0.4 * value / 255) for value in range(256)], np.uint8)

    def voices(self, count: int) -> list[np.ndarray]:
        """Colours u8 [256, 3] of the notes of so many voices: a hue for each, the stronger the louder."""
        hues = [parse_colour(VOICES[index % len(VOICES)]) for index in range(count)]
        strength = [0.45 + 0.55 * value / 255 for value in range(256)]
        return [np.array([blend(self.background, hue, each) for each in strength], np.uint8) for hue in hues]

    def mix(self, amount: float) -> RGB:
        """A colour `amount` (0..1) of the way from the background to the ink."""
        return blend(self.background, self.ink, amount)


def blend(start: RGB, end: RGB, amount: float) -> RGB:
    """The colour `amount` (0..1) of the way from `start` to `end`."""
    red, green, blue = (round(a + (b - a) * amount) for a, b in zip(start, end, strict=True))
    return red, green, blue


def parse_colour(text: str) -> RGB:
    """Read a colour by name ("navy") or code ("#14161d", "rgb(20, 22, 29)"); raises UsageError."""
    try:
        channels = ImageColor.getrgb(text)
    except ValueError:
        channels = ()
    if len(channels) != 3 or not all(0 <= channel <= 255 for channel in channels):
        raise UsageError(f"{text!r} is not a colour", "write a name such as navy, or a code such as #14161d")
    return channels


def colormap_table(name: str, start: float = 0.0, *, reverse: bool = False) -> np.ndarray:
    """Colours u8 [256, 3] of the map `name` from `start` (0..1) to its end; raises UsageError for an unknown name."""
    if name not in COLORMAPS:
        near = difflib.get_close_matches(name, COLORMAPS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"unknown colormap {name!r}", f"{hint}there are {', '.join(COLORMAPS)}")
    anchors = np.array([ImageColor.getrgb(colour) for colour in COLORMAPS[name]], float)
    if reverse:
        anchors = anchors[::-1]
    at = np.linspace(start, 1, 256) * (len(anchors) - 1)
    columns = [np.interp(at, np.arange(len(anchors)), anchors[:, channel]) for channel in range(3)]
    return np.stack(columns, axis=1).round().astype(np.uint8)


def make_theme(background: str = "#12141c", colormap: str = "velocity") -> Theme:
    """The theme on a background colour; light or dark ink follows from it.

    On a light background a map of lightness runs the other way round, so that loud notes stand out most.
    Raises UsageError for a colour or colormap that does not exist.
    """
    ground = parse_colour(background)
    dark = 0.299 * ground[0] + 0.587 * ground[1] + 0.114 * ground[2] < 140
    start = 0.0 if colormap in HUE_MAPS else SOFTEST
    notes = colormap_table(colormap, start, reverse=not dark and colormap not in HUE_MAPS)
    return Theme(ground, (255, 255, 255) if dark else (16, 18, 26), notes, colormap_table(colormap))


@dataclass(frozen=True)
class Font:
    """A font at one size, with what layout needs of it; sizes in pixels."""

    face: ImageFont.FreeTypeFont
    line_px: int

    def width(self, text: str) -> int:
        """Width of a line of text, rounded up."""
        return int(np.ceil(self.face.getlength(text)))

    def fit(self, text: str, width_px: int) -> str:
        """`text`, cut with an ellipsis where it is wider than `width_px`."""
        if self.width(text) <= width_px:
            return text
        while text and self.width(text + "…") > width_px:
            text = text[:-1]
        return text + "…" if text else ""


def load_font(size: float, path: Path | None = None) -> Font:
    """The bundled font, or the TrueType/OpenType font at `path`, `size` pixels high; raises UsageError."""
    try:
        # Basic layout, as the bundled font has it: the same text comes out the same with and without Raqm installed.
        basic = ImageFont.Layout.BASIC
        face = ImageFont.truetype(path, size, layout_engine=basic) if path else ImageFont.load_default(size)
    except OSError:
        what = "is not a font that can be read" if path and path.exists() else "does not exist"
        raise UsageError(f"font {path} {what}", "give the path of a .ttf or .otf file") from None
    assert isinstance(face, ImageFont.FreeTypeFont)
    ascent, descent = face.getmetrics()
    return Font(face, ascent + descent)
