"""What stands between two products of bfloat16, compiled: a sum, a norm and the rounding in one go over the rows.

One after another, these operations cost as much as the products. Numba is slow to import, so that this file is, too.

Shapes: M rows, D width.
"""

import numpy as np
import torch
from numba import njit
from torch import Tensor

from varcli.nn.stepping import FLAGS
from varcli.nn.workers import Workers

ROWS = 128
"""Rows that one thread works on at a time."""


class Joining:
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


@njit(**FLAGS)
def _join(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, bias: np.ndarray, sums: np.ndarray, normed: np.ndarray
) -> None:
    """Write x f32 plus y (bf16 as u16) to `sums` f32, and the layer norm of that to `normed` (bf16 as u16), [M, D]."""
    D = np.float32(x.shape[1])
    for row in range(len(x)):
        from_x, from_y, to, said = x[row], y[row], sums[row], normed[row]
        mean = np.float32(0)
        for i in range(len(to)):
            to[i] = from_x[i] + np.uint32(np.uint32(from_y[i]) << np.uint32(16)).view(np.float32)
            mean += to[i]
        mean /= D
        square = np.float32(0)
        for i in range(len(to)):
            square += (to[i] - mean) * (to[i] - mean)
        scale = np.float32(1) / np.sqrt(square / D + np.float32(1e-5))
        for i in range(len(to)):
            bits = np.float32((to[i] - mean) * scale * weight[i] + bias[i]).view(np.uint32)
            # To the nearest, ties to even.
            even = np.uint32(bits >> np.uint32(16)) & np.uint32(1)
            said[i] = np.uint32(np.uint32(bits + np.uint32(0x7FFF)) + even) >> np.uint32(16)
