"""What key is it in: the pitch classes heard so far, as every pitch hears them.

Notes far apart agree on a key long before they agree on anything else. A node is told how often each pitch class
sounds in the columns it may know of, near it and in all, counted from its own pitch class; one weight serves all keys.

Shapes: B canvases, C columns of level 0, P pitches, K = 12 pitch classes, D width.
"""

import torch
import torch.nn.functional as F
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
    B, P, C, w = sounding_BPCw.shape
    # An octave has one row of each class, so that bytes are enough for a column one step wide, and much faster.
    on = sounding_BPCw.view(torch.uint8).squeeze(3) if w == 1 else sounding_BPCw.sum(3)
    on = F.pad(on, (0, 0, 0, -P % PITCH_CLASSES))
    counts_BCK = on.view(B, -1, PITCH_CLASSES, C).sum(1, dtype=on.dtype).transpose(1, 2).float()
    return torch.cat([counts_BCK.new_zeros(B, 1, PITCH_CLASSES), counts_BCK.cumsum(1)], 1)


def pitch_class_features(heard_BCSK: Tensor, column: Tensor, pitch: Tensor) -> Tensor:
    """Features as nodes at `pitch` in flat columns b * C + c hear them, f32 [..., FEATURES]."""
    shares, amount = _shares(heard_BCSK.flatten(0, 1)[column])
    turn = (pitch[..., None] + torch.arange(PITCH_CLASSES, device=pitch.device)) % PITCH_CLASSES
    turned = shares.gather(-1, turn[..., None, :].expand_as(shares))
    return torch.cat([turned.flatten(-2), amount], -1)


def features_by_class(heard_BCSK: Tensor) -> Tensor:
    """Features as each of the 12 pitch classes hears them, f32 [B * C * K, FEATURES]: row (b * C + c) * 12 + class."""
    B, C, _, K = heard_BCSK.shape
    column = torch.arange(B * C, device=heard_BCSK.device)[:, None].expand(-1, K)
    pitch = torch.arange(K, device=heard_BCSK.device).expand(B * C, -1)
    return pitch_class_features(heard_BCSK, column, pitch).flatten(0, 1)


def _shares(heard: Tensor) -> tuple[Tensor, Tensor]:
    """Counts [..., 2, K] as shares of the pitch classes, and how much there is in all [..., 2]."""
    total = heard.sum(-1)
    return heard * 4 / (total[..., None] + 4), total.log1p() / 4
