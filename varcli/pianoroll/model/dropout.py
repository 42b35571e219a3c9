"""Dropout from a bank of random bytes: drawing fresh numbers costs more than the layers it protects, on a CPU."""

from functools import lru_cache

import torch
from torch import Tensor, nn

BANK = 1 << 24


@lru_cache(maxsize=4)
def _bank(device: torch.device) -> Tensor:
    bytes_ = torch.randint(0, 256, (BANK,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return bytes_.to(device)


def kept(shape: torch.Size, share: float, device: torch.device) -> Tensor:
    """Bool of `shape`, true with probability 1 - share (to 1/256), read from a random place of the bank.

    The place hangs on PyTorch's global generator, so that a seeded step draws the same.
    """
    count = shape.numel()
    start = int(torch.randint(0, max(1, BANK - count), (1,)))
    bank = _bank(device)
    drawn = bank[start : start + count] if count <= BANK else bank.repeat(-(-count // BANK))[:count]
    return (drawn >= round(share * 256)).view(shape)


class BankDropout(nn.Module):
    """Zeroes a share of the values in training and scales the others up; does nothing in evaluation."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = round(share * 256) / 256

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.share == 0:
            return x
        return x * (kept(x.shape, self.share, x.device).to(x.dtype) / (1 - self.share))
