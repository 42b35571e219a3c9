"""The PSF, the background and the camera, measured in stacks that are made here."""

import math

import numpy as np
import pytest
from scipy.special import erf

from varcli.emitters.camera.photon_transfer import estimate_camera
from varcli.emitters.psf.covariance import LagCovariance, autocorrelation
from varcli.emitters.psf.estimate import DEFAULT_SIGMA_PX, estimate_background, estimate_psf
from varcli.emitters.psf.gaussian import GaussianPsf
from varcli.emitters.psf.spot_fit import LOCAL, fit_shared, linearise


def profile(centre_N: np.ndarray, size: int, sigma_px: float) -> np.ndarray:
    """Pixel integrals [N, size] of a Gaussian."""
    edges = np.arange(size + 1)[None] - np.asarray(centre_N)[:, None]
    return np.diff(0.5 * (1 + erf(edges / (math.sqrt(2) * sigma_px))), axis=1)


def stack(
    sigma_px: float,
    density: float,
    frames: int = 120,
    size: int = 40,
    electrons: float = 1000.0,
    background: float | np.ndarray = 10.0,
    ellipticity: float = 1.0,
    tail: float = 0.0,
    places: np.ndarray | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Photoelectrons [F, Y, X] with Poisson and 1.6 e- of read noise; `density` emitters per 100 px²."""
    generator = np.random.default_rng(seed)
    expected = np.zeros((frames, size, size)) + background
    margin = 3 * sigma_px
    for frame in expected:
        count = generator.poisson(density * (size + 2 * margin) ** 2 / 100)
        x, y = generator.uniform(-margin, size + margin, (2, count))
        if places is not None:
            x, y = places[:, generator.integers(0, places.shape[1], count)]
        light = generator.normal(electrons, 0.2 * electrons, count)
        for share, wide in ((1 - tail, 1.0), (tail, 2.0)):
            along_y = profile(y, size, wide * sigma_px / ellipticity)
            along_x = profile(x, size, wide * sigma_px * ellipticity)
            frame += share * np.einsum("n,ny,nx->yx", light, along_y, along_x)
    noisy = generator.poisson(expected) + generator.normal(0, 1.6, expected.shape)
    return noisy.astype(np.float32)


@pytest.mark.parametrize(("sigma_px", "density"), [(0.9, 0.5), (1.3, 0.1), (1.3, 2.0), (1.3, 4.0), (2.1, 0.5)])
def test_width_is_measured_within_three_percent(sigma_px: float, density: float) -> None:
    found = estimate_psf(stack(sigma_px, density), 1.0, 1.6**2)
    assert found.measured and found.psf.tail == 0
    assert found.psf.sigma_px == pytest.approx(sigma_px, rel=0.03)
    assert abs(found.psf.sigma_px - sigma_px) < 4 * found.sd_px
    assert found.psf.ellipticity == pytest.approx(1, abs=0.02)
    assert f"{found.psf.sigma_px:.3f}" in found.sentence


def test_an_oval_psf_is_told_from_a_round_one() -> None:
    found = estimate_psf(stack(1.3, 1.0, ellipticity=1.15), 1.0, 1.6**2)
    assert found.psf.ellipticity == pytest.approx(1.15, abs=0.02)
    assert "wider along x" in found.sentence


def test_a_tail_is_told_from_a_wide_core() -> None:
    found = estimate_psf(stack(1.3, 0.5, frames=200, electrons=4000, tail=0.2), 1.0, 1.6**2)
    assert found.psf.tail == pytest.approx(0.2, abs=0.06)
    assert found.psf.sigma_px == pytest.approx(1.3, rel=0.03)
    assert "tail" in found.sentence


def test_a_steady_background_and_crowded_places_do_not_widen_it() -> None:
    y, x = np.mgrid[:40, :40]
    glow = 20 + 60 * np.exp(-((x - 20) ** 2 + (y - 12) ** 2) / 50)
    line = np.stack([np.linspace(2, 38, 400), np.linspace(5, 30, 400)])
    found = estimate_psf(stack(1.3, 0.6, background=glow, places=line), 1.0, 1.6**2)
    assert found.psf.sigma_px == pytest.approx(1.3, rel=0.03)


def test_emitters_that_never_switch_are_measured_as_spots() -> None:
    generator = np.random.default_rng(1)
    expected = np.full((40, 40, 40), 10.0)
    for frame in expected:
        x, y = (
            np.array([[8, 20, 32] * 3, [8] * 3 + [20] * 3 + [32] * 3]) + generator.uniform(-0.5, 0.5, (2, 9))
        ).tolist()
        frame += 3000 * np.einsum("ny,nx->yx", profile(np.array(y), 40, 1.3), profile(np.array(x), 40, 1.3))
    found = estimate_psf(generator.poisson(expected).astype(np.float32), 1.0, 0.0)
    assert found.psf.sigma_px == pytest.approx(1.3, rel=0.02)


def test_where_there_is_nothing_the_width_is_said_to_be_assumed() -> None:
    found = estimate_psf(stack(1.3, 0.0, frames=30), 1.0, 1.6**2)
    assert (found.measured, found.psf.sigma_px, found.spots) == (False, DEFAULT_SIGMA_PX, 0)
    assert "assumed" in found.sentence


def test_large_frames_and_single_ones() -> None:
    large = stack(1.3, 0.5, frames=1, size=200)
    assert estimate_psf(large, 1.0, np.full((200, 200), 1.6**2)).psf.sigma_px == pytest.approx(1.3, rel=0.06)


def test_autocorrelation_is_that_of_the_psf() -> None:
    lag = np.arange(-3, 4)
    centres = (np.arange(64) + 0.5) / 64 + 15
    along = profile(centres, 32, 1.1)
    direct = [np.mean(np.sum(along[:, 4:-4] * along[:, 4 + d : 28 + d], axis=1)) for d in lag]
    assert np.diag(autocorrelation(lag, GaussianPsf.of(1.1))) == pytest.approx(np.square(direct), rel=1e-3)


def test_lags_of_white_noise_vanish() -> None:
    noise = np.random.default_rng(0).normal(size=(60, 40, 40)).astype(np.float32)
    covariance = LagCovariance(noise, 4).groups_GLL.mean(0)
    assert covariance[4, 4] == pytest.approx(59 / 60, rel=0.02)
    covariance[4, 4] = 0
    assert np.abs(covariance).max() < 0.02
    assert covariance == pytest.approx(covariance[::-1, ::-1], abs=1e-6)


def test_slopes_of_the_spot_model_are_its_differences() -> None:
    size, variance = 9, np.full((9, 9), 4.0)
    parameters = np.array([4.3, 4.8, 900.0, 12.0, 3.0, -2.0, math.log(1.2), math.log(1.4), 0.15])
    window = stack(1.3, 0.0, frames=1, size=9)[0].astype(float)

    def fitted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hessian, gradient = np.empty((9, 9)), np.empty(9)
        # Without a share of the light in the noise, chi² is a quadratic form and its slope is exact.
        chi2, _ = linearise(window, variance, values[:LOCAL], values[LOCAL:], 2.0, 0.0, hessian, gradient)
        return np.array(chi2), gradient

    _, gradient = fitted(parameters)
    for i, step in enumerate(1e-5 * np.maximum(1.0, np.abs(parameters))):
        moved = [fitted(parameters + sign * step * np.eye(9)[i])[0] for sign in (1, -1)]
        assert (moved[0] - moved[1]) / (2 * step) == pytest.approx(-2 * gradient[i], rel=1e-4, abs=1e-6)
    assert size == window.shape[0]


def test_shared_fit_finds_the_psf_of_clean_spots() -> None:
    generator = np.random.default_rng(2)
    centres = generator.uniform(6, 7, (30, 2))
    windows = 2000 * np.einsum("ny,nx->nyx", profile(centres[:, 1], 13, 1.5), profile(centres[:, 0], 13, 1.2)) + 8
    locals_P6 = np.tile([6.5, 6.5, 1500.0, 6.0, 0.0, 0.0], (30, 1))
    shared = np.array([0.3, 0.3, 0.0])
    fit_shared(windows, np.ones_like(windows), locals_P6, shared, 2.0, 2, 1.0, 15)
    assert np.exp(shared[:2]) == pytest.approx([1.2, 1.5], rel=1e-3)
    assert locals_P6[:, :2] == pytest.approx(centres, abs=1e-3)
    assert locals_P6[:, 2] == pytest.approx(2000, rel=1e-3)


def test_background_is_that_between_the_emitters() -> None:
    slope = np.linspace(10, 30, 40)
    low, middle, high = estimate_background(stack(1.3, 0.5, background=slope))
    assert 12 < low < 16 < 24 < high < 29
    assert middle == pytest.approx(20, rel=0.1)


def test_camera_is_measured_where_light_varies() -> None:
    light = np.linspace(5, 100, 64) * np.ones((40, 64, 64))
    electrons = np.random.default_rng(3).poisson(light) + np.random.default_rng(4).normal(0, 1.5, light.shape)
    adu = np.round(electrons / 0.5 + 100).astype(np.uint16)
    camera = estimate_camera(adu)
    assert camera.measured and not camera.likely_em
    assert camera.e_per_adu == pytest.approx(0.5, rel=0.05)
    assert camera.baseline_adu == pytest.approx(100, abs=3)
    assert camera.e_per_adu_em == 2 * camera.e_per_adu and "EM gain" in camera.sentence


def test_camera_in_flat_light_is_assumed_so_that_its_noise_is_right() -> None:
    light = np.random.default_rng(5).poisson(20, (10, 40, 40))
    for e_per_adu in (0.25, 1.0):
        adu = np.round(light / e_per_adu + 100)
        camera = estimate_camera(adu)
        assert not camera.measured and "assumed" in camera.sentence
        electrons = (adu - camera.baseline_adu) * camera.e_per_adu
        assert electrons.var() == pytest.approx(electrons.mean() + 1.5**2 + camera.e_per_adu**2 / 12, rel=0.1)


def test_camera_of_frames_too_small_to_measure_is_assumed() -> None:
    assert not estimate_camera(np.full((3, 4, 40), 100.0)).measured
