"""Random numbers of one generator, and the smooth backgrounds drawn from them.

Legend: B batch, Y X camera pixels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


class Draws:
    """Random numbers of one generator on its device."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.device = generator.device

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.device).mul_(high - low).add_(low)

    def log_uniform(self, count: int, bounds: tuple[float, float]) -> Tensor:
        return self.uniform(count, low=math.log(bounds[0]), high=math.log(bounds[1])).exp_()

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device)

    def jitter(self, count: int, relative: float) -> Tensor:
        """Factors around 1, log-normal within two standard deviations."""
        return (self.normal(count).clamp_(-2, 2) * relative).exp_()

    def share(self, count: int, share: float) -> Tensor:
        return self.uniform(count) < share

    def poisson(self, mean: Tensor) -> Tensor:
        return torch.poisson(mean, generator=self.generator)

    def cascade(self, electrons: Tensor) -> Tensor:
        """Electrons behind a long EM register, divided by its gain: gamma-distributed, of that many stages."""
        shape = electrons.clamp(min=1e-6)
        gamma = torch._standard_gamma(shape, generator=self.generator)  # pyright: ignore[reportPrivateImportUsage]
        return torch.where(electrons > 0, gamma, torch.zeros_like(gamma))


def background_shapes(size: tuple[int, int], steep_B: Tensor, blob_B: Tensor, rough_B: Tensor, draws: Draws) -> Tensor:
    """Backgrounds of mean 1 [B, Y, X]: exponential slopes with a blob of light, times smooth bumps.

    `steep_B` is the logarithm of the ratio from edge to edge, `blob_B` the height of the blob, `rough_B` the standard
    deviation of the bumps' logarithm; 0 leaves each away. Where they lie is drawn.
    """
    batch = len(steep_B)
    height, width = size
    down_Y = ((torch.arange(height, device=draws.device) + 0.5) / height)[:, None]
    across_X = (torch.arange(width, device=draws.device) + 0.5) / width
    angle_B11 = draws.uniform(batch, 1, 1, high=2 * math.pi)
    along_BYX = angle_B11.cos() * (across_X - 0.5) + angle_B11.sin() * (down_Y - 0.5)
    column_B11, row_B11 = (draws.uniform(batch, 1, 1, low=0.1, high=0.9) for _ in range(2))
    wide_B11 = draws.uniform(batch, 1, 1, low=0.12, high=0.35)
    far_BYX = ((across_X - column_B11) ** 2 + (down_Y - row_B11) ** 2) / wide_B11**2
    shape_BYX = (steep_B[:, None, None] * along_BYX).exp() + blob_B[:, None, None] * (-far_BYX / 2).exp()
    coarse_B1YX = draws.normal(batch, 1, 3, 3)
    smooth_BYX = F.interpolate(coarse_B1YX, size=size, mode="bicubic", align_corners=True)[:, 0]
    shape_BYX = shape_BYX * (smooth_BYX * rough_B[:, None, None]).exp()
    return shape_BYX / shape_BYX.mean((1, 2), keepdim=True)
