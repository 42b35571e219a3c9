"""What the network sees of a frame: photoelectrons on a scale where their noise is even, and what is known of them.

Legend: B frames, Y X camera pixels, K numbers that condition the network.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

CONDITIONS = 7
CHANNELS = 3
CELL_PX = 4
_NEIGHBOURS = 2
_QUANTILE = 0.2


@dataclass(frozen=True)
class Knowledge:
    """What is known of each frame [B]: PSF width (px), read noise (e rms at the input), excess factor (1 or 2), and,
    where `known`, the median of the photoelectrons per emitter and the standard deviation of their logarithm."""

    sigma_B: Tensor
    read_std_B: Tensor
    excess_B: Tensor
    photons_B: Tensor
    spread_B: Tensor
    known_B: Tensor


@dataclass(frozen=True)
class Inputs:
    """Channels [B, C, Y, X], conditions [B, K], and the log of the noise of an empty pixel [B, Y, X] in e."""

    channels_BCYX: Tensor
    conditions_BK: Tensor
    log_noise_BYX: Tensor


def local_background(frames_BYX: Tensor) -> Tensor:
    """Background [B, Y, X] in e: a low quantile of the means of 4x4 pixels over 20 pixels around, smoothed.

    Y and X must be multiples of 4.
    """
    B = len(frames_BYX)
    means_B1yx = F.avg_pool2d(frames_BYX[:, None], CELL_PX)
    y, x = means_B1yx.shape[-2:]
    side = 2 * _NEIGHBOURS + 1
    padded = F.pad(means_B1yx, (_NEIGHBOURS,) * 4, mode="replicate")
    around_BNL = F.unfold(padded, side)
    low_BL = around_BNL.sort(1).values[:, round(_QUANTILE * (side**2 - 1))]
    low = F.pad(low_BL.view(B, 1, y, x), (1,) * 4, mode="replicate")
    smooth = F.avg_pool2d(low, 3, 1)
    return F.interpolate(smooth, scale_factor=CELL_PX, mode="bilinear", align_corners=False)[:, 0]


def prepare(frames_BYX: Tensor, known: Knowledge) -> Inputs:
    """Channels and conditions of frames in photoelectrons; Y and X must be multiples of 4."""
    background = local_background(frames_BYX).clamp(min=0.05)
    excess, read = known.excess_B[:, None, None], known.read_std_B[:, None, None]
    noise = torch.sqrt(excess * background + read**2 + 0.1)
    linear = torch.asinh((frames_BYX - background) / (2 * noise))

    def even(e: Tensor) -> Tensor:
        """Anscombe's square root, behind which Poisson and read noise have nearly the same spread everywhere."""
        return torch.sqrt((e + 0.1 + read**2 / excess).clamp(min=0) / excess)

    root = (even(frames_BYX) - even(background)) / 8
    log_noise = noise.log()
    typical_B = log_noise.flatten(1).median(1).values
    relative = log_noise - typical_B[:, None, None]
    flag = known.known_B.to(noise.dtype)
    conditions = torch.stack(
        [
            3 * known.sigma_B.log(),
            typical_B - 1.5,
            2 * known.excess_B - 3,
            2 * known.read_std_B / typical_B.exp() - 1,
            flag,
            flag * (known.photons_B.log() - typical_B - 4) / 1.5,
            flag * (4 * known.spread_B - 1),
        ],
        1,
    )
    return Inputs(torch.stack([linear, root, relative], 1), conditions, log_noise)
