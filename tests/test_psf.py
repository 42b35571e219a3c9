"""Spots: they hold all their light, have the width they say, and the mixtures look like what they stand for."""

import math

import numpy as np
import pytest
import torch

from varcli.emitters.psf.airy import AIRY_PHASES, AIRY_SCALES, AiryPsf, airy_mixture, airy_profile, core_sigma
from varcli.emitters.psf.gaussian import pixel_integrals, stamp


def test_a_gaussian_sums_to_one_and_keeps_its_moments() -> None:
    sigma_B = torch.tensor([0.8, 2.4], dtype=torch.float64)
    position_BE = torch.tensor([[20.3], [19.9]], dtype=torch.float64)
    shares = pixel_integrals(position_BE, 40, sigma_B[:, None])[:, 0]
    centre = torch.arange(40) + 0.5
    mean = (shares * centre).sum(-1)
    variance = (shares * (centre - mean[:, None]) ** 2).sum(-1)
    assert torch.allclose(shares.sum(-1), torch.ones(2, dtype=torch.float64))
    assert torch.allclose(mean, position_BE[:, 0], atol=1e-6)
    # A pixel adds the variance of a box, 1/12 (Sheppard).
    assert torch.allclose(variance, sigma_B**2 + 1 / 12, rtol=1e-3)


def test_a_stamp_is_the_sum_of_its_spots() -> None:
    x, y, electrons = torch.tensor([[10.2, 14.0]]), torch.tensor([[9.5, 20.7]]), torch.tensor([[500.0, 0.0]])
    image = stamp(x, y, electrons, (30, 24), torch.tensor([[1.3, 1.3]]))[0]
    assert image.shape == (30, 24)
    assert image.sum().item() == pytest.approx(500, rel=1e-4)
    row, column = divmod(int(image.argmax()), 24)
    assert (row, column) == (9, 10)


def test_an_airy_spot_in_focus_is_the_textbook_one() -> None:
    from scipy.special import j1

    radius = np.linspace(0.1, 12, 50)
    assert airy_profile(0.0, radius) == pytest.approx((j1(radius) / radius) ** 2, abs=1e-12)
    # 0.21 wavelengths over the aperture, in units of wavelength / (2 pi aperture): the usual Gaussian width.
    fine = np.linspace(0, 25, 2501)
    assert core_sigma(fine, airy_profile(0.0, fine)) == pytest.approx(0.21 * 2 * math.pi, rel=0.03)


@pytest.mark.parametrize("phase", AIRY_PHASES)
def test_tables_and_mixtures_of_airy_spots_agree(phase: float) -> None:
    size, sigma = 61, 1.5
    at = torch.tensor([30.7], dtype=torch.float64)
    exact = AiryPsf(sigma, phase).evaluate(at, at, size=(size, size))[0]
    assert exact.sum().item() == pytest.approx(1, abs=2e-3)
    place, one = torch.tensor([[30.7]], dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    mixed = torch.zeros(size, size, dtype=torch.float64)
    for weight, scale in zip(airy_mixture(phase), AIRY_SCALES, strict=True):
        width = torch.full((1, 2), sigma * scale, dtype=torch.float64)
        mixed += float(weight) * stamp(place, place, one, (size, size), width)[0]
    assert mixed.sum().item() == pytest.approx(1, abs=2e-2)
    assert (mixed - exact).abs().max().item() < 0.04 * exact.max().item()
