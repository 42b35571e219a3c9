"""What the network sees of a frame: photoelectrons on a scale where their noise is even, and the conditions.

Legend: B frames, Y X camera pixels, K numbers that condition the network.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from varcli.emitters.network.prediction import Conditions

CONDITIONS = 7
CHANNELS = 3
CELL_PX = 4
_NEIGHBOURS = 2
_QUANTILE = 0.2


@dataclass(frozen=True)
class FrameConditions:
    """Conditions of each frame [B]: PSF width (px), read noise (e rms at the input), excess factor (1 or 2), and,
    where `photons_known_B`, the median photoelectrons of an emitter and the standard deviation of their logarithm."""

    sigma_B: Tensor
    read_std_B: Tensor
    excess_B: Tensor
    photons_B: Tensor
    spread_B: Tensor
    photons_known_B: Tensor

    @classmethod
    def of(cls, conditions: Conditions, frames: int, device: torch.device | str = "cpu") -> "FrameConditions":
        """The same conditions for each of some frames."""
        prior = conditions.photons
        electrons, spread = (1000.0, 0.2) if prior is None else (prior.electrons, prior.log_sd)

        def each(value: float) -> Tensor:
            return torch.full((frames,), float(value), device=device)

        sigma, read, excess = each(conditions.sigma_px), each(conditions.read_variance**0.5), each(conditions.excess)
        known = torch.full((frames,), prior is not None, device=device)
        return cls(sigma, read, excess, each(electrons), each(spread), known)


@dataclass(frozen=True)
class Inputs:
    """Channels [B, C, Y, X], conditions [B, K], and the log of the noise of an empty pixel [B, Y, X] in e."""

    channels_BCYX: Tensor
    conditions_BK: Tensor
    log_noise_BYX: Tensor


def block_background(frames_BYX: Tensor) -> Tensor:
    """Background [B, y, x] in e per pixel: a low quantile of the means of 4x4 pixels over 20 pixels around.

    Y and X must be multiples of 4.
    """
    means_B1yx = F.avg_pool2d(frames_BYX[:, None], CELL_PX)
    side = 2 * _NEIGHBOURS + 1
    padded = F.pad(means_B1yx, (_NEIGHBOURS,) * 4, mode="replicate")
    low_BL = F.unfold(padded, side).sort(1).values[:, round(_QUANTILE * (side**2 - 1))]
    return low_BL.view(means_B1yx[:, 0].shape)


def local_background(frames_BYX: Tensor) -> Tensor:
    """Background [B, Y, X] in e: that of blocks, smoothed; Y and X must be multiples of 4."""
    low = F.pad(block_background(frames_BYX)[:, None], (1,) * 4, mode="replicate")
    smooth = F.avg_pool2d(low, 3, 1)
    return F.interpolate(smooth, scale_factor=CELL_PX, mode="bilinear", align_corners=False)[:, 0]


def prepare(frames_BYX: Tensor, conditions: FrameConditions) -> Inputs:
    """Channels and conditions of frames in photoelectrons; Y and X must be multiples of 4."""
    background = local_background(frames_BYX).clamp(min=0.05)
    excess, read = conditions.excess_B[:, None, None], conditions.read_std_B[:, None, None]
    noise = torch.sqrt(excess * background + read**2 + 0.1)
    linear = torch.asinh((frames_BYX - background) / (2 * noise))

    def even(e: Tensor) -> Tensor:
        """Anscombe's square root, behind which Poisson and read noise have nearly the same spread everywhere."""
        return torch.sqrt((e + 0.1 + read**2 / excess).clamp(min=0) / excess)

    root = (even(frames_BYX) - even(background)) / 8
    log_noise = noise.log()
    typical_B = log_noise.flatten(1).median(1).values
    relative = log_noise - typical_B[:, None, None]
    flag = conditions.photons_known_B.to(noise.dtype)
    conditions_BK = torch.stack(
        [
            3 * conditions.sigma_B.log(),
            typical_B - 1.5,
            2 * conditions.excess_B - 3,
            2 * conditions.read_std_B / typical_B.exp() - 1,
            flag,
            flag * (conditions.photons_B.log() - typical_B - 4) / 1.5,
            flag * (4 * conditions.spread_B - 1),
        ],
        1,
    )
    return Inputs(torch.stack([linear, root, relative], 1), conditions_BK, log_noise)


def pad_frames(frames_BYX: Tensor) -> Tensor:
    """Continue frames below and to the right by their last rows and columns, up to multiples of 4 pixels."""
    Y, X = frames_BYX.shape[-2:]
    down, right = -Y % CELL_PX, -X % CELL_PX
    return F.pad(frames_BYX[:, None], (0, right, 0, down), mode="replicate")[:, 0] if down or right else frames_BYX
