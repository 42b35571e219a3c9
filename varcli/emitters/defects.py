"""Pixels of a camera that are always brighter than any spot could make them.

Legend: n frames, Y X camera pixels.
"""

import math

import numpy as np
from scipy import ndimage

LEAST_FRAMES = 20
CROSS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool)
AROUND = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]], bool)


def hot_pixels(frames_e: np.ndarray, excess: float, read_variance: float | np.ndarray) -> np.ndarray:
    """Mask [Y, X] of hot pixels in frames [n, Y, X], all False where there are fewer than 20 frames.

    A pixel is hot if its median over frames stands out of its surroundings by more than 6 standard errors, and so much
    above its brightest neighbour that no spot of sigma 0.7 pixels or more could look like it.
    """
    if len(frames_e) < LEAST_FRAMES:
        return np.zeros(frames_e.shape[1:], bool)
    median = np.median(frames_e, 0)
    ground = ndimage.median_filter(median, footprint=AROUND, mode="reflect")
    neighbour = ndimage.rank_filter(median, -2, footprint=CROSS, mode="reflect")
    error = np.sqrt((excess * np.maximum(ground, 0.1) + read_variance) * (0.5 * math.pi / len(frames_e)))
    above = median - ground
    return (above > 6 * error) & (above > 4 * np.maximum(neighbour - ground, 0.0)) & (above > 0.1 * ground)
