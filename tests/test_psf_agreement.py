"""The shape of a spot means the same to the simulator, the survey of a stack, the fit and its bounds."""

import math

import numpy as np
import pytest

from varcli.emitters.camera.camera import Noise
from varcli.emitters.fit.fit import fit
from varcli.emitters.psf.estimate import estimate_psf
from varcli.emitters.psf.gaussian import GaussianPsf
from varcli.emitters.simulation.acquisition import FrameMolecules, render
from varcli.emitters.table import Emitters

SIGMA, BACKGROUND = 1.4, 5.0
PSFS = {
    "round": GaussianPsf.of(SIGMA),
    "wide in x": GaussianPsf.of(SIGMA, 1.2),
    "wide in y": GaussianPsf.of(SIGMA, 1 / 1.2),
    "with a tail": GaussianPsf.of(SIGMA, 1.2, 0.2, 2.5),
}


def simulated(psf, x, y, electrons, frame=None, count=1, size=32):
    """Expected electrons [n, Y, X] over a flat background, as the simulator makes them."""
    frame = np.zeros(len(x), np.int64) if frame is None else frame
    rows = FrameMolecules(frame, np.asarray(x), np.asarray(y), np.asarray(electrons, float))
    return render(psf, rows, 1.0, count, (size, size), "cpu").numpy().astype(np.float64) + BACKGROUND


@pytest.mark.parametrize("psf", PSFS.values(), ids=PSFS.keys())
def test_the_fit_explains_what_the_simulator_makes(psf):
    # Far above the noise: what is left over is the difference of the two shapes.
    x, y, electrons = [15.3], [16.8], [40000.0]
    frames = simulated(psf, x, y, electrons)
    start = Emitters(np.zeros(1, np.int64), np.array([15.5]), np.array([16.6]), np.array([30000.0]))
    found = fit(frames, start, Noise(1.0, 1.0), psf)
    np.testing.assert_allclose([found.x_px[0], found.y_px[0]], [x[0], y[0]], atol=0.002)
    assert found.electrons[0] == pytest.approx(electrons[0], rel=0.004)
    assert found.chi2[0] < 0.05
    wider = psf._replace(sigma_x_px=1.1 * psf.sigma_x_px, sigma_y_px=1.1 * psf.sigma_y_px)
    assert fit(frames, start, Noise(1.0, 1.0), wider).chi2[0] > 2


@pytest.mark.parametrize("psf", PSFS.values(), ids=PSFS.keys())
def test_the_bound_is_that_of_the_simulated_spot(psf):
    def mean(x, y, electrons, background=0.0):
        return simulated(psf, [x], [y], [electrons])[0] + background

    at, steps, slopes = np.array([15.3, 16.8, 1500.0, 0.0]), np.array([0.02, 0.02, 10.0, 0.1]), []
    for i, step in enumerate(steps):
        change = step * (np.arange(4) == i)
        slopes.append((mean(*(at + change)) - mean(*(at - change))) / (2 * step))
    information = np.einsum("ayx,byx->ab", np.array(slopes), np.array(slopes) / (mean(*at) + 1.0))
    bound = np.sqrt(np.diag(np.linalg.inv(information)))
    start = Emitters(np.zeros(1, np.int64), at[:1], at[1:2], at[2:3])
    found = fit(mean(*at)[None], start, Noise(1.0, 1.0), psf)
    np.testing.assert_allclose([found.crlb_x_px[0], found.crlb_y_px[0]], bound[:2], rtol=0.03)
    np.testing.assert_allclose(found.crlb_electrons[0], bound[2], rtol=0.1)


@pytest.mark.parametrize("ellipticity", [1.15, 1 / 1.15])
def test_the_survey_measures_what_the_simulator_was_told(ellipticity):
    rng = np.random.default_rng(0)
    frame = np.repeat(np.arange(120), 4)
    x, y = rng.uniform(4, 44, (2, len(frame)))
    psf = GaussianPsf.of(SIGMA, ellipticity)
    frames = simulated(psf, x, y, np.full(len(frame), 4000.0), frame, 120, 48)
    noisy = (rng.poisson(frames) + rng.normal(0, 1, frames.shape)).astype(np.float32)
    found = estimate_psf(noisy, 1.0, 1.0)
    assert found.psf.ellipticity == pytest.approx(ellipticity, abs=0.015)
    assert found.psf.sigma_px == pytest.approx(SIGMA, abs=0.02)
    # And the fit with what was measured is at its bound along both axes.
    apart = np.arange(0, len(frame), 4)
    lone = simulated(psf, x[apart], y[apart], np.full(len(apart), 4000.0), frame[apart], 120, 48)
    noisy = (rng.poisson(lone) + rng.normal(0, 1, lone.shape)).astype(np.float32)
    start = Emitters(frame[apart], x[apart] + 0.2, y[apart] - 0.2, np.full(len(apart), 3000.0))
    fitted = fit(noisy, start, Noise(1.0, 1.0), found.psf)
    for got, true, bound in ((fitted.x_px, x, fitted.crlb_x_px), (fitted.y_px, y, fitted.crlb_y_px)):
        rmse = math.sqrt(np.mean((got - true[apart]) ** 2))
        assert rmse == pytest.approx(np.sqrt(np.mean(bound**2)), rel=0.2)
    assert np.median(fitted.chi2) == pytest.approx(1, abs=0.15)
