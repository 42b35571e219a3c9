"""Embeddings of windows, added up from the cells in which something sounds.

Most cells of a window are silent and add nothing, so the cost is that of the sounding cells, not of the window. Only
"known", a channel of masked models in which silence counts, is a product over the whole window.

Shapes: M nodes, W cells of a window, C channels of a cell, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from varcli.pianoroll.inference.packed_transformer import PackedLinear
from varcli.pianoroll.model.level import UNKNOWN, LevelModel, lookup

MOST_SOUNDING = 0.15
"""Share of sounding cells above which the plain product is faster."""
LEAST_WORK = 50_000
"""Weights below which it is as well."""


class WindowEmbedding:
    """The first linear map of a level, for windows without gradients.

    Its weights are `rows` [W * C, D] for `channels` [256, C], a product with cells that are known, `known` (None: that
    is no channel), and a bias.
    """

    def __init__(self, level: LevelModel, dtype: torch.dtype = torch.float32) -> None:
        """The product over the whole window is of `dtype`."""
        self._level, self._dtype = level, dtype
        weight_WCD = level.see.weight.detach().t().unflatten(0, (-1, level.channels.shape[1]))
        silence = level.channels[0] != 0
        assert int(silence.sum()) <= 1
        self.channels = level.channels[:, ~silence].contiguous()
        self.rows = weight_WCD[:, ~silence].flatten(0, 1).contiguous()
        self.bias = level.see.bias.detach()
        known_WD = weight_WCD[:, silence].flatten(0, 1)
        self.known = PackedLinear(known_WD.t(), self.bias, dtype=dtype) if silence.any() else None
        self._channel = torch.arange(self.channels.shape[1], device=self.rows.device)

    def __call__(self, codes_MW: Tensor) -> Tensor:
        """Embed windows of codes u8 [M, W] (UNKNOWN where hidden) to [M, D]; the same as `LevelModel.embed_windows`."""
        M, W = codes_MW.shape
        if M * W * len(self.bias) < LEAST_WORK:
            return self._level.see(lookup(codes_MW, self._level.channels).flatten(-2))
        # Codes 0 and UNKNOWN are zero in these channels; plus one they are 1 and 0.
        at = ((codes_MW + 1).view(-1) > 1 if self.known is not None else codes_MW.view(-1)).nonzero().view(-1)
        if len(at) > MOST_SOUNDING * M * W:
            return self._level.see(lookup(codes_MW, self._level.channels).flatten(-2))
        C = len(self._channel)
        parts = self.channels.index_select(0, codes_MW.view(-1).index_select(0, at).int())
        index = (at.remainder(W) * C)[:, None] + self._channel
        first = torch.searchsorted(at, torch.arange(0, M * W, W, device=at.device)) * C
        sounding = F.embedding_bag(index.view(-1), self.rows, first, mode="sum", per_sample_weights=parts.view(-1))
        return self.add_known(sounding.add_(self.bias) if self.known is None else sounding, codes_MW)

    def add_known(self, sounding: Tensor, codes_MW: Tensor) -> Tensor:
        """Add the channel of known cells, where there is one, and with it the bias."""
        if self.known is None:
            return sounding
        M, W = codes_MW.shape
        known = torch.ne(codes_MW, UNKNOWN, out=sounding.new_empty(M, W, dtype=self._dtype))
        return sounding.add_(self.known(known))
