"""A packed transformer for sampling: the same sums as `transformer.Transformer`, with as little as possible around.

A few tokens at a time cost what it takes to read the weights and to launch operations. So the weights are laid out
once, tokens stand in two dimensions, keys and values lie side by side in one kv_cache, and GELU, which costs as much as
the product before it, is taken within that product. On processors that multiply bfloat16 the products may be of that
kind; sums, norms and what goes from block to block stay in float32, and what stands between two products is compiled,
see `fused_norm`.

Shapes: R sequences, m new tokens of each, M = R * m, c of m wanted, K keys, H heads, D width, F = D / H.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from varcli.pianoroll.model.transformer import Block, Transformer, rotate

if TYPE_CHECKING:
    from varcli.pianoroll.inference.fused_norm import Gelu

Rotary = tuple[Tensor, Tensor]


FUSED_WORK = 1 << 19
"""Products of fewer numbers than this are faster one operation after another, in float32."""

LOOK_UP_WORK = 1 << 15
"""Numbers of bfloat16 from which on GELU is faster from a table than within the product."""


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 about twice as fast as float32, and there is a product that takes it."""
    asked = [getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile")]
    return device.type == "cpu" and _fuses() and any(ask is not None and ask() for ask in asked)


@lru_cache
def _fuses() -> bool:
    """Whether this PyTorch has oneDNN's product with GELU in it, which is no public function."""
    try:
        weight = torch.ops.mkldnn._reorder_linear_weight(torch.eye(16), 16)
        made = torch.ops.mkldnn._linear_pointwise(torch.ones(2, 16), weight, torch.zeros(16), "gelu", [], "tanh")
    except (AttributeError, RuntimeError, TypeError):
        return False
    return bool((made - F.gelu(torch.ones(16), approximate="tanh")).abs().max() < 1e-5)


@lru_cache
def _narrow_gelu() -> "Gelu":
    from varcli.pianoroll.inference.fused_norm import Gelu  # numba is slow to import

    return Gelu()


def pack(linear: nn.Linear) -> "PackedLinear":
    """A linear map of rows [M, D], laid out once."""
    return PackedLinear(linear.weight, linear.bias)


class PackedLinear:
    """A linear map of rows [M, D], followed by GELU if `gelu`; takes and gives `dtype`.

    In float32 weights are transposed, which a product of few rows reads about a third faster.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, gelu: bool = False, dtype: torch.dtype = torch.float32) -> None:
        self._weight = weight.detach().t().to(dtype).contiguous()
        self._bias, self._gelu = bias.detach().to(dtype), gelu
        self._fused: Tensor | None = None
        narrow = dtype == torch.bfloat16
        if weight.device.type == "cpu" and (narrow or gelu) and _fuses():
            self._fused = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(dtype).contiguous(), 64)
        self._look_up = _narrow_gelu() if gelu and narrow and weight.device.type == "cpu" else None
        self._least = 0 if narrow else FUSED_WORK // self._weight.numel()

    def __call__(self, x_MD: Tensor) -> Tensor:
        if self._fused is not None and len(x_MD) > self._least:
            if self._look_up is not None and len(x_MD) * len(self._bias) >= LOOK_UP_WORK:
                return self._look_up(torch.ops.mkldnn._linear_pointwise(x_MD, self._fused, self._bias, "none", [], ""))
            after = ("gelu", [], "tanh") if self._gelu else ("none", [], "")
            return torch.ops.mkldnn._linear_pointwise(x_MD, self._fused, self._bias, *after)
        y_MN = torch.addmm(self._bias, x_MD, self._weight)
        return torch.ops.aten.gelu_(y_MN, approximate="tanh") if self._gelu else y_MN


@dataclass(frozen=True)
class KVCache:
    """Where new tokens stand in a cache of keys and values [blocks, rows, length, 2 D], filled from the left.

    Without `rows` there is one sequence, that goes on at column `start`; else sequence i is row rows[i], and its tokens
    stand `at` columns [M], `cells` [M] of the cache. Queries attend to the first `stop` columns at most.
    """

    kv_cache: Tensor
    stop: int
    start: int = 0
    rows: Tensor | None = None
    at: Tensor | None = None
    cells: Tensor | None = None

    @classmethod
    def of(cls, kv_cache: Tensor, rows: list[int], starts: list[int], m: int) -> "KVCache":
        """The cache for `m` new tokens of each of some rows."""
        stop = max(starts) + m
        if kv_cache.shape[1] == 1:
            return cls(kv_cache, stop, starts[0])
        row, start = torch.tensor([rows, starts], device=kv_cache.device)
        at = start[:, None] + torch.arange(m, device=kv_cache.device)
        return cls(kv_cache, stop, 0, row, at.view(-1), (at + row[:, None] * kv_cache.shape[2]).view(-1))

    def store(self, block: int, kv_MD: Tensor) -> Tensor:
        """Write new keys and values [M, 2 D] of a block and return all of its rows' [R, stop, 2 D]."""
        kv_cache = self.kv_cache[block]
        if self.rows is None or self.cells is None:
            kv_cache[0, self.start : self.stop] = kv_MD
            return kv_cache[:, : self.stop]
        kv_cache.view(-1, kv_cache.shape[2]).index_copy_(0, self.cells, kv_MD)
        return kv_cache[:, : self.stop].index_select(0, self.rows)


class _PackedBlock:
    def __init__(self, block: Block, dtype: torch.dtype) -> None:
        D = block.norm1.weight.shape[0]
        self.norm1 = (block.norm1.weight.detach(), block.norm1.bias.detach())
        self.norm2 = (block.norm2.weight.detach(), block.norm2.bias.detach())
        weight, bias, out = block.attention.qkv.weight, block.attention.qkv.bias, block.attention.out
        self.qkv = PackedLinear(weight, bias, dtype=dtype)
        self.query = PackedLinear(weight[:D], bias[:D], dtype=dtype)
        self.key_value = PackedLinear(weight[D:], bias[D:], dtype=dtype)
        self.out = PackedLinear(out.weight, out.bias, dtype=dtype)
        self.up = PackedLinear(block.up.weight, block.up.bias, gelu=True, dtype=dtype)
        self.down = PackedLinear(block.down.weight, block.down.bias, dtype=dtype)


class PackedTransformer:
    """The weights of a `Transformer`, ready to run without gradients; products are of `dtype`."""

    def __init__(self, stack: Transformer, dtype: torch.dtype = torch.float32) -> None:
        self.heads, self.width, self.dtype = stack.heads, stack.width, dtype
        self.blocks = [_PackedBlock(block, dtype) for block in stack.blocks if isinstance(block, Block)]
        self.norm = (stack.norm.weight.detach(), stack.norm.bias.detach())
        self._add_norm = None
        if dtype == torch.bfloat16 and self.norm[0].device.type == "cpu":
            from varcli.pianoroll.inference.fused_norm import FusedAddNorm  # numba is slow to import

            self._add_norm = FusedAddNorm()

    def kv_cache(self, rows: int, length: int) -> Tensor:
        """An empty cache of keys and values for `rows` sequences of up to `length` tokens."""
        return self.norm[0].new_zeros(len(self.blocks), rows, length, 2 * self.width, dtype=self.dtype)

    def __call__(
        self,
        x_MD: Tensor,
        sequences: int,
        *,
        mask: Tensor | None = None,
        rotary: Rotary | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Run the tokens of some sequences, each as many.

        `mask` [R|1, 1, m, K] is added to the scores; `rotary` holds cosines and sines [M, 1, F]; both of this dtype.
        Without a cache the new tokens are all there is.
        """
        n_MD = self._enter(x_MD)
        for index in range(len(self.blocks)):
            x_MD, n_MD = self._run(index, x_MD, n_MD, sequences, mask, rotary, cache)
        return F.layer_norm(x_MD + n_MD, (self.width,), *self.norm)

    def some(
        self,
        x_MD: Tensor,
        wanted: Tensor,
        sequences: int,
        *,
        mask: Tensor | None = None,
        rotary: Rotary | None = None,
    ) -> Tensor:
        """Run the tokens of some sequences, of which only rows `wanted` [R * c], c of each sequence, come out.

        In the last block the others are keys and values alone.
        """
        n_MD = self._enter(x_MD)
        for index in range(len(self.blocks) - 1):
            x_MD, n_MD = self._run(index, x_MD, n_MD, sequences, mask, rotary, None)
        last = self.blocks[-1]
        q, kv = last.query(n_MD.index_select(0, wanted)), last.key_value(n_MD)
        if rotary is not None:
            self._turn_(kv[:, : self.width], rotary)
            self._turn_(q, (rotary[0].index_select(0, wanted), rotary[1].index_select(0, wanted)))
        if mask is not None:
            m = mask.shape[2]
            mask = mask.expand(sequences, 1, m, m).flatten(0, 2).index_select(0, wanted).view(sequences, 1, -1, m)
        y = self._attend(q, kv.view(sequences, -1, 2 * self.width), mask)
        x_MD, n_MD = self._feed(len(self.blocks) - 1, x_MD.index_select(0, wanted), y)
        return F.layer_norm(x_MD + n_MD, (self.width,), *self.norm)

    def _enter(self, x_MD: Tensor) -> Tensor:
        """What the first attention takes in."""
        return F.layer_norm(x_MD, (self.width,), *self.blocks[0].norm1).to(self.dtype)

    def _join(self, x_MD: Tensor, y_MD: Tensor, norm: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The sum of x and y, and its norm for the next product."""
        if self._add_norm is not None:
            return self._add_norm(x_MD, y_MD, norm)
        x_MD = x_MD + y_MD
        return x_MD, F.layer_norm(x_MD, (self.width,), *norm).to(self.dtype)

    def _feed(self, index: int, x_MD: Tensor, y_MD: Tensor) -> tuple[Tensor, Tensor]:
        """The rest of a block after attention gave `y`: the residual stream, and what the next attention takes in;
        after the last block, the two parts of what comes out."""
        block = self.blocks[index]
        x_MD, n_MD = self._join(x_MD, block.out(y_MD), block.norm2)
        y_MD = block.down(block.up(n_MD))
        return (x_MD, y_MD) if index + 1 == len(self.blocks) else self._join(x_MD, y_MD, self.blocks[index + 1].norm1)

    def _run(
        self,
        index: int,
        x_MD: Tensor,
        n_MD: Tensor,
        sequences: int,
        mask: Tensor | None,
        rotary: Rotary | None,
        cache: KVCache | None,
    ) -> tuple[Tensor, Tensor]:
        D = self.width
        qkv = self.blocks[index].qkv(n_MD)
        if rotary is not None:
            self._turn_(qkv[:, : 2 * D], rotary)
        q, kv = qkv[:, :D], qkv[:, D:]
        kv = kv.view(sequences, -1, 2 * D) if cache is None else cache.store(index, kv)
        return self._feed(index, x_MD, self._attend(q, kv, mask))

    def _turn_(self, x_MX: Tensor, rotary: Rotary) -> None:
        heads = x_MX.unflatten(1, (-1, self.width // self.heads))
        heads.copy_(rotate(heads, rotary))

    def _attend(self, q_MD: Tensor, kv_RKD: Tensor, mask: Tensor | None) -> Tensor:
        R, K, _ = kv_RKD.shape
        H = self.heads
        k, v = kv_RKD.view(R, K, 2, H, -1).permute(2, 0, 3, 1, 4).unbind(0)
        q = q_MD.unflatten(0, (R, -1)).unflatten(2, (H, -1)).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return y.transpose(1, 2).reshape(-1, self.width)
