"""What the tokens of a level are run through: a transformer with rotary positions, or a residual perceptron.

Shapes: B sequences, L tokens, H heads, D width, F = D / H features of a head.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from varcli.pianoroll.model.dropout import BankDropout


def rotary_tables(positions_L: Tensor, features: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines [..., L, F] for rotary positions (Su et al. 2021, arXiv:2104.09864), half-split layout."""
    half = torch.arange(0, features, 2, device=positions_L.device, dtype=torch.float32)
    angles = positions_L.float()[..., None] * base ** (-half / features)
    return torch.cat([angles.cos()] * 2, -1), torch.cat([angles.sin()] * 2, -1)


def rotate(x_BHLF: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Turn queries or keys by their positions."""
    cos, sin = (t.to(x_BHLF.dtype) for t in tables)
    left, right = x_BHLF.chunk(2, -1)
    return x_BHLF * cos + torch.cat([-right, left], -1) * sin


class Attention(nn.Module):
    """Multi-head attention through PyTorch's scaled_dot_product_attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x_BLD: Tensor,
        *,
        causal: bool,
        mask: Tensor | None = None,
        rotary: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        B, L, D = x_BLD.shape
        q, k, v = self.qkv(x_BLD).view(B, L, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal and mask is None and L > 1)
        return self.out(y.transpose(1, 2).reshape(B, L, D))


class Block(nn.Module):
    """A pre-norm transformer block: attention, then a GELU MLP four times as wide."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)
        self.dropping = dropout > 0  # a module call that does nothing still costs microseconds

    def forward(self, x_BLD: Tensor, **attention: Any) -> Tensor:
        y_BLD = self.attention(self.norm1(x_BLD), **attention)
        x_BLD = x_BLD + (self.dropout(y_BLD) if self.dropping else y_BLD)
        y_BLD = self.down(F.gelu(self.up(self.norm2(x_BLD)), approximate="tanh"))
        return x_BLD + (self.dropout(y_BLD) if self.dropping else y_BLD)


class Transformer(nn.Module):
    """A stack of blocks and a final norm."""

    def __init__(self, width: int, heads: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        stack = [Block(width, heads, dropout) for _ in range(blocks)]
        self.blocks = nn.ModuleList(stack)
        self.norm = nn.LayerNorm(width)
        for block in stack:
            # Residual branches start small, so that depth does not blow up the sum (GPT-2's rule).
            for last in (block.attention.out, block.down):
                nn.init.normal_(last.weight, 0, 0.02 / (2 * blocks) ** 0.5)

    def forward(
        self,
        x_BLD: Tensor,
        *,
        causal: bool,
        mask: Tensor | None = None,
        rotary: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Run x [B, L, D]; `mask` is boolean [B|1, 1, L, L], True where a query may look."""
        for block in self.blocks:
            x_BLD = block(x_BLD, causal=causal, mask=mask, rotary=rotary)
        return self.norm(x_BLD)


class ResidualMLP(nn.Module):
    """Pre-norm residual blocks, two linear maps each, over the last dimension; a norm and SiLU first, a norm last."""

    def __init__(self, width: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.norm_in = nn.LayerNorm(width)
        self.dropout = BankDropout(dropout)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), BankDropout(dropout), nn.Linear(width, width)
            )
            for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x_D: Tensor) -> Tensor:
        x_D = self.dropout(F.silu(self.norm_in(x_D)))
        for block in self.blocks:
            x_D = x_D + block(x_D)
        return self.norm(x_D)
