"""A further kind of PSF is one class, its compiled functions and one registration: simulator, fit and bound take it."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from varcli.compiled import kernel
from varcli.emitters.camera.camera import Noise
from varcli.emitters.fit.block import Image, evaluate, fit_block, normal_equations, workspace
from varcli.emitters.fit.fit import fit
from varcli.emitters.prior import PhotonPrior
from varcli.emitters.psf.airy import AiryPsf
from varcli.emitters.psf.gaussian import GaussianPsf
from varcli.emitters.psf.psf import KINDS, PsfKernels, register
from varcli.emitters.simulation.acquisition import FrameMolecules, render
from varcli.emitters.table import Emitters
from varcli.errors import UsageError

NODES = tuple(0.5 + 0.5 * root for root in (-math.sqrt(0.6), 0.0, math.sqrt(0.6)))
WEIGHTS = (5 / 18, 8 / 18, 5 / 18)  # of Gauss and Legendre in a pixel


class MoffatPsf(NamedTuple):
    """(1 + u²/6)^-3 / (3 pi sigma_x sigma_y) with u² = (x / sigma_x)² + (y / sigma_y)²: wings of power 6."""

    sigma_x_px: float
    sigma_y_px: float

    @property
    def sigma_px(self) -> float:
        return math.sqrt(self.sigma_x_px * self.sigma_y_px)

    @property
    def reach_px(self) -> float:
        return 10 * max(self)

    def evaluate(self, x_px: Tensor, y_px: Tensor, z_nm: Tensor | None = None, *, size: tuple[int, int]) -> Tensor:
        shares = torch.zeros(len(x_px), *size, dtype=x_px.dtype)
        for dy, wy in zip(NODES, WEIGHTS, strict=True):
            for dx, wx in zip(NODES, WEIGHTS, strict=True):
                v_EY = (torch.arange(size[0]) + dy - y_px[:, None]) / self.sigma_y_px
                u_EX = (torch.arange(size[1]) + dx - x_px[:, None]) / self.sigma_x_px
                shares += wx * wy * (1 + (u_EX[:, None] ** 2 + v_EY[:, :, None] ** 2) / 6) ** -3
        return shares / (3 * math.pi * self.sigma_x_px * self.sigma_y_px)

    def derivatives(self, x_px: Tensor, y_px: Tensor, z_nm: Tensor | None = None, *, size: tuple[int, int]) -> Tensor:
        def total(x_px, y_px):
            return self.evaluate(x_px, y_px, size=size).sum(0)

        by_x, by_y = torch.autograd.functional.jacobian(total, (x_px, y_px))
        return torch.stack([by_x, by_y, torch.zeros_like(by_x)]).movedim(-1, 1)


@kernel(fastmath=True)
def moffat_half_width(psf, electrons, noise):
    peak = electrons / (3 * math.pi * psf.sigma_x_px * psf.sigma_y_px) / (0.15 * noise)
    reach = math.sqrt(6 * (max(peak, 2.0) ** (1 / 3) - 1))
    return math.ceil(min(reach, 8.0) * max(psf.sigma_x_px, psf.sigma_y_px))


@kernel(fastmath=True)
def moffat_pixel(psf, x, y, row, column):
    """Share of a pixel, and its derivatives by x and y."""
    value, by_x, by_y = 0.0, 0.0, 0.0
    for i in range(3):
        for j in range(3):
            u, v = (column + NODES[j] - x) / psf.sigma_x_px, (row + NODES[i] - y) / psf.sigma_y_px
            base = 1 + (u * u + v * v) / 6
            share = WEIGHTS[i] * WEIGHTS[j] / (3 * math.pi * psf.sigma_x_px * psf.sigma_y_px * base**3)
            value += share
            by_x += share * u / (psf.sigma_x_px * base)
            by_y += share * v / (psf.sigma_y_px * base)
    return value, by_x, by_y


@kernel(fastmath=True)
def moffat_spot(psf, x, y, electrons, y0, y1, x0, x1, mean, memory):
    for row in range(y0, y1):
        for column in range(x0, x1):
            mean[row, column] += electrons * moffat_pixel(psf, x, y, row, column)[0]


@kernel(fastmath=True)
def moffat_slopes(psf, x, y, electrons, y0, y1, x0, x1, first, width, mean, slopes, row, memory):
    for i in range(y1 - y0):
        for j in range(x1 - x0):
            at = first + i * width + j
            value, by_x, by_y = moffat_pixel(psf, x, y, y0 + i, x0 + j)
            mean[at] += electrons * value
            slopes[row, at] += electrons * by_x
            slopes[row + 1, at] += electrons * by_y
            slopes[row + 2, at] += electrons * value


PSF, BACKGROUND, NOISE = MoffatPsf(1.2, 1.5), 5.0, Noise(1.0, 1.0)
TRUE = (7.3, 8.8, 40000.0)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(KINDS, MoffatPsf, PsfKernels(moffat_half_width, moffat_spot, moffat_slopes))


def simulated(x, y, electrons):
    """Expected electrons [Y, X] over a flat background, as the simulator makes them."""
    molecules = FrameMolecules(np.zeros(1, np.int64), np.array([x]), np.array([y]), np.array([electrons]))
    return render(PSF, molecules, 1.0, 1, (16, 16), "cpu").numpy().astype(np.float64)[0] + BACKGROUND


def test_what_is_simulated_is_fitted_and_bounded_by_compiled_code():
    data = simulated(*TRUE)
    ones = np.ones_like(data)
    image = Image(data.astype(np.float32), ones.astype(np.float32), ones, 1.0, ones.copy(), BACKGROUND * ones)
    work, window, prior = workspace(256), (0, 16, 0, 16), PhotonPrior(math.log(1000), 1.0)
    work.rest[:256] = BACKGROUND
    trial = np.array([[7.5, 8.6, 30000.0, 8.0]])
    fit_block(image, PSF, prior, 0.0, window, trial, 1, 1.0, 30, work)
    np.testing.assert_allclose(trial[0, :3], TRUE, rtol=2e-3)
    steps = np.diag([0.02, 0.02, 200.0])
    slopes = [(simulated(*(TRUE + step)) - simulated(*(TRUE - step))) / (2 * step.sum()) for step in steps]
    information = np.einsum("ayx,byx->ab", slopes, slopes / (data + 1.0))
    at = np.array([[*TRUE, 8.0]])
    evaluate(image, PSF, prior, 0.0, window, at, 1, 0.0, 1.0, work)
    normal_equations(PSF, prior, 0.0, at, 1, 0.0, 1.0, 256, work)
    fisher = np.tril(work.fisher[:3, :3]) / np.array([1, 1, TRUE[2]]) / np.array([[1], [1], [TRUE[2]]])
    np.testing.assert_allclose(np.diag(fisher), np.diag(information), rtol=0.01)


def test_derivatives_are_those_of_what_is_evaluated():
    x, y = torch.tensor([7.3, 6.1], dtype=torch.float64), torch.tensor([8.8, 7.7], dtype=torch.float64)
    for psf in (PSF, GaussianPsf(1.2, 1.5, 0.2, 2.0), AiryPsf(1.3, 0.6)):
        size, h = (16, 18), 1e-4 if not isinstance(psf, AiryPsf) else 1 / 16
        slopes = psf.derivatives(x, y, size=size)
        by_x = (psf.evaluate(x + h, y, size=size) - psf.evaluate(x - h, y, size=size)) / (2 * h)
        by_y = (psf.evaluate(x, y + h, size=size) - psf.evaluate(x, y - h, size=size)) / (2 * h)
        torch.testing.assert_close(slopes, torch.stack([by_x, by_y, torch.zeros_like(by_x)]), atol=1e-6, rtol=1e-4)
        assert 0.95 < float(psf.evaluate(x, y, size=size)[1].sum()) < 1.001


def whole_fit():
    """The fit of a frame; called by the test below without compilation, which would take half a minute."""
    register(MoffatPsf, PsfKernels(moffat_half_width, moffat_spot, moffat_slopes))
    start = Emitters(np.zeros(1, np.int64), np.array([7.5]), np.array([8.6]), np.array([30000.0]))
    found = fit(simulated(*TRUE)[None], start, NOISE, PSF, threads=1)
    np.testing.assert_allclose([found.x_px[0], found.y_px[0]], TRUE[:2], atol=0.003)
    assert found.electrons[0] == pytest.approx(TRUE[2], rel=0.02)
    assert found.chi2[0] < 0.1
    assert found.crlb_x_px[0] < found.crlb_y_px[0]


def test_the_fit_of_a_whole_frame_takes_it():
    command = [sys.executable, "-c", "import test_psf_kinds; test_psf_kinds.whole_fit()"]
    folders = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    subprocess.run(command, check=True, env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": folders})


def test_a_kind_that_only_simulates_is_refused_by_name():
    start = Emitters(np.zeros(1, np.int64), np.array([7.5]), np.array([8.6]), np.array([30000.0]))
    with pytest.raises(UsageError, match="AiryPsf"):
        fit(simulated(*TRUE)[None], start, NOISE, AiryPsf(1.3))
