"""The weights of one level, added up and laid out once per batch.

Shapes: n siblings of a group, M nodes, D width, V vocabulary of cell values.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from varcli.pianoroll.inference.packed_transformer import PackedTransformer, Rotary, pack
from varcli.pianoroll.inference.window_embedding import WindowEmbedding
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.model.level import GIVEN, OWN_SHARE, LevelModel
from varcli.pianoroll.model.transformer import rotary_tables

NARROW_WORK = 1 << 10
"""Width of a level times the tokens of a run from which on products of bfloat16 are the faster ones."""


class Size(NamedTuple):
    """Patches of level 0, columns they stand in, samples, and how many children run at once from a cache (0: there
    is none)."""

    top: np.ndarray
    columns: int
    samples: int
    kept: int
    dtype: torch.dtype = torch.float32


class LevelWeights:
    """A level's network and tables.

    order [n + kept - 1]: siblings of a group, the last repeated so that a draft may reach beyond it.
    place [rows * columns, D] embeds places of nodes, a column being a step of the bar, or one of level 0.
    mask f32 [n, n] is added to scores of attention (None: all attend to all); it is `unlimited` if it only hides what
    comes later. rotary tables are [n, 1, F]. `before` is the cell of a value's window before its own, if inside.
    """

    def __init__(self, model: FractalModel, network: LevelModel, size: Size) -> None:
        self.network, self.kept = network, size.kept
        self.window_embedding = WindowEmbedding(network, size.dtype)
        self.columns = size.columns if network.level == 0 else network.steps_per_bar
        n = len(size.top) if network.level == 0 else network.siblings
        self.order = np.minimum(np.arange(n + max(1, size.kept) - 1), n - 1)
        self.siblings = n
        self.state = network.state.weight.detach()
        self.place = self._add_up_places()
        self.row_bias = (network.row_bias.weight + network.head.bias).detach()
        self.row_weight = (
            network.head.weight if network.is_value else network.row_head.weight + network.head.weight
        ).detach()
        self._value_weight = self.row_weight.t().contiguous()
        before = np.flatnonzero((network.offsets.cpu().numpy() == (0, -1)).all(1))
        self.before = int(before[0]) if network.is_value and len(before) else None
        if network.level:
            self._inherit, self._share = pack(network.inherit), pack(network.share)
            self._spread, self._own = network.spread.weight.detach().t().contiguous(), network.place.weight.detach()
        self.rotary: Rotary | None = None
        self.mask, self.stack, self.kv_cache, self.unlimited = None, None, None, True
        if network.transformer is not None:
            self.stack = PackedTransformer(network.transformer, self._product_type(size))
            self.kv_cache = self.stack.kv_cache(size.samples, len(self.order)) if size.kept else None
            self._lay_out_attention(size.top)

    def _product_type(self, size: Size) -> torch.dtype:
        """The dtype asked for, where a run has enough tokens for it to pay: else float32."""
        tokens = size.samples * size.kept if size.kept else 4 * self.siblings
        return size.dtype if self.network.width * tokens >= NARROW_WORK else torch.float32

    def _add_up_places(self) -> Tensor:
        network, device = self.network, self.state.device
        p = torch.arange(network.pitch.num_embeddings, device=device)[:, None] * network.child_pitches
        t = torch.arange(self.columns, device=device)[None] * (network.child_steps if network.level == 0 else 1)
        return network.locate(*torch.broadcast_tensors(p, t)).flatten(0, 1)

    def _lay_out_attention(self, top: np.ndarray) -> None:
        network, device, allowed = self.network, self.state.device, None
        assert network.transformer is not None
        if network.level == 0:
            columns = torch.from_numpy(top[self.order, 1] // network.child_steps).to(device)
            cos, sin = rotary_tables(columns, network.width // network.transformer.heads)
            assert self.stack is not None
            self.rotary = (cos[:, None].to(self.stack.dtype), sin[:, None].to(self.stack.dtype))
            allowed = network.top_mask(columns[None])
        length = len(self.order)
        self.unlimited = allowed is None
        if allowed is None and network.is_causal and not network.is_value:
            allowed = torch.ones(1, length, length, dtype=torch.bool, device=device).tril()
        if allowed is not None:
            assert self.stack is not None
            hidden = torch.zeros(length, length, dtype=self.stack.dtype, device=device)
            self.mask = hidden.masked_fill_(~allowed[0], float("-inf"))

    def inherited(self, parent_ND: Tensor) -> Tensor:
        """What children inherit of their parent's vector [N, D'], as [N, n, D]; the same as `LevelModel.inherited`."""
        own = self._share(parent_ND).view(-1, OWN_SHARE) @ self._spread
        return own.view(len(parent_ND), -1, own.shape[1]).add_(self._inherit(parent_ND)[:, None]).add_(self._own)

    def decide(self, hidden_MD: Tensor, row_M: Tensor) -> Tensor:
        """Logits [M] of being occupied, for nodes in pitch rows; the same as `LevelModel.decide`."""
        weight, bias = self.row_weight.index_select(0, row_M), self.row_bias.view(-1).index_select(0, row_M)
        return weight.mul_(hidden_MD).sum(1).add_(bias)

    def decide_value(self, hidden_MD: Tensor, row_M: Tensor, codes_MW: Tensor, step_M: Tensor) -> Tensor:
        """Logits [M, V - 1] of values; none is held where it cannot be, as `forbid_held` has it."""
        logits = torch.addmm(self.row_bias.index_select(0, row_M), hidden_MD, self._value_weight)
        if self.before is not None:
            silent = (codes_MW[:, self.before] & (GIVEN - 1) == 0) | (step_M == 0)
            logits[:, 0].masked_fill_(silent, float("-inf"))
        return logits
