"""Blocks of tokens modulated by conditions (AdaLN), whose tokens see one another by attention or convolution.

Legend: B frames, Y X cells of a scale, L tokens, D width, H heads, F features of a head, K width of the conditions,
N blocks of cells, M cells remembered from coarser scales.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Memory = list[tuple[Tensor, Tensor]]
"""Keys and values [B, H, M, F] of coarser scales, one pair per block."""


def silu(x: Tensor) -> Tensor:
    """The sigmoid linear unit, in place where no gradient needs `x`: fresh memory costs more than the function."""
    return F.silu(x, inplace=not x.requires_grad)


class Modulation(nn.Module):
    """Shift, scale and gate of each branch of a block, from the conditions; zero at first (Peebles & Xie 2023)."""

    def __init__(self, condition_width: int, width: int, branches: int) -> None:
        super().__init__()
        self.linear = nn.Linear(condition_width, 3 * branches * width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.branches = branches
        with torch.no_grad():
            # Gates begin slightly open, so that short trainings do not spend their first steps opening them.
            self.linear.bias.view(branches, 3, width)[:, 2] = 0.5

    def forward(self, condition_BK: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], ...]:
        """For each branch: shift, scale, gate [B, D]."""
        parts = self.linear(F.silu(condition_BK)).unflatten(-1, (self.branches, 3, -1))
        return tuple(tuple(parts[:, branch].unbind(1)) for branch in range(self.branches))  # type: ignore[misc]


class AdaLNSelfAttn(nn.Module):
    """A block: tokens see one another as `mixing` says, then each goes through a perceptron; both conditioned.

    On grids of a field, attention reaches `reach` cells to each side with a bias learned per offset, so that it does
    not depend on where a frame begins; on absolute grids it sees a window and all cells of coarser scales.
    """

    def __init__(
        self, width: int, heads: int, condition_width: int, *, mixing: str = "attention", reach: int = 3, ratio: int = 2
    ) -> None:
        super().__init__()
        self.mixing, self.heads, self.reach = mixing, heads, reach
        self.modulation = Modulation(condition_width, width, 1 if mixing == "none" else 2)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        if mixing == "attention":
            self.qkv = nn.Linear(width, 3 * width)
            self.out = nn.Linear(width, width)
            self.bias_HO = nn.Parameter(torch.zeros(heads, (2 * reach + 1) ** 2))
        elif mixing == "convolution":
            self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.up = nn.Linear(width, ratio * width)
        self.down = nn.Linear(ratio * width, width)

    def forward(self, x_BYXD: Tensor, condition_BK: Tensor) -> Tensor:
        """Tokens of a grid, seeing one another within reach."""
        first, *rest = ((a[:, None, None] for a in branch) for branch in self.modulation(condition_BK))
        if self.mixing != "none":
            shift, scale, gate = first
            y = torch.addcmul(shift, self.norm(x_BYXD), 1 + scale)
            y = self._near(y) if self.mixing == "attention" else self._convolve(y)
            x_BYXD = torch.addcmul(x_BYXD, gate, y)
            first = rest[0]
        return self._perceptron(x_BYXD, *first)

    def sparse(self, x_LD: Tensor, condition_BK: Tensor, frame_L: Tensor) -> Tensor:
        """Tokens of a list of cells, which do not see one another; `frame_L` says whose conditions are theirs."""
        first = self.modulation(condition_BK)[-1]
        return self._perceptron(x_LD, *(a[frame_L] for a in first))

    def windows(self, x_BYXD: Tensor, condition_BK: Tensor, window: int, memory: Memory) -> tuple[Tensor, Memory]:
        """Tokens of an absolute grid: each sees its window and `memory`; returns the keys and values it adds."""
        first, second = ((a[:, None, None] for a in branch) for branch in self.modulation(condition_BK))
        shift, scale, gate = first
        y, pair = self._windowed(self.norm(x_BYXD) * (1 + scale) + shift, window, memory)
        return self._perceptron(x_BYXD + gate * y, *second), [pair]

    def _perceptron(self, x: Tensor, shift: Tensor, scale: Tensor, gate: Tensor) -> Tensor:
        y = self.down(silu(self.up(torch.addcmul(shift, self.norm(x), 1 + scale))))
        return torch.addcmul(x, gate, y)

    def _convolve(self, x_BYXD: Tensor) -> Tensor:
        return silu(self.conv(x_BYXD.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)

    def _split(self, x_BYXD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(x_BYXD).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 4, 1, 2, 5).unbind(0)
        return q, k, v  # each [B, H, Y, X, F]

    def _near(self, x_BYXD: Tensor) -> Tensor:
        q, k, v = self._split(x_BYXD)
        return self.out(neighbourhood_attention(q, k, v, self.bias_HO, self.reach).flatten(-2))

    def _windowed(self, x_BYXD: Tensor, window: int, memory: Memory) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        Y, X = x_BYXD.shape[1:3]
        q, k, v = self._split(x_BYXD)
        rows, columns = -(-Y // window), -(-X // window)
        y = torch.empty_like(q)
        old_k, old_v = ([pair[i] for pair in memory] for i in (0, 1))
        for row in range(rows):
            for column in range(columns):
                at = (..., slice(row * window, (row + 1) * window), slice(column * window, (column + 1) * window))
                part = (*at, slice(None))
                keys = torch.cat([k[part].flatten(2, 3), *old_k], 2)
                values = torch.cat([v[part].flatten(2, 3), *old_v], 2)
                seen = F.scaled_dot_product_attention(q[part].flatten(2, 3), keys, values)
                y[part] = seen.unflatten(2, q[part].shape[2:4])
        return self.out(y.permute(0, 2, 3, 1, 4).flatten(-2)), (k.flatten(2, 3), v.flatten(2, 3))


def neighbourhood_attention(q: Tensor, k: Tensor, v: Tensor, bias_HO: Tensor, reach: int, block: int = 8) -> Tensor:
    """Attention of every cell [B, H, Y, X, F] to those at most `reach` cells away that lie in the grid.

    `bias_HO` [H, (2 reach + 1)²] is added to the logits by offset. Returns [B, Y, X, H, F]. Worked out in blocks of
    cells, so that cost grows with the number of cells; the result does not depend on the blocks. A grid not larger than
    what a block sees is one block, and nothing is copied.
    """
    Y, X = q.shape[2:4]
    if (block + 2 * reach) ** 2 >= Y * X:
        mask = _bias_by_offset(bias_HO, reach, (Y, X), (Y, X), 0).to(q.dtype)
        seen = F.scaled_dot_product_attention(q.flatten(2, 3), k.flatten(2, 3), v.flatten(2, 3), attn_mask=mask[None])
        return seen.unflatten(2, (Y, X)).permute(0, 2, 3, 1, 4)
    return _attention_by_blocks(q, k, v, bias_HO, reach, block)


def _attention_by_blocks(q: Tensor, k: Tensor, v: Tensor, bias_HO: Tensor, reach: int, block: int) -> Tensor:
    B, H, Y, X, features = q.shape
    rows, columns = -(-Y // block), -(-X // block)
    down, right = rows * block - Y, columns * block - X
    side = block + 2 * reach
    q = F.pad(q, (0, 0, 0, right, 0, down)).unflatten(2, (rows, block)).unflatten(4, (columns, block))
    q_blocks = q.permute(0, 2, 4, 1, 3, 5, 6).reshape(B, rows * columns * H, block * block, features)

    def around(x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, reach, reach + right, reach, reach + down)).unfold(2, side, block).unfold(3, side, block)
        return x.permute(0, 2, 3, 1, 5, 6, 4).reshape(B, rows * columns * H, side * side, features)

    mask = _bias_by_offset(bias_HO, reach, (block, block), (side, side), reach)
    inside = F.pad(torch.ones(Y, X, device=q.device), (reach, reach + right, reach, reach + down))
    inside_NS = inside.unfold(0, side, block).unfold(1, side, block).reshape(rows * columns, 1, 1, side * side) > 0
    # Cells that only fill up a block look at themselves, lest they look at nothing; nobody reads their answer.
    alone = torch.zeros(side * side, dtype=torch.bool, device=q.device).view(side, side)
    alone[reach : reach + block, reach : reach + block] = True
    allowed = inside_NS | (alone.flatten() & ~inside_NS.any(-1, keepdim=True))
    masks = torch.where(allowed, mask, -1e4).to(q.dtype).flatten(0, 1)
    seen = F.scaled_dot_product_attention(q_blocks, around(k), around(v), attn_mask=masks[None])
    seen = seen.view(B, rows, columns, H, block, block, features).permute(0, 1, 4, 2, 5, 3, 6)
    return seen.reshape(B, rows * block, columns * block, H, features)[:, :Y, :X]


def _bias_by_offset(bias_HO: Tensor, reach: int, own: tuple[int, int], other: tuple[int, int], margin: int) -> Tensor:
    """The logits to add [H, own cells, other cells]: the bias of each offset, or -10,000 beyond reach.

    The grid of `other` cells begins `margin` cells before that of one's `own`, above and to the left.
    """
    side = 2 * reach + 1
    down, across = (
        torch.arange(there, device=bias_HO.device)[None] - margin - torch.arange(here, device=bias_HO.device)[:, None]
        for here, there in zip(own, other, strict=True)
    )
    near = (down.abs() <= reach)[:, None, :, None] & (across.abs() <= reach)[None, :, None, :]
    index = (
        (down.clamp(-reach, reach) + reach)[:, None, :, None] * side + across.clamp(-reach, reach)[:, None, :] + reach
    )
    flat = index.flatten(2).flatten(0, 1)
    return torch.where(near.flatten(2).flatten(0, 1), bias_HO[:, flat], -1e4)
