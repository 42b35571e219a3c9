"""A transformer laid out for writing: the same sums as `attention.Transformer`, with as little as possible around them.

A few tokens at a time cost what it takes to read the weights and to launch operations. So the weights are transposed
once, which a product of few rows reads about a third faster, tokens stand in two dimensions, and keys and values lie
side by side in one memory.

Shapes: R sequences, m new tokens of each, M = R * m, c of m wanted, K keys, H heads, D width, F = D / H.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from varcli.nn.attention import Block, Transformer, rotate

Rotary = tuple[Tensor, Tensor]


def pack(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
    """A linear map of rows [M, D] whose weights are transposed once."""
    weight, bias = linear.weight.detach().t().contiguous(), linear.bias.detach()
    return lambda x_MD: torch.addmm(bias, x_MD, weight)


@dataclass(frozen=True)
class Slots:
    """Where new tokens stand in a memory of keys and values [blocks, rows, length, 2 D], filled from the left.

    Without `rows` there is one sequence, that goes on at column `start`; else sequence i is row rows[i], and its tokens
    stand `at` columns [M], `cells` [M] of the memory. Queries look at the first `stop` columns at most.
    """

    memory: Tensor
    stop: int
    start: int = 0
    rows: Tensor | None = None
    at: Tensor | None = None
    cells: Tensor | None = None

    @classmethod
    def of(cls, memory: Tensor, rows: list[int], starts: list[int], m: int) -> "Slots":
        """Slots for `m` new tokens of each of some rows."""
        stop = max(starts) + m
        if memory.shape[1] == 1:
            return cls(memory, stop, starts[0])
        row, start = torch.tensor([rows, starts], device=memory.device)
        at = start[:, None] + torch.arange(m, device=memory.device)
        return cls(memory, stop, 0, row, at.view(-1), (at + row[:, None] * memory.shape[2]).view(-1))

    def store(self, block: int, kv_MD: Tensor) -> Tensor:
        """Write new keys and values [M, 2 D] of a block and return all of its rows' [R, stop, 2 D]."""
        memory = self.memory[block]
        if self.rows is None or self.cells is None:
            memory[0, self.start : self.stop] = kv_MD
            return memory[:, : self.stop]
        memory.view(-1, memory.shape[2]).index_copy_(0, self.cells, kv_MD)
        return memory[:, : self.stop].index_select(0, self.rows)


class _PackedBlock:
    def __init__(self, block: Block) -> None:
        D = block.norm1.weight.shape[0]
        self.shape = (D,)
        self.norm1 = (block.norm1.weight.detach(), block.norm1.bias.detach())
        self.norm2 = (block.norm2.weight.detach(), block.norm2.bias.detach())
        weight, bias = block.attention.qkv.weight.detach().t().contiguous(), block.attention.qkv.bias.detach()
        self.qkv = (bias, weight)
        self.query, self.key_value = (bias[:D], weight[:, :D]), (bias[D:], weight[:, D:])
        self.out, self.up, self.down = pack(block.attention.out), pack(block.up), pack(block.down)

    def feed(self, x_MD: Tensor, y_MD: Tensor) -> Tensor:
        """The rest of the block after attention has said `y`."""
        x_MD = self.out(y_MD).add_(x_MD)
        n_MD = F.layer_norm(x_MD, self.shape, *self.norm2)
        return self.down(torch.ops.aten.gelu_(self.up(n_MD), approximate="tanh")).add_(x_MD)


class PackedTransformer:
    """The weights of a `Transformer`, ready to run without gradients."""

    def __init__(self, stack: Transformer) -> None:
        self.heads, self.width = stack.heads, stack.width
        self.blocks = [_PackedBlock(block) for block in stack.blocks if isinstance(block, Block)]
        self.norm = (stack.norm.weight.detach(), stack.norm.bias.detach())

    def memory(self, rows: int, length: int) -> Tensor:
        """An empty memory of keys and values for `rows` sequences of up to `length` tokens."""
        return self.norm[0].new_zeros(len(self.blocks), rows, length, 2 * self.width)

    def __call__(
        self,
        x_MD: Tensor,
        sequences: int,
        *,
        mask: Tensor | None = None,
        rotary: Rotary | None = None,
        slots: Slots | None = None,
    ) -> Tensor:
        """Run the tokens of some sequences, each as many.

        `mask` f32 [R|1, 1, m, K] is added to the scores; `rotary` holds cosines and sines [M, 1, F]. Without slots the
        new tokens are all there is.
        """
        for index, block in enumerate(self.blocks):
            x_MD = self._run(index, block, x_MD, sequences, mask, rotary, slots)
        return F.layer_norm(x_MD, (self.width,), *self.norm)

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

        Nobody asks for the others after the last block, so there they are keys and values alone.
        """
        *blocks, last = self.blocks
        for index, block in enumerate(blocks):
            x_MD = self._run(index, block, x_MD, sequences, mask, rotary, None)
        n_MD = F.layer_norm(x_MD, last.shape, *last.norm1)
        q, kv = (
            torch.addmm(last.query[0], n_MD.index_select(0, wanted), last.query[1]),
            torch.addmm(last.key_value[0], n_MD, last.key_value[1]),
        )
        if rotary is not None:
            self._turn_(kv[:, : self.width], rotary)
            self._turn_(q, (rotary[0].index_select(0, wanted), rotary[1].index_select(0, wanted)))
        if mask is not None:
            m = mask.shape[2]
            mask = mask.expand(sequences, 1, m, m).flatten(0, 2).index_select(0, wanted).view(sequences, 1, -1, m)
        y = self._attend(q, kv.view(sequences, -1, 2 * self.width), mask)
        return F.layer_norm(last.feed(x_MD.index_select(0, wanted), y), last.shape, *self.norm)

    def _run(
        self,
        index: int,
        block: _PackedBlock,
        x_MD: Tensor,
        sequences: int,
        mask: Tensor | None,
        rotary: Rotary | None,
        slots: Slots | None,
    ) -> Tensor:
        D = self.width
        qkv = torch.addmm(block.qkv[0], F.layer_norm(x_MD, block.shape, *block.norm1), block.qkv[1])
        if rotary is not None:
            self._turn_(qkv[:, : 2 * D], rotary)
        q, kv = qkv[:, :D], qkv[:, D:]
        kv = kv.view(sequences, -1, 2 * D) if slots is None else slots.store(index, kv)
        return block.feed(x_MD, self._attend(q, kv, mask))

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
