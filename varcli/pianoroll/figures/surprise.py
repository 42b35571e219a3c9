"""Surprise maps: the negative log likelihood of every cell of a piece."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from varcli.colours import make_theme
from varcli.pianoroll.figures.picture import draw_roll

# One cell this unlikely, e^-8, is as bright as the scale gets; a wrong note of a good model costs about that.
_BRIGHTEST_NATS = 8.0
# What every silent cell costs a little of is no surprise; it would only paint over bar lines and octaves.
_FAINTEST_NATS = 0.05


def draw_surprise(
    cells_nats: np.ndarray,
    *,
    title: str = "",
    steps_per_beat: int = 4,
    steps_per_bar: int = 16,
    downbeats: Sequence[int] | None = None,
) -> Image.Image:
    """A heat map of nats per cell, f32 [P, T], pitch upwards and time to the right; bright is surprising."""
    shares = np.clip(cells_nats / _BRIGHTEST_NATS, 0, 1)
    brightness = np.where(cells_nats < _FAINTEST_NATS, 0, np.round(255 * np.sqrt(shares))).astype(np.uint8)
    return draw_roll(
        brightness,
        None,
        title=title,
        subtitle=f"{cells_nats.sum() / cells_nats.shape[1]:.2f} nats/frame",
        legend=("expected", f"surprising, {_BRIGHTEST_NATS:g} nats and more"),
        steps_per_beat=steps_per_beat,
        steps_per_bar=steps_per_bar,
        downbeats=downbeats,
        theme=make_theme(colormap="inferno"),
    )
