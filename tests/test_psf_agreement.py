"""The shape of a spot means the same to the simulator, the survey of a stack, the fit and its bounds."""

import math

import numpy as np
import pytest

from varcli.emitters.camera.noise import Noise
from varcli.emitters.fit.fit import Shape, fit
from varcli.emitters.psf.estimate import estimate_psf
from varcli.emitters.simulation.acquisition import Rows, render
from varcli.emitters.simulation.config import SpotConfig
from varcli.emitters.table import Emitters

SIGMA, ELLIPTICITY, TAIL, TAIL_SCALE = 1.4, 1.2, 0.2, 2.5
BACKGROUND = 5.0
SHAPES = {"round": (1.0, 0.0), "wide in x": (ELLIPTICITY, 0.0), "wide in y": (1 / ELLIPTICITY, 0.0)}
SHAPES["with a tail"] = (ELLIPTICITY, TAIL)


def simulated(x, y, electrons, ellipticity, tail, frame=None, count=1, size=32):
    """Expected electrons [n, Y, X] over a flat background, as the simulator makes them."""
    spot = SpotConfig(sigma_px=SIGMA, ellipse=ellipticity, tail_light=tail, tail_scale=TAIL_SCALE)
    frame = np.zeros(len(x), np.int64) if frame is None else frame
    rows = Rows(frame, np.asarray(x), np.asarray(y), np.asarray(electrons, float))
    return render(spot, rows, 1.0, count, (size, size), "cpu").numpy().astype(np.float64) + BACKGROUND


@pytest.mark.parametrize(("ellipticity", "tail"), SHAPES.values(), ids=SHAPES.keys())
def test_the_fit_explains_what_the_simulator_makes(ellipticity, tail):
    # Far above the noise: what is left over is the difference of the two shapes.
    x, y, electrons = [15.3], [16.8], [40000.0]
    frames = simulated(x, y, electrons, ellipticity, tail)
    start = Emitters(np.zeros(1, np.int64), np.array([15.5]), np.array([16.6]), np.array([30000.0]))
    found = fit(frames, start, Noise(1.0, 1.0), SIGMA, shape=Shape(ellipticity, tail, TAIL_SCALE))
    np.testing.assert_allclose([found.x_px[0], found.y_px[0]], [x[0], y[0]], atol=0.002)
    assert found.electrons[0] == pytest.approx(electrons[0], rel=0.004)
    assert found.chi2[0] < 0.05
    assert fit(frames, start, Noise(1.0, 1.0), SIGMA * 1.1, shape=Shape(ellipticity, tail, TAIL_SCALE)).chi2[0] > 2


@pytest.mark.parametrize(("ellipticity", "tail"), SHAPES.values(), ids=SHAPES.keys())
def test_the_bound_is_that_of_the_simulated_spot(ellipticity, tail):
    def mean(x, y, electrons, background=0.0):
        return simulated([x], [y], [electrons], ellipticity, tail)[0] + background

    at, steps, slopes = np.array([15.3, 16.8, 1500.0, 0.0]), np.array([0.02, 0.02, 10.0, 0.1]), []
    for i, step in enumerate(steps):
        change = step * (np.arange(4) == i)
        slopes.append((mean(*(at + change)) - mean(*(at - change))) / (2 * step))
    information = np.einsum("ayx,byx->ab", np.array(slopes), np.array(slopes) / (mean(*at) + 1.0))
    bound = np.sqrt(np.diag(np.linalg.inv(information)))
    start = Emitters(np.zeros(1, np.int64), at[:1], at[1:2], at[2:3])
    found = fit(mean(*at)[None], start, Noise(1.0, 1.0), SIGMA, shape=Shape(ellipticity, tail, TAIL_SCALE))
    np.testing.assert_allclose([found.crlb_x_px[0], found.crlb_y_px[0]], bound[:2], rtol=0.03)
    np.testing.assert_allclose(found.crlb_electrons[0], bound[2], rtol=0.1)


@pytest.mark.parametrize("ellipticity", [1.15, 1 / 1.15])
def test_the_survey_measures_what_the_simulator_was_told(ellipticity):
    rng = np.random.default_rng(0)
    frame = np.repeat(np.arange(120), 4)
    x, y = rng.uniform(4, 44, (2, len(frame)))
    frames = simulated(x, y, np.full(len(frame), 4000.0), ellipticity, 0.0, frame, 120, 48)
    noisy = (rng.poisson(frames) + rng.normal(0, 1, frames.shape)).astype(np.float32)
    found = estimate_psf(noisy, 1.0, 1.0)
    assert found.ellipticity == pytest.approx(ellipticity, abs=0.015)
    assert found.sigma_px == pytest.approx(SIGMA, abs=0.02)
    # And the fit with what was measured is at its bound along both axes.
    shape = Shape(found.ellipticity, found.tail, found.tail_scale)
    apart = np.arange(0, len(frame), 4)
    lone = simulated(x[apart], y[apart], np.full(len(apart), 4000.0), ellipticity, 0.0, frame[apart], 120, 48)
    noisy = (rng.poisson(lone) + rng.normal(0, 1, lone.shape)).astype(np.float32)
    start = Emitters(frame[apart], x[apart] + 0.2, y[apart] - 0.2, np.full(len(apart), 3000.0))
    fitted = fit(noisy, start, Noise(1.0, 1.0), found.sigma_px, shape=shape)
    for got, true, bound in ((fitted.x_px, x, fitted.crlb_x_px), (fitted.y_px, y, fitted.crlb_y_px)):
        rmse = math.sqrt(np.mean((got - true[apart]) ** 2))
        assert rmse == pytest.approx(np.sqrt(np.mean(bound**2)), rel=0.2)
    assert np.median(fitted.chi2) == pytest.approx(1, abs=0.15)
