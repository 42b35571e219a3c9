"""A transformer that runs one token at a time, compiled: for levels so narrow that launching operations costs more.

The same sums as `transformer.Transformer` with a causal mask and no rotary positions. Weights may be kept in bfloat16,
which halves what is read; everything is added up in float32.

Shapes: L blocks, n tokens of a sequence, D width, N inputs and M outputs of a product, H heads, F = D / H.
"""

from typing import NamedTuple

import numpy as np
import torch
from numba import types
from numba.extending import overload
from torch import Tensor, nn

from varcli.compiled import REORDERED, kernel
from varcli.pianoroll.model.transformer import Block, Transformer

ROWS = 8
"""Inputs whose weights are read side by side."""


class Product(NamedTuple):
    """A linear map: weight [N, M] f32, or u16 that holds bfloat16, N a multiple of ROWS; bias f32 [M]."""

    weight: np.ndarray
    bias: np.ndarray


class Weights(NamedTuple):
    """A transformer: norms f32 [L, 2, D] and products [L, N, M] of its blocks, the last norm f32 [2, D], and heads."""

    norm1: np.ndarray
    qkv: np.ndarray
    qkv_bias: np.ndarray
    out: np.ndarray
    out_bias: np.ndarray
    norm2: np.ndarray
    up: np.ndarray
    up_bias: np.ndarray
    down: np.ndarray
    down_bias: np.ndarray
    norm: np.ndarray
    heads: int


def product_of(weight_MN: Tensor, bias_M: Tensor | None, dtype: torch.dtype = torch.float32) -> Product:
    """Lay out a linear map; weights are of `dtype`."""
    bias = torch.zeros(len(weight_MN)) if bias_M is None else bias_M
    return Product(_numbers(weight_MN.t(), dtype), _numbers(bias))


def weights_of(stack: Transformer, dtype: torch.dtype = torch.float32) -> Weights:
    """Lay out a transformer; weights of products are of `dtype`."""
    blocks = [block for block in stack.blocks if isinstance(block, Block)]

    def norms(parts: list[nn.LayerNorm]) -> np.ndarray:
        return _numbers(torch.stack([torch.stack([part.weight, part.bias]) for part in parts]))

    def products(parts: list[nn.Linear]) -> tuple[np.ndarray, np.ndarray]:
        weight, bias = torch.stack([part.weight.t() for part in parts]), torch.stack([part.bias for part in parts])
        return _numbers(weight, dtype), _numbers(bias)

    return Weights(
        norms([block.norm1 for block in blocks]),
        *products([block.attention.qkv for block in blocks]),
        *products([block.attention.out for block in blocks]),
        norms([block.norm2 for block in blocks]),
        *products([block.up for block in blocks]),
        *products([block.down for block in blocks]),
        norms([stack.norm])[0],
        stack.heads,
    )


def _numbers(tensor: Tensor, dtype: torch.dtype = torch.float32) -> np.ndarray:
    tensor = tensor.detach().to(dtype).contiguous()
    return (tensor if dtype == torch.float32 else tensor.view(torch.uint16)).numpy()


def _widen(number):
    """A f32, or one kept as the upper half of its bits, as a f32; in compiled code alone, see below."""
    raise NotImplementedError


@overload(_widen, inline="always")
def _widen_compiled(number):
    if number == types.uint16:
        return lambda number: np.uint32(np.uint32(number) << np.uint32(16)).view(np.float32)
    return lambda number: number


@kernel(fastmath=REORDERED)
def multiply(weight: np.ndarray, bias: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Write x [N] times weight [N, M], plus bias [M], to y [M]."""
    for j in range(len(y)):
        y[j] = bias[j]
    add_product(weight, x, y)


@kernel(fastmath=REORDERED)
def add_product(weight: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Add x [N] times weight [N, M] to y [M]."""
    for i in range(0, weight.shape[0], ROWS):
        a, b, c, d = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
        e, f, g, h = weight[i + 4], weight[i + 5], weight[i + 6], weight[i + 7]
        p, q, r, s, t, u, v, w = x[i], x[i + 1], x[i + 2], x[i + 3], x[i + 4], x[i + 5], x[i + 6], x[i + 7]
        for j in range(len(y)):
            y[j] += (
                (p * _widen(a[j]) + q * _widen(b[j]))
                + (r * _widen(c[j]) + s * _widen(d[j]))
                + (t * _widen(e[j]) + u * _widen(f[j]))
                + (v * _widen(g[j]) + w * _widen(h[j]))
            )


@kernel(fastmath=REORDERED)
def dot(x: np.ndarray, y: np.ndarray) -> np.float32:
    """Sum of products of two vectors f32."""
    total = np.float32(0)
    for i in range(len(x)):
        total += x[i] * y[i]
    return total


@kernel(fastmath=REORDERED)
def moments(x: np.ndarray) -> tuple[np.float32, np.float32]:
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
def _normalise(x: np.ndarray, norm: np.ndarray, y: np.ndarray) -> None:
    """Write the layer norm of x [D], with weight and bias [2, D], to y."""
    mean, scale = moments(x)
    for i in range(len(x)):
        y[i] = (x[i] - mean) * scale * norm[0, i] + norm[1, i]


@kernel(fastmath=REORDERED)
def _gelu(x: np.ndarray) -> None:
    """GELU of x in place, as tanh approximates it: x times the logistic of a cubic.

    The exponential is a power of two times a series on [-1/2, 1/2], which compiles to vector instructions.
    """
    for i in range(len(x)):
        z = x[i]
        # 2 * sqrt(2 / pi) / log(2): the argument of a power of two.
        power = np.float32(2.3022081) * (z + np.float32(0.044715) * z * z * z)
        power = min(max(power, np.float32(-60)), np.float32(60))
        whole = np.floor(power + np.float32(0.5))
        y = (power - whole) * np.float32(0.6931472)
        series = np.float32(1 / 720)
        for part in (1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0):
            series = series * y + np.float32(part)
        growth = series * np.int32(np.int32(np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)
        x[i] = z * growth / (growth + np.float32(1))


@kernel(fastmath=REORDERED)
def step(x: np.ndarray, at: int, kv_cache: np.ndarray, weights: Weights) -> None:
    """Run the token x f32 [D] at place `at` of its sequence, in place; it becomes its hidden vector.

    `kv_cache` f32 [L, n, 2 D] holds keys and values of what came before and takes those of the token. Where n is 1, a
    token sees itself alone, so that its value is all there is to work out.
    """
    D, alone = len(x), kv_cache.shape[1] == 1
    normed, qkv, y, wide = np.empty_like(x), np.empty(3 * D, np.float32), np.empty_like(x), np.empty(4 * D, np.float32)
    for block in range(len(weights.qkv)):
        _normalise(x, weights.norm1[block], normed)
        if alone:
            multiply(weights.qkv[block, :, 2 * D :], weights.qkv_bias[block, 2 * D :], normed, y)
        else:
            multiply(weights.qkv[block], weights.qkv_bias[block], normed, qkv)
            kv_cache[block, at] = qkv[D:]
            _attend(qkv[:D], kv_cache[block, : at + 1], weights.heads, y)
        _add_up(x, weights.out_bias[block])
        add_product(weights.out[block], y, x)
        _normalise(x, weights.norm2[block], normed)
        multiply(weights.up[block], weights.up_bias[block], normed, wide)
        _gelu(wide)
        _add_up(x, weights.down_bias[block])
        add_product(weights.down[block], wide, x)
    _normalise(x, weights.norm, normed)
    x[:] = normed


@kernel(fastmath=REORDERED)
def _add_up(x: np.ndarray, y: np.ndarray) -> None:
    for i in range(len(x)):
        x[i] += y[i]


@kernel(fastmath=REORDERED)
def _attend(q: np.ndarray, kv: np.ndarray, heads: int, y: np.ndarray) -> None:
    """Write what a query [D] takes from keys and values [n, 2 D] to y [D]."""
    D, n = len(q), len(kv)
    F = D // heads
    scale = np.float32(1) / np.sqrt(np.float32(F))
    scores = np.empty(n, np.float32)
    for first in range(0, D, F):
        part = y[first : first + F]
        for k in range(n):
            scores[k] = dot(q[first : first + F], kv[k, first : first + F]) * scale
        most, total = scores.max(), np.float32(0)
        for k in range(n):
            scores[k] = np.exp(scores[k] - most)
            total += scores[k]
        part[:] = 0
        for k in range(n):
            share, value = scores[k] / total, kv[k, D + first : D + first + F]
            for i in range(F):
                part[i] += share * value[i]
