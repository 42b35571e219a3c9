"""Hot pixels: found where they are, not where molecules or beads are, and filled."""

import numpy as np
import pytest

from varcli.emitters.camera.hot_pixels import filled, hot_pixels


def stack(seed: int = 0, frames: int = 30) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mean = np.full((frames, 32, 32), 10.0)
    grid = np.arange(32) + 0.5
    for frame in range(frames):
        for x, y in rng.uniform(0, 32, (12, 2)):
            mean[frame] += 150 * np.exp(-((grid - x) ** 2 + (grid[:, None] - y) ** 2) / 2)
    return rng.poisson(mean).astype(np.float32)


def bead(x: float, y: float, sigma: float) -> np.ndarray:
    grid = np.arange(32) + 0.5
    return 300 * np.exp(-((grid - x) ** 2 + (grid[:, None] - y) ** 2) / (2 * sigma**2))


def test_molecules_that_blink_are_not_hot() -> None:
    assert not hot_pixels(stack()).any()


@pytest.mark.parametrize("sigma", [0.9, 1.3, 2.0])
def test_a_bead_is_not_hot(sigma: float) -> None:
    assert not hot_pixels(stack() + np.float32(bead(15.5, 16.5, sigma))).any()


def test_hot_pixels_are_found_and_filled() -> None:
    frames = stack()
    wanted = np.zeros((32, 32), bool)
    wanted[[3, 20, 31], [5, 0, 31]] = True
    frames[:, wanted] += 60
    found = hot_pixels(frames)
    assert np.array_equal(found, wanted)
    mended = filled(frames, found)
    assert np.array_equal(mended[:, ~wanted], frames[:, ~wanted])
    assert abs(mended[:, wanted].mean() - frames[:, ~wanted].mean()) < 5


def test_too_few_frames_say_nothing() -> None:
    frames = stack(frames=7)
    frames[:, 4, 4] += 500
    assert not hot_pixels(frames).any()
