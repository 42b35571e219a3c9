"""Pixels of a camera that are bright in every frame, alone among their neighbours: found, and kept out of the analysis.

Legend: n frames, Y X camera pixels.
"""

import numpy as np
from scipy.ndimage import maximum_filter, median_filter

_LEAST_FRAMES = 8
_SIGNIFICANT = 6.0
_LONELY = 0.35
"""Greatest share of a pixel's excess that a neighbour may have: of the narrowest spots it is half."""
_BESIDE = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool)


def hot_pixels(frames_e: np.ndarray) -> np.ndarray:
    """Which pixels [Y, X] stand out of their surroundings in most of the frames [n, Y, X], and alone.

    Emitters blink, and what does not (a bead) is wider than a pixel. With fewer than 8 frames none is called hot.
    """
    _, height, width = frames_e.shape
    if len(frames_e) < _LEAST_FRAMES or min(height, width) < 5:
        return np.zeros((height, width), bool)
    usual = np.median(frames_e, 0)
    above = usual - median_filter(usual, 5, mode="mirror")
    # Of the median of n normal values; whole numbers may hide it, so noise in time counts as well as in space.
    noise = float(np.median(np.diff(frames_e, axis=0).std(0))) / np.sqrt(2)
    spread = max(1.4826 * float(np.median(np.abs(above))), 1.2533 * noise / np.sqrt(len(frames_e)), 1e-6)
    beside = maximum_filter(above, footprint=_BESIDE, mode="mirror")
    return (above > _SIGNIFICANT * spread) & (beside < _LONELY * above)


def filled(frames_e: np.ndarray, hot: np.ndarray) -> np.ndarray:
    """Frames whose hot pixels hold the median of the eight around them, for what cannot leave a pixel out."""
    if not hot.any():
        return frames_e
    frames_e = frames_e.copy()
    for row, column in zip(*hot.nonzero(), strict=True):
        rows, columns = slice(max(0, row - 1), row + 2), slice(max(0, column - 1), column + 2)
        good = ~hot[rows, columns]
        if good.any():
            frames_e[:, row, column] = np.median(frames_e[:, rows, columns][:, good], 1)
    return frames_e
