"""Training frames of many microscopes, batched on one device and drawn from one generator.

Legend: B batch, E emitters (padded), Y X camera pixels, L layers: one Gaussian of one sample's spots.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from varcli.emitters.config import SimulationConfig
from varcli.emitters.psf.airy import AIRY_PHASES, AIRY_SCALES, airy_mixture
from varcli.emitters.psf.gaussian import stamp
from varcli.emitters.simulation.draws import Draws, background_shapes

_LAYERS_AT_ONCE = 16  # samples of like numbers of emitters are rendered together, so that padding stays small
_STRANDS = 6  # clusters or filaments of a field, at most
_BLUR = 2 * math.sqrt(math.pi)  # noise of a matched filter, in core widths


@dataclass(frozen=True)
class Batch:
    """Frames and what is true of them.

    `emitters_BE3` holds x and y (px from the corner of pixel (0, 0)) and electrons in the frame's units; rows count
    where `present_BE`, `inside_BE` also wants them in the frame. Emitters too dim for anyone shine but do not count.
    The rest is what a user or a survey would give: `sigma_B` px, `read_std_B` (root of the variance without
    light), `excess_B` (1 or 2), `background_B` (mean, e/px), `photons_B` and `spread_B` (median electrons and standard
    deviation of their logarithm), `known_B` whether those two are given at all.
    """

    frames_e_BYX: Tensor
    emitters_BE3: Tensor
    present_BE: Tensor
    inside_BE: Tensor
    sigma_B: Tensor
    read_std_B: Tensor
    excess_B: Tensor
    background_B: Tensor
    photons_B: Tensor
    spread_B: Tensor
    known_B: Tensor


@dataclass(frozen=True)
class _Microscopes:
    """What a sample's microscope is: PSF, camera and background."""

    sigma_B: Tensor
    excess_B: Tensor
    read_B: Tensor
    step_B: Tensor
    background_BYX: Tensor
    noise_B: Tensor  # standard deviation of a pixel without emitters


def simulate_batch(domain: SimulationConfig, batch: int, size: int, generator: torch.Generator) -> Batch:
    """`batch` frames of `size` by `size` pixels, each from a microscope of its own, on the generator's device."""
    draws = Draws(generator)
    microscopes = _optics(domain, batch, size, draws)
    grid_B, cells_B, count_B = _counts(domain, microscopes, size, draws)
    emitters = int(count_B.max())
    exists_BE = torch.arange(emitters, device=draws.device) < count_B[:, None]
    x_BE, y_BE = _positions(domain, microscopes, grid_B, cells_B, count_B, emitters, size, draws)
    electrons_BE, median_B, spread_B = _brightness(domain, microscopes, grid_B, emitters, draws)
    electrons_BE = electrons_BE * exists_BE
    light_BYX = _render(domain, microscopes, x_BE, y_BE, electrons_BE, count_B, size, draws)
    frames_BYX = _expose(domain, microscopes, light_BYX + microscopes.background_BYX, draws)

    wrong_B = draws.share(batch, domain.gain_share)
    gain_B = 1 + wrong_B * draws.uniform(batch, low=-1, high=1) * domain.gain_error
    floor_B = domain.invisible_snr * microscopes.noise_B * _BLUR * microscopes.sigma_B
    present_BE = exists_BE & (electrons_BE >= floor_B[:, None])
    inside_BE = present_BE & (x_BE >= 0) & (x_BE < size) & (y_BE >= 0) & (y_BE < size)
    return Batch(
        frames_e_BYX=frames_BYX * gain_B[:, None, None],
        emitters_BE3=torch.stack([x_BE, y_BE, electrons_BE * gain_B[:, None]], -1),
        present_BE=present_BE,
        inside_BE=inside_BE,
        sigma_B=microscopes.sigma_B * draws.jitter(batch, 0.04),
        read_std_B=(microscopes.read_B**2 + microscopes.step_B**2 / 12).sqrt(),
        excess_B=microscopes.excess_B,
        background_B=microscopes.background_BYX.mean((1, 2)) * gain_B,
        photons_B=median_B * gain_B * draws.jitter(batch, 0.1),
        spread_B=spread_B * draws.jitter(batch, 0.15),
        known_B=draws.share(batch, domain.known_share),
    )


def _optics(domain: SimulationConfig, batch: int, size: int, draws: Draws) -> _Microscopes:
    sigma_B = draws.log_uniform(batch, domain.sigma_px)
    emccd_B = draws.share(batch, domain.emccd_share)
    read_B = torch.where(
        emccd_B,
        draws.log_uniform(batch, domain.emccd_read_noise_e),
        draws.log_uniform(batch, domain.read_noise_e),
    )
    step_B = draws.log_uniform(batch, domain.step_e)
    step_B = torch.where(emccd_B, step_B.clamp(max=0.3), step_B)
    mean_B = draws.log_uniform(batch, domain.background_e)
    background_BYX = mean_B[:, None, None] * _background(domain, batch, size, draws)
    excess_B = 1.0 + emccd_B
    noise_B = (excess_B * background_BYX.mean((1, 2)) + read_B**2 + step_B**2 / 12).sqrt()
    return _Microscopes(sigma_B, excess_B, read_B, step_B, background_BYX, noise_B)


def _background(domain: SimulationConfig, batch: int, size: int, draws: Draws) -> Tensor:
    """Background relative to its mean [B, Y, X]: flat, sloped with a blob of light, or rough."""
    sloped_B = draws.share(batch, domain.slope_share)
    steep_B = draws.uniform(batch, high=math.log(domain.slope)) * sloped_B
    blob_B = draws.uniform(batch, high=2.0) * sloped_B
    rough_B = draws.share(batch, domain.rough_share) * draws.uniform(batch, high=0.6)
    return background_shapes((size, size), steep_B, blob_B, rough_B, draws)


def _counts(
    domain: SimulationConfig, microscopes: _Microscopes, size: int, draws: Draws
) -> tuple[Tensor, Tensor, Tensor]:
    """Which samples are grids, their cells per side, and how many emitters each sample has (with its margin)."""
    batch = len(microscopes.sigma_B)
    kind_B = draws.uniform(batch)
    empty_B = kind_B < domain.empty_share
    grid_B = ~empty_B & (kind_B < domain.empty_share + domain.grid_share)
    sparse_B = kind_B > 1 - domain.sparse_share
    density_B = draws.log_uniform(batch, domain.density)
    density_B = torch.where(sparse_B, density_B.clamp(max=0.5), density_B * (1.3 / microscopes.sigma_B) ** 2)
    count_B = draws.poisson(0.01 * density_B * (size + 6 * microscopes.sigma_B) ** 2).long()
    spacing_B = draws.uniform(batch, low=7.0, high=12.0) * microscopes.sigma_B
    cells_B = (size / spacing_B).long().clamp(min=1)
    count_B = torch.where(grid_B, cells_B**2, count_B)
    return grid_B, cells_B, count_B.masked_fill(empty_B, 0)


def _positions(
    domain: SimulationConfig,
    microscopes: _Microscopes,
    grid_B: Tensor,
    cells_B: Tensor,
    count_B: Tensor,
    emitters: int,
    size: int,
    draws: Draws,
) -> tuple[Tensor, Tensor]:
    """x and y [B, E]: all over the frame and three widths beyond, structured in a share, one per cell in grids."""
    batch = len(grid_B)
    margin_B1 = 3 * microscopes.sigma_B[:, None]
    place_B2E = draws.uniform(batch, 2, emitters)
    uniform_B2E = place_B2E * (size + 2 * margin_B1[..., None]) - margin_B1[..., None]

    structured_B = draws.share(batch, domain.structure_share)
    if structured_B.any():
        strands_B2E, member_BE = _strands(batch, emitters, count_B, size, draws)
        outside_B2E = (strands_B2E < -margin_B1[..., None]) | (strands_B2E > size + margin_B1[..., None])
        stays_B1E = ~outside_B2E.any(1, keepdim=True) & (member_BE & structured_B[:, None])[:, None]
        uniform_B2E = torch.where(stays_B1E, strands_B2E, uniform_B2E)

    index_E = torch.arange(emitters, device=draws.device)
    column_BE, row_BE = index_E % cells_B[:, None], index_E // cells_B[:, None]
    centre_B2E = (torch.stack([column_BE, row_BE], 1) + 0.5) * (size / cells_B)[:, None, None]
    x_BE, y_BE = torch.where(grid_B[:, None, None], centre_B2E + 1.5 * (place_B2E - 0.5), uniform_B2E).unbind(1)
    return x_BE, y_BE


def _strands(batch: int, emitters: int, count_B: Tensor, size: int, draws: Draws) -> tuple[Tensor, Tensor]:
    """Positions [B, 2, E] round the centres of clusters or along bent filaments, and which emitters [B, E] go there.

    A strand takes a limited number of emitters: thousands in one spot are a lamp, not molecules.
    """
    strands_B = (1 + (_STRANDS - 1e-3) * draws.uniform(batch)).floor()
    chosen_BE = (draws.uniform(batch, emitters) * strands_B[:, None]).long()
    member_B = strands_B * draws.log_uniform(batch, (3.0, 25.0)) / count_B.clamp(min=1)
    member_BE = draws.uniform(batch, emitters) < member_B[:, None]

    def of_strand(low: float, high: float) -> Tensor:
        return draws.uniform(batch, _STRANDS, low=low, high=high).gather(1, chosen_BE)

    start_B2E = torch.stack([of_strand(0, size), of_strand(0, size)], 1)
    filament_BE = of_strand(0, 1) < 0.5
    along_BE = draws.uniform(batch, emitters, low=-1, high=1) * size
    turned_BE = of_strand(0, 2 * math.pi) + of_strand(-1, 1) * along_BE / size
    line_B2E = torch.stack([turned_BE.cos(), turned_BE.sin()], 1) * along_BE[:, None]
    wide_BE = torch.where(filament_BE, of_strand(0.1, 0.8), of_strand(math.log(1.5), math.log(6.0)).exp())
    scatter_B2E = draws.normal(batch, 2, emitters) * wide_BE[:, None]
    return start_B2E + scatter_B2E + line_B2E * filament_BE[:, None], member_BE


def _brightness(
    domain: SimulationConfig, microscopes: _Microscopes, grid_B: Tensor, emitters: int, draws: Draws
) -> tuple[Tensor, Tensor, Tensor]:
    """Electrons [B, E] by each sample's own distribution, its median and the standard deviation of its logarithm."""
    batch = len(grid_B)
    low, high = domain.electrons
    least_B = (domain.least_snr * microscopes.noise_B * _BLUR * microscopes.sigma_B).clamp(low, high / 2)
    median_B = least_B * (high / least_B) ** draws.uniform(batch)
    kind_B = draws.uniform(batch)
    exponential_B = (kind_B < domain.exponential_share) & ~grid_B
    lognormal_B = (kind_B > 1 - domain.lognormal_share) & ~grid_B
    spread_B = torch.where(lognormal_B, draws.uniform(batch, low=0.1, high=0.9), draws.uniform(batch, high=0.3))
    spread_B = spread_B.masked_fill(grid_B, 0.0)

    normal_BE = draws.normal(batch, emitters) * spread_B[:, None]
    waiting_BE = -draws.uniform(batch, emitters).clamp(min=1e-7).log() / math.log(2)
    relative_BE = torch.where(lognormal_B[:, None], normal_BE.exp(), 1 + normal_BE).clamp(0.2, 20.0)
    relative_BE = torch.where(exponential_B[:, None], 0.2 + 0.8 * waiting_BE, relative_BE)
    spread_B = spread_B.masked_fill(exponential_B, 0.81)  # of 0.2 + 0.8 exponential, measured

    blinks_B = draws.share(batch, domain.blink_share) & ~grid_B
    cut_BE = blinks_B[:, None] & (draws.uniform(batch, emitters) < 0.35)
    part_BE = torch.where(cut_BE, draws.uniform(batch, emitters), torch.ones_like(relative_BE))
    electrons_BE = (median_B[:, None] * relative_BE * part_BE).clamp(max=2 * high)
    return electrons_BE, median_B, spread_B


def _layers(domain: SimulationConfig, microscopes: _Microscopes, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
    """The Gaussians of every sample's spots: sample [L], weight [L], widths in x and y [L, 2]."""
    batch = len(microscopes.sigma_B)
    elliptic_B = draws.share(batch, domain.ellipse_share)
    stretch_B = (draws.uniform(batch, low=-1, high=1) * elliptic_B * math.log(domain.ellipse)).exp()
    axes_B2 = torch.stack([microscopes.sigma_B * stretch_B, microscopes.sigma_B / stretch_B], 1)
    kind_B = draws.uniform(batch)
    airy_B = kind_B > 1 - domain.airy_share
    tail_B = (kind_B < domain.tail_share) * draws.uniform(batch, high=domain.tail_light)
    tail_scale_B = draws.uniform(batch, low=domain.tail_scale[0], high=domain.tail_scale[1])
    phase_B = (draws.uniform(batch) * len(AIRY_PHASES)).long()

    gauss, tailed, airy = ((~airy_B).nonzero()[:, 0], tail_B.nonzero()[:, 0], airy_B.nonzero()[:, 0])
    mixtures = torch.tensor([airy_mixture(phase).tolist() for phase in AIRY_PHASES], device=draws.device)
    scales = torch.tensor(AIRY_SCALES, device=draws.device)
    sample_L = torch.cat([gauss, tailed, airy.repeat_interleave(len(scales))])
    weight_L = torch.cat([1 - tail_B[gauss], tail_B[tailed], mixtures[phase_B[airy]].flatten()])
    scale_L = torch.cat([torch.ones_like(tail_B[gauss]), tail_scale_B[tailed], scales.repeat(len(airy))])
    return sample_L, weight_L, axes_B2[sample_L] * scale_L[:, None]


def _render(
    domain: SimulationConfig,
    microscopes: _Microscopes,
    x_BE: Tensor,
    y_BE: Tensor,
    electrons_BE: Tensor,
    count_B: Tensor,
    size: int,
    draws: Draws,
) -> Tensor:
    """Expected electrons of all emitters [B, Y, X], samples of like numbers of emitters together."""
    sample_L, weight_L, axes_L2 = _layers(domain, microscopes, draws)
    light_BYX = torch.zeros(len(x_BE), size, size, device=draws.device)
    count_L, order_L = count_B[sample_L].sort()
    for chunk, counts in zip(order_L.split(_LAYERS_AT_ONCE), count_L.split(_LAYERS_AT_ONCE), strict=True):
        emitters = int(counts[-1])
        if emitters == 0:
            continue
        rows = sample_L[chunk]
        electrons = electrons_BE[rows, :emitters] * weight_L[chunk, None]
        spots = stamp(x_BE[rows, :emitters], y_BE[rows, :emitters], electrons, (size, size), axes_L2[chunk])
        light_BYX.index_add_(0, rows, spots)
    return light_BYX.clamp_(min=0)


def _expose(domain: SimulationConfig, microscopes: _Microscopes, mean_BYX: Tensor, draws: Draws) -> Tensor:
    """Photoelectrons as the camera counts them: shot noise, EM cascade, reading, hot pixels, rounding."""
    batch, height, width = mean_BYX.shape
    frames_BYX = draws.poisson(mean_BYX)
    emccd = (microscopes.excess_B > 1).nonzero()[:, 0]
    frames_BYX[emccd] = draws.cascade(frames_BYX[emccd])
    read_B11 = microscopes.read_B[:, None, None]
    mapped = draws.share(batch, domain.read_map_share).nonzero()[:, 0]
    read_BYX = read_B11 * draws.normal(batch, height, width)
    read_BYX[mapped] *= (0.3 * draws.normal(len(mapped), height, width)).exp_()
    frames_BYX += read_BYX
    hot = draws.share(batch, domain.hot_share).nonzero()[:, 0]
    is_hot = draws.uniform(len(hot), height, width) < domain.hot_pixels * draws.uniform(len(hot), 1, 1)
    frames_BYX[hot] += is_hot * draws.uniform(len(hot), height, width, low=math.log(10), high=math.log(400)).exp_()
    step_B11 = microscopes.step_B[:, None, None]
    offset_B11 = draws.uniform(batch, 1, 1, low=-0.5, high=0.5)  # a baseline is known to half a step
    return (frames_BYX / step_B11 + offset_B11).round_() * step_B11
