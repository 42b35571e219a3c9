"""A residual multilayer perceptron, for tokens without attention between them.

Shapes: D width.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from varcli.pianoroll.model.dropout import BankDropout


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
