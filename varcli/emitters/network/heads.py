"""Heads, from the token of a cell: how many emitters, where in the cell; at the finest scale position and photons.

Legend: L cells (or any leading shape), D width, B frames, Y X cells of a scale.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_HIGHEST, _LOWEST = 6.0, -12.0


@dataclass(frozen=True)
class Leaves:
    """Given one emitter in each of L finest cells: where it is, how bright, and how well that is known.

    Its offset from the cell's centre, in cells [L, 2: x, y], the log of its photoelectrons [L], and the standard
    deviations of both, the former in cells [L, 3: x, y, log].
    """

    offset_L2: Tensor
    log_electrons_L: Tensor
    sd_L3: Tensor


class CellHead(nn.Module):
    """The count of a cell, or its share of its parent's, and the mean position of an emitter inside it."""

    def __init__(self, width: int, decides: str, *, first: bool) -> None:
        super().__init__()
        self.decides, self.first = decides, first
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, 3)
        nn.init.zeros_(self.linear.bias)
        if first or decides == "occupancy":
            nn.init.constant_(self.linear.bias[:1], -1.5 if first else 0.0)

    def forward(self, tokens_D: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [...] and offsets [..., 2: x, y] in cells from the centre, within half a cell."""
        raw = self.linear(self.norm(tokens_D.float()))
        return raw[..., 0], 0.5 * torch.tanh(raw[..., 1:])

    def log_first(self, logit: Tensor) -> Tensor:
        """Log of the expected count (or of the probability of occupancy) of a cell of the first scale."""
        return F.logsigmoid(logit) if self.decides == "occupancy" else logit.clamp(_LOWEST, _HIGHEST)

    def log_share(self, logits_4: Tensor) -> Tensor:
        """Log share [..., 4] of each child, given its parent's count; or of its occupancy, given that of its parent."""
        return F.logsigmoid(logits_4) if self.decides == "occupancy" else torch.log_softmax(logits_4, -1)


class LeafHead(nn.Module):
    """Position, photons and their spread for one emitter in a finest cell."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, 6)
        nn.init.zeros_(self.linear.bias)

    def forward(self, tokens_LD: Tensor, log_noise_L: Tensor, log_sigma_L: Tensor) -> Leaves:
        """Electrons are predicted relative to the noise under a spot of the given width."""
        raw = self.linear(self.norm(tokens_LD.float()))
        offset = 0.55 * torch.tanh(raw[..., :2])
        log_electrons = raw[..., 2].clamp(-4, 8) + log_noise_L + log_sigma_L + 3.5
        floor = torch.tensor([-4.5, -4.5, -4.0], device=raw.device)
        sd = torch.exp(torch.maximum((raw[..., 3:] - 1).clamp(max=1.0), floor))
        return Leaves(offset, log_electrons, sd)
