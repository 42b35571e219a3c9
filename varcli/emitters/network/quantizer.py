"""The running map that scales add to and read from, and the codebook that may stand between.

Follows the residual quantiser of Tian et al. 2024 (Visual Autoregressive Modeling, arXiv:2404.02905), for emitters.
Legend: B frames, C channels, Y X cells of a scale, V entries of the codebook, L vectors.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_KEPT = 0.5
"""Share of a scale's map that its residual convolution leaves as it is."""


class Phi(nn.Module):
    """The residual convolution of one scale: half the map itself, half a 3x3 convolution of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, h_BCYX: Tensor) -> Tensor:
        return _KEPT * h_BCYX + (1 - _KEPT) * self.conv(h_BCYX)


@lru_cache(maxsize=64)
def _bicubic_matrix(old: int, new: int, device: torch.device) -> Tensor:
    """The weights [new, old] of bicubic interpolation along one side."""
    # What is kept must serve training too, whoever asks first.
    with torch.inference_mode(False):
        return F.interpolate(torch.eye(old, device=device)[None, None], size=(new, old), mode="bicubic")[0, 0]


def bicubic(x_BCYX: Tensor, size: Sequence[int]) -> Tensor:
    """Bicubic interpolation to `size`, as two products of matrices: many times faster than PyTorch's on a CPU."""
    down, across = (
        _bicubic_matrix(old, new, x_BCYX.device).to(x_BCYX.dtype)
        for old, new in zip(x_BCYX.shape[-2:], size, strict=True)
    )
    return down @ x_BCYX @ across.T


class EmitterVectorQuantizer(nn.Module):
    """A codebook with straight-through gradients, and the accumulation of scales on the finest grid."""

    def __init__(
        self, vocab_size: int, channels: int, patch_nums: tuple[int, ...], *, commitment: float = 0.25
    ) -> None:
        super().__init__()
        self.patch_nums, self.commitment = tuple(patch_nums), commitment
        self.embedding = nn.Embedding(vocab_size, channels)
        nn.init.normal_(self.embedding.weight, 0, channels**-0.5)
        self.phi = nn.ModuleList(Phi(channels) for _ in patch_nums)

    def nearest(self, h_LC: Tensor) -> Tensor:
        """The index [L] of the codebook entry nearest to each vector, by squared distance."""
        codes_VC = self.embedding.weight
        with torch.no_grad():
            parts = h_LC.float().split(4096)
            return torch.cat([(codes_VC.square().sum(1) - 2 * part @ codes_VC.T).argmin(1) for part in parts])

    def forward(self, h_BCYX: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Replace each vector by its nearest entry; returns the map, the indices [B, Y, X], and the loss.

        Gradients pass straight through; the loss pulls entries to vectors and, weighted by `commitment`, vectors to
        entries.
        """
        B, C, Y, X = h_BCYX.shape
        h_LC = h_BCYX.permute(0, 2, 3, 1).reshape(-1, C).float()
        index_L = self.nearest(h_LC)
        codes_LC = self.embedding(index_L)
        loss = F.mse_loss(codes_LC, h_LC.detach()) + self.commitment * F.mse_loss(h_LC, codes_LC.detach())
        through = h_LC + (codes_LC - h_LC).detach()
        return through.view(B, Y, X, C).permute(0, 3, 1, 2), index_L.view(B, Y, X), loss

    def get_next_autoregressive_input(self, si: int, SN: int, f_hat: Tensor, h_BChw: Tensor) -> tuple[Tensor, Tensor]:
        """Add the map of scale `si` of `SN` to the running map, and give the map as the next scale reads it.

        `f_hat` [B, C, Y, X] lies on the finest grid, `h_BChw` on that of scale `si`. At the last scale the map is
        added as it is and returned twice.
        """
        if si == SN - 1:
            f_hat = f_hat + h_BChw
            return f_hat, f_hat
        size = f_hat.shape[-2:]
        up = h_BChw if h_BChw.shape[-2:] == size else bicubic(h_BChw, size)
        f_hat = f_hat + self.phi[si](up)
        next_scale, finest = self.patch_nums[si + 1], self.patch_nums[-1]
        if finest % next_scale == 0:
            return f_hat, F.avg_pool2d(f_hat, finest // next_scale) if finest > next_scale else f_hat
        next_size = [side * next_scale // finest for side in size]
        return f_hat, F.interpolate(f_hat, size=next_size, mode="area")
