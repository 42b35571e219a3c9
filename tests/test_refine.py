"""The fit of emitters, the search for their number, and the bounds, against closed forms and simulated frames."""

import math

import numpy as np
import pytest
from scipy.special import erf

from varcli.emitters.camera.camera import Noise
from varcli.emitters.camera.hot_pixels import hot_pixels
from varcli.emitters.fit.block import Image, evaluate, normal_equations, workspace
from varcli.emitters.fit.fit import fit, photon_prior
from varcli.emitters.prior import PhotonPrior
from varcli.emitters.psf.gaussian import GaussianPsf
from varcli.emitters.table import Emitters

NOISE = Noise(1.0, 1.5)
SIGMA = 1.3
PSF = GaussianPsf.of(SIGMA)


def profiles(at, size, sigma):
    edges = np.arange(size + 1)
    return np.diff(0.5 * (1 + erf((edges - np.asarray(at)[:, None]) / (math.sqrt(2) * sigma))), axis=1)


def expected(emitters_E3, size=32, background=10.0, sigma=SIGMA):
    x, y, electrons = np.asarray(emitters_E3, float).reshape(-1, 3).T
    return background + np.einsum("e,ey,ex->yx", electrons, profiles(y, size, sigma), profiles(x, size, sigma))


def expose(mean, rng, noise=NOISE):
    return (rng.poisson(mean) + rng.normal(0, math.sqrt(noise.read_variance), mean.shape)).astype(np.float32)


def candidates(frame, rows):
    x, y, electrons = np.asarray(rows, float).reshape(-1, 3).T
    return Emitters(np.asarray(frame, np.int64), x, y, electrons)


def test_gradient_of_the_objective_is_the_derivative():
    rng = np.random.default_rng(0)
    psf, prior = GaussianPsf(1.3, 1.4, 0.1, 2.0), PhotonPrior(math.log(800), 0.3)
    trial = np.array([[10.2, 11.1, 900.0, 8.0], [12.3, 10.4, 700.0, 8.0]])
    data = expose(expected(trial[:, :3], 24), rng)
    ones = np.ones((24, 24))
    image = Image(data, ones.astype(np.float32), 1.5 * ones, 1.0, ones.copy(), ones.copy())
    work, window = workspace(1024), (0, 24, 0, 24)
    work.rest[:576] = 9.0

    def value(change):
        moved = trial.copy()
        moved[:, :2] += change[:6].reshape(2, 3)[:, :2]
        moved[:, 2] *= np.exp(change[:6].reshape(2, 3)[:, 2])
        return evaluate(image, psf, prior, 1.0, window, moved, 2, 0.3 + change[6], 0.1, work)

    value(np.zeros(7))
    normal_equations(psf, prior, 1.0, trial, 2, 0.3, 0.1, 576, work)
    slope = work.gradient[:7].copy()
    steps = 1e-4 * np.eye(7)
    numeric = np.array([(value(step) - value(-step)) / 2e-4 for step in steps])
    np.testing.assert_allclose(slope, numeric, rtol=2e-3, atol=0.05)


def test_bound_of_a_lone_emitter_is_the_inverse_of_its_information():
    emitter = [[16.2, 15.7, 1000.0]]
    mean = expected(emitter)
    found = fit(mean[None].astype(np.float32), candidates([0], emitter), NOISE, PSF)
    slopes = []
    for i, step in enumerate((1e-4, 1e-4, 1.0)):
        up, down = np.array(emitter), np.array(emitter)
        up[0, i] += step
        down[0, i] -= step
        slopes.append((expected(up) - expected(down)) / (2 * step))
    slopes.append(np.ones_like(mean))
    information = np.einsum("ayx,byx->ab", np.array(slopes), np.array(slopes) / (mean + 1.5))
    bound = np.sqrt(np.diag(np.linalg.inv(information)))
    got = [found.crlb_x_px[0], found.crlb_y_px[0], found.crlb_electrons[0]]
    np.testing.assert_allclose(got, bound[:3], rtol=0.04)
    np.testing.assert_allclose([found.x_px[0], found.y_px[0], found.electrons[0]], emitter[0], rtol=2e-3)


@pytest.mark.parametrize("electrons", [300.0, 20000.0])
def test_lone_emitters_are_unbiased_and_at_the_bound(electrons):
    rng = np.random.default_rng(1)
    true = np.column_stack([16 + rng.uniform(-0.5, 0.5, (400, 2)), np.full(400, electrons)])
    frames = np.stack([expose(expected(row), rng) for row in true])
    start = true + np.array([0.3, -0.3, 0.2 * electrons])
    found = fit(frames, candidates(np.arange(400), start), NOISE, PSF)
    error = np.column_stack([found.x_px - true[:, 0], found.y_px - true[:, 1]])
    bound = np.column_stack([found.crlb_x_px, found.crlb_y_px])
    assert np.all(np.abs(error.mean(0)) < 4 * bound.mean() / 20)
    assert 0.93 < np.std(error / bound) < 1.07
    assert abs(np.median(found.electrons) / electrons - 1) < 0.02


def test_close_pairs_are_split_and_single_ones_are_not():
    rng = np.random.default_rng(2)
    prior = PhotonPrior(math.log(1000), 0.2)
    single = np.stack([expose(expected([[16.1, 15.8, 1000.0]]), rng) for _ in range(20)])
    pair = np.stack([expose(expected([[15.4, 16.0, 1000.0], [16.7, 16.3, 950.0]]), rng) for _ in range(20)])
    one = candidates(np.arange(20), np.tile([16.0, 16.0, 1500.0], (20, 1)))
    two = candidates(np.repeat(np.arange(20), 2), np.tile([[15.6, 16, 500.0], [16.4, 16, 500.0]], (20, 1)))
    search = {"search": True, "density_per_px2": 0.005}
    assert len(fit(single, one, NOISE, PSF, prior, **search)) == 20
    assert len(fit(single, two, NOISE, PSF, prior, **search)) == 20
    found = fit(pair, one, NOISE, PSF, prior, **search)
    assert np.all(np.bincount(found.frame, minlength=20) == 2)
    assert set(found.origin.tolist()) <= {-1, *range(20)}


def test_missing_emitters_are_found_and_empty_frames_stay_empty():
    rng = np.random.default_rng(3)
    true = [[8.0, 9.0, 1000.0], [24.0, 22.5, 1000.0]]
    full = np.stack([expose(expected(true), rng) for _ in range(5)])
    empty = np.stack([expose(np.full((32, 32), 10.0), rng) for _ in range(50)])
    none = candidates([], [])
    assert len(fit(full, none, NOISE, PSF, search=True)) == 10
    assert len(fit(empty, none, NOISE, PSF, search=True)) == 0
    assert len(fit(empty, none, NOISE, PSF)) == 0


def test_threads_and_surroundings_change_nothing():
    rng = np.random.default_rng(4)
    true = np.column_stack([rng.uniform(0, 96, (60, 2)), rng.normal(1000, 150, 60)])
    large = expose(expected(true, 96), rng)[None]
    search = {"search": True, "density_per_px2": 0.006}
    one = fit(large, candidates(np.zeros(60), true), NOISE, PSF, threads=1, **search)
    again = fit(np.repeat(large, 9, 0), candidates(np.zeros(60), true), NOISE, PSF, **search)
    first = again.rows(again.frame == 0)
    np.testing.assert_array_equal(one.x_px, first.x_px)
    near = np.all((true[:, :2] > 6) & (true[:, :2] < 58), 1)
    cut = fit(large[:, :64, :64], candidates(np.zeros(near.sum()), true[near]), NOISE, PSF, **search)
    for x, y in zip(cut.x_px, cut.y_px, strict=True):
        if 12 < x < 50 and 12 < y < 50:
            assert np.hypot(one.x_px - x, one.y_px - y).min() < 0.03


def test_unknown_pixels_count_for_nothing():
    rng = np.random.default_rng(5)
    frames = np.stack([expose(expected([[16.0, 16.0, 2000.0]]), rng) for _ in range(30)])
    frames[:, 20, 9] += 300
    hot = hot_pixels(frames)
    assert np.argwhere(hot).tolist() == [[20, 9]]
    frames[3, 15, 15] = np.nan
    start = candidates(np.arange(30), np.tile([16.2, 16.2, 1500.0], (30, 1)))
    found = fit(frames, start, NOISE, PSF, search=True, known=~hot)
    assert len(found) == 30
    assert np.abs(found.x_px - 16).max() < 0.2


def test_a_steep_background_grows_no_emitters():
    rng = np.random.default_rng(6)
    y, x = np.mgrid[:40, :40]
    background = 20 * (np.exp(2 * (x / 40 - 0.5)) + 1.5 * np.exp(-((x - 12) ** 2 + (y - 25) ** 2) / 128)) / 1.4
    frames = np.stack([expose(background, rng) for _ in range(20)])
    assert len(fit(frames, candidates([], []), NOISE, PSF, search=True)) == 0


def test_the_photon_prior_is_that_of_lone_emitters():
    rng = np.random.default_rng(8)
    true = np.column_stack([np.full((200, 2), 16.0), 1000 * np.exp(0.3 * rng.normal(size=200))])
    frames = np.stack([expose(expected(row), rng) for row in true])
    prior = photon_prior(fit(frames, candidates(np.arange(200), true), NOISE, PSF))
    assert prior is not None
    assert prior.log_mean == pytest.approx(math.log(1000), abs=0.08)
    assert prior.log_sd == pytest.approx(0.3, abs=0.06)
    assert photon_prior(fit(frames[:5], candidates(np.arange(5), true[:5]), NOISE, PSF)) is None


def test_shapes_and_columns():
    found = fit(np.full((1, 8, 8), 5.0, np.float32), candidates([0], [[4, 4, 50.0]]), NOISE, PSF)
    assert {len(getattr(found, name)) for name in found.columns()} == {1}
