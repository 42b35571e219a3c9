"""Surprise maps: where in a piece a model was astonished, cell by cell."""

import numpy as np
from PIL import Image

from varcli.pianoroll.picture import draw_roll

# One cell this unlikely, e^-8, is as bright as the scale gets; a wrong note of a good model costs about that.
_BRIGHTEST_NATS = 8.0


def draw_surprise(
    cells_nats: np.ndarray, *, title: str = "", steps_per_beat: int = 4, steps_per_bar: int = 16
) -> Image.Image:
    """A heat map of nats per cell, f32 [P, T], pitch upwards and time to the right; bright is surprising."""
    shares = np.clip(cells_nats / _BRIGHTEST_NATS, 0, 1)
    # The square root lifts what is only a little unlikely out of the background.
    brightness = np.round(255 * np.sqrt(shares)).astype(np.uint8)
    return draw_roll(
        brightness,
        None,
        title=title,
        subtitle=f"{cells_nats.sum() / cells_nats.shape[1]:.2f} nats/frame",
        legend=("expected", "surprising"),
        steps_per_beat=steps_per_beat,
        steps_per_bar=steps_per_bar,
    )
