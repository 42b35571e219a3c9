"""What key is it in: how often each pitch class sounds, relative to a node's own.

A key is what notes far apart share long before anything else. A node gets how often each pitch class
sounds in the columns it may know of, near it and in all, relative to its own pitch class; one weight serves all keys.

Shapes: B canvases, C columns of level 0, P pitches, K = 12 pitch classes, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from varcli.pianoroll.constants import NEAR_COLUMNS_IN_STEPS, PITCH_CLASSES


def count_pitch_classes(sounding_BPCw: Tensor, *, past_only: bool, later: Tensor | None = None) -> Tensor:
    """Count sounding cells [B, P, C, w] per pitch class, f32 [B, C, 2, K]: near a column, and in all columns.

    With `past_only` a column knows those before it, and of itself and later ones the cells of `later`, bool like the
    cells; else it knows itself and both sides, as far as the caller kept them.
    """
    C, w = sounding_BPCw.shape[2:]
    reach = max(1, NEAR_COLUMNS_IN_STEPS // w)
    sums = _running_counts(sounding_BPCw)
    column = torch.arange(C, device=sums.device)
    start, stop = (column - reach).clamp(min=0), (column + reach + 1).clamp(max=C)
    if not past_only:
        return torch.stack([sums[:, stop] - sums[:, start], sums[:, -1:].expand(-1, C, -1)], 2)
    near, total = sums[:, column] - sums[:, start], sums[:, :-1]
    if later is not None:
        more = _running_counts(later)
        near, total = near + more[:, stop] - more[:, column], total + more[:, -1:] - more[:, :-1]
    return torch.stack([near, total], 2)


def _running_counts(sounding_BPCw: Tensor) -> Tensor:
    """Sounding cells per pitch class in all columns before each, f32 [B, C + 1, K]."""
    B, P, C, w = sounding_BPCw.shape
    # An octave has one row of each class, so that bytes are enough for a column one step wide, and much faster.
    on = sounding_BPCw.view(torch.uint8).squeeze(3) if w == 1 else sounding_BPCw.sum(3)
    on = F.pad(on, (0, 0, 0, -P % PITCH_CLASSES))
    counts_BCK = on.view(B, -1, PITCH_CLASSES, C).sum(1, dtype=on.dtype).transpose(1, 2).float()
    return torch.cat([counts_BCK.new_zeros(B, 1, PITCH_CLASSES), counts_BCK.cumsum(1)], 1)


def pitch_class_features(counts_BCSK: Tensor, column: Tensor, pitch: Tensor) -> Tensor:
    """Features relative to nodes at `pitch` in flat columns b * C + c, f32 [..., FEATURES]."""
    shares, amount = _shares(counts_BCSK.flatten(0, 1)[column])
    turn = (pitch[..., None] + torch.arange(PITCH_CLASSES, device=pitch.device)) % PITCH_CLASSES
    turned = shares.gather(-1, turn[..., None, :].expand_as(shares))
    return torch.cat([turned.flatten(-2), amount], -1)


def _shares(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Counts [..., 2, K] as shares of the pitch classes, and how much there is in all [..., 2]."""
    total = counts.sum(-1)
    return counts * 4 / (total[..., None] + 4), total.log1p() / 4
