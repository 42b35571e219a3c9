"""What key is it in: the pitch classes heard so far, as every pitch hears them.

Notes far apart agree on a key long before they agree on anything else. A node is told how often each pitch class
sounds in the columns it may know of, near it and in all, counted from its own pitch class; one weight serves all keys.

Shapes: B canvases, C columns of level 0, P pitches, K = 12 pitch classes, D width.
"""

import torch
from torch import Tensor

PITCH_CLASSES = 12
NEAR_COLUMNS_IN_STEPS = 64
FEATURES = 2 * PITCH_CLASSES + 2
"""Shares of the pitch classes near and in all, and how much was heard at all."""


def heard(sounding_BPCw: Tensor, *, past_only: bool, ahead: Tensor | None = None) -> Tensor:
    """Count sounding cells [B, P, C, w] per pitch class, f32 [B, C, 2, K]: near a column, and in all columns.

    With `past_only` a column hears those before it, and of itself and later ones what is known `ahead`, bool like the
    cells; else it hears itself and both sides (whatever the caller left standing).
    """
    C, w = sounding_BPCw.shape[2:]
    reach = max(1, NEAR_COLUMNS_IN_STEPS // w)
    sums = _running_counts(sounding_BPCw)
    column = torch.arange(C, device=sums.device)
    start, stop = (column - reach).clamp(min=0), (column + reach + 1).clamp(max=C)
    if not past_only:
        return torch.stack([sums[:, stop] - sums[:, start], sums[:, -1:].expand(-1, C, -1)], 2)
    near, total = sums[:, column] - sums[:, start], sums[:, :-1]
    if ahead is not None:
        later = _running_counts(ahead)
        near, total = near + later[:, stop] - later[:, column], total + later[:, -1:] - later[:, :-1]
    return torch.stack([near, total], 2)


def _running_counts(sounding_BPCw: Tensor) -> Tensor:
    """Sounding cells per pitch class in all columns before each, f32 [B, C + 1, K]."""
    B, P, C, _ = sounding_BPCw.shape
    rows = torch.zeros(B, -(-P // PITCH_CLASSES) * PITCH_CLASSES, C, device=sounding_BPCw.device)
    rows[:, :P] = sounding_BPCw.sum(3)
    counts_BCK = rows.view(B, -1, PITCH_CLASSES, C).sum(1).transpose(1, 2)
    return torch.cat([counts_BCK.new_zeros(B, 1, PITCH_CLASSES), counts_BCK.cumsum(1)], 1)


def rotations(heard_BCSK: Tensor) -> Tensor:
    """Features as each of the 12 pitch classes hears them, f32 [B * C * K, FEATURES]: row (b * C + c) * 12 + class."""
    B, C, _, K = heard_BCSK.shape
    total = heard_BCSK.sum(-1)
    shares = heard_BCSK * 4 / (total[..., None] + 4)
    turn = (torch.arange(K, device=total.device)[:, None] + torch.arange(K, device=total.device)) % K
    turned = shares[..., turn].permute(0, 1, 3, 2, 4).reshape(B, C, K, 2 * K)
    amount = (total.log1p() / 4)[:, :, None].expand(-1, -1, K, -1)
    return torch.cat([turned, amount], -1).view(B * C * K, FEATURES)
