"""A roll as a picture to keep: title, colour scale and the roll itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageDraw

from varcli.colours import Font, Theme, load_font, make_theme
from varcli.files import write_bytes
from varcli.pianoroll.events import SampleDone
from varcli.pianoroll.figures.painter import RollPainter, lay_out, marked_intensity, onsets_of
from varcli.pianoroll.roll import Roll, Vocabulary

if TYPE_CHECKING:
    from varcli.pianoroll.model.fractal import FractalModel

_KEPT, _SWATCH_PX, _SCALE_PX = "kept", 14, 28


def draw_roll(
    cells: np.ndarray,
    vocabulary: Vocabulary | None,
    *,
    title: str = "",
    subtitle: str | None = None,
    legend: tuple[str, str] = ("soft", "loud"),
    tempo_bpm: float | None = None,
    steps_per_beat: int = 4,
    steps_per_bar: int = 16,
    downbeats: Sequence[int] | None = None,
    pixel_scale: int | None = None,
    theme: Theme | None = None,
    kept: np.ndarray | None = None,
    voices: Mapping[str, np.ndarray] | None = None,
) -> Image.Image:
    """A picture of a canvas of cell codes u8 [P, T]: keys, octaves, bars, notes coloured by velocity, a title line.

    Without a vocabulary, `cells` are intensities (0 empty, 1..255) painted as they are, such as a surprise map;
    `legend` names the ends of the colour scale. The subtitle gives bars, notes and tempo unless it is given.
    Cells that are `kept`, bool [P, T], differ in colour from the others, and so do several `voices` [P, T].
    A step is `pixel_scale` pixels wide; by default the picture is about 1300 pixels wide.
    """
    values = cells if vocabulary is None else marked_intensity(cells, vocabulary)
    onsets = None if vocabulary is None else onsets_of(values, marked=True)
    theme = theme or make_theme()
    axes = lay_out(
        values.max(axis=1) > 0,
        values.shape[1],
        steps_per_beat=steps_per_beat,
        steps_per_bar=steps_per_bar,
        downbeats=downbeats,
        pixel_scale=pixel_scale,
    )
    names = tuple(voices) if voices and len(voices) > 1 else ()
    sounding = np.stack([(voices or {})[name] > 0 for name in names]) if names else None
    roll = RollPainter(axes, theme, load_font(13), kept, sounding).paint(values, onsets)
    if subtitle is None:
        subtitle = _summary(len(axes.bars), onsets, tempo_bpm)
    margin, heading, text = 18, load_font(19), load_font(14)
    image = Image.new("RGB", (max(roll.width + 2 * margin, 480), roll.height + 62 + margin), theme.background)
    draw = ImageDraw.Draw(image)
    if names:
        scale_px = _draw_voices_legend(draw, image.width - margin, 31, theme, text, names)
    else:
        scale_px = _draw_legend(draw, image.width - margin, 31, theme, text, legend)
    if kept is not None:
        scale_px += 24 + draw_kept_legend(draw, image.width - margin - scale_px - 24, 31, theme, text)
    room = image.width - 2 * margin - scale_px - 24
    title = heading.fit(title or "Piano roll", room)
    draw.text((margin, 37), title, theme.mix(0.95), heading.face, "ls")
    after = heading.width(title) + 16
    draw.text((margin + after, 37), text.fit(subtitle, room - after), theme.mix(0.55), text.face, "ls")
    image.paste(roll, (margin, 54))
    return image


def _summary(bars: int, onsets: np.ndarray | None, tempo_bpm: float | None) -> str:
    parts = [f"{bars} bar{'s' * (bars != 1)}"]
    if onsets is not None:
        notes = int(np.count_nonzero(onsets))
        parts.append(f"{notes} note{'s' * (notes != 1)}")
    if tempo_bpm is not None:
        parts.append(f"{round(tempo_bpm, 1):g} BPM")
    return " · ".join(parts)


def _draw_legend(
    draw: ImageDraw.ImageDraw, right: int, middle: int, theme: Theme, font: Font, names: tuple[str, str]
) -> int:
    """Draw a colour scale that ends at `right`; returns its width in pixels."""
    scale, high_px = 96, font.width(names[1])
    x0 = right - high_px - 8 - scale
    for x in range(scale):
        red, green, blue = map(int, theme.notes[x * 255 // (scale - 1)])
        draw.line((x0 + x, middle - 4, x0 + x, middle + 3), fill=(red, green, blue))
    draw.text((right, middle), names[1], theme.mix(0.6), font.face, "rm")
    draw.text((x0 - 8, middle), names[0], theme.mix(0.6), font.face, "rm")
    return scale + high_px + font.width(names[0]) + 16


def _draw_voices_legend(
    draw: ImageDraw.ImageDraw, right: int, middle: int, theme: Theme, font: Font, names: tuple[str, ...]
) -> int:
    """Draw the colours of voices, soft to loud, and their names, ending at `right`; returns the width in pixels."""
    end = right
    for name, colours in reversed(list(zip(names, theme.voices(len(names)), strict=True))):
        draw.text((end, middle), name, theme.mix(0.6), font.face, "rm")
        start = end - font.width(name) - 6 - _SCALE_PX
        for x in range(_SCALE_PX):
            red, green, blue = map(int, colours[80 + x * 175 // (_SCALE_PX - 1)])
            draw.line((start + x, middle - 4, start + x, middle + 3), fill=(red, green, blue))
        end = start - 16
    return right - end - 16


def draw_kept_legend(draw: ImageDraw.ImageDraw, right: int, middle: int, theme: Theme, font: Font) -> int:
    """Draw what kept notes look like, ending at `right`; returns its width in pixels."""
    width = kept_legend_px(font)
    red, green, blue = map(int, theme.kept[160])
    draw.rectangle((right - width, middle - 4, right - width + _SWATCH_PX, middle + 3), fill=(red, green, blue))
    draw.text((right, middle), _KEPT, theme.mix(0.6), font.face, "rm")
    return width


def kept_legend_px(font: Font) -> int:
    """Width of what draw_kept_legend draws."""
    return font.width(_KEPT) + 6 + _SWATCH_PX


def png_bytes(image: Image.Image) -> bytes:
    """The picture as PNG; the same picture gives the same bytes."""
    return iio.imwrite("<bytes>", np.asarray(image), extension=".png", plugin="pillow", compress_level=9)


def picture_of(roll: Roll, title: str = "") -> Image.Image:
    """The picture of a roll, under its own title unless one is given."""
    return draw_roll(
        roll.cells,
        roll.vocabulary,
        title=title or roll.title,
        tempo_bpm=roll.tempo_bpm,
        steps_per_beat=roll.steps_per_beat,
        steps_per_bar=roll.steps_per_bar,
        downbeats=roll.downbeats,
        kept=roll.kept,
        voices=roll.voices,
    )


def save_picture(roll: Roll, path: Path | str, *, title: str = "") -> None:
    """Write the picture of a roll as .png, whole or not at all; the roll's own title unless one is given."""
    write_bytes(path, png_bytes(picture_of(roll, title)))


def save_sample_picture(model: "FractalModel", path: Path, *, steps: int, seed: int) -> None:
    """Let a model write one roll of `steps` steps from `seed`, and keep its picture as .png, whole or not at all."""
    from varcli.pianoroll.generation.generate import generate
    from varcli.pianoroll.generation.settings import SampleSettings

    for event in generate(model, SampleSettings(target_width=steps, seed=seed)):
        if isinstance(event, SampleDone):
            save_picture(event.roll, path, title=path.stem)
