"""What stands between two products of bfloat16, compiled: a sum, a norm and the rounding in one go; GELU by a table.

One after another, these operations cost as much as the products. Numba is slow to import, so that this file is, too.

Shapes: M rows, D width.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from varcli.compiled import REORDERED, kernel
from varcli.threads import Workers

ROWS = 128
"""Rows that one thread works on at a time."""


class FusedAddNorm:
    """Adds what a product says to the residual stream, and normalises the sum for the next product."""

    def __init__(self) -> None:
        self._workers = Workers()

    def __call__(self, x_MD: Tensor, y_MD: Tensor, norm: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The sum of x f32 and y bf16, and its layer norm with weight and bias [D], in bf16."""
        sums, normed = torch.empty_like(x_MD), torch.empty_like(y_MD)
        x, y, a, b = x_MD.numpy(), y_MD.view(torch.uint16).numpy(), sums.numpy(), normed.view(torch.uint16).numpy()
        weight, bias = norm[0].numpy(), norm[1].numpy()

        def join(part: int) -> None:
            rows = slice(part * ROWS, (part + 1) * ROWS)
            _join(x[rows], y[rows], weight, bias, a[rows], b[rows])

        self._workers(join, -(-len(x) // ROWS))
        return sums, normed


class Gelu:
    """GELU of bfloat16 in place, as tanh approximates it: there are few such numbers, so all answers are kept."""

    def __init__(self) -> None:
        numbers = torch.arange(1 << 16).to(torch.uint16).view(torch.bfloat16).float()
        self._table = F.gelu(numbers, approximate="tanh").bfloat16().view(torch.uint16).numpy()
        self._workers = Workers()

    def __call__(self, x_MD: Tensor) -> Tensor:
        """Replace x by its GELU, and return it."""
        x = x_MD.view(torch.uint16).numpy()
        self._workers(lambda part: _look_up(x[part * ROWS : (part + 1) * ROWS], self._table), -(-len(x) // ROWS))
        return x_MD


@kernel(fastmath=REORDERED)
def _look_up(x: np.ndarray, table: np.ndarray) -> None:
    """Replace numbers u16 [M, D] by what a table [65536] says of them."""
    for row in range(len(x)):
        part = x[row]
        for i in range(len(part)):
            part[i] = table[part[i]]


@kernel(fastmath=REORDERED)
def _moments(x: np.ndarray) -> tuple[np.float32, np.float32]:
    """Mean of x f32 [D], and the factor by which a layer norm scales what is left."""
    D = np.float32(len(x))
    mean = np.float32(0)
    for i in range(len(x)):
        mean += x[i]
    mean /= D
    square = np.float32(0)
    for i in range(len(x)):
        square += (x[i] - mean) * (x[i] - mean)
    return mean, np.float32(1) / np.sqrt(square / D + np.float32(1e-5))


@kernel(fastmath=REORDERED)
def _join(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, bias: np.ndarray, sums: np.ndarray, normed: np.ndarray
) -> None:
    """Write x f32 plus y (bf16 as u16) to `sums` f32, and the layer norm of that to `normed` (bf16 as u16), [M, D]."""
    for row in range(len(x)):
        from_x, from_y, to, said = x[row], y[row], sums[row], normed[row]
        for i in range(len(to)):
            to[i] = from_x[i] + np.uint32(np.uint32(from_y[i]) << np.uint32(16)).view(np.float32)
        mean, scale = _moments(to)
        for i in range(len(to)):
            bits = np.float32((to[i] - mean) * scale * weight[i] + bias[i]).view(np.uint32)
            # To the nearest, ties to even.
            even = np.uint32(bits >> np.uint32(16)) & np.uint32(1)
            said[i] = np.uint32(np.uint32(bits + np.uint32(0x7FFF)) + even) >> np.uint32(16)
