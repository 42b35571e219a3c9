"""How loud the notes around are: attention from a cell to the onsets near it, whose velocities its own may follow.

A velocity is often exactly that of the note before, of another note of the chord, or of the same pitch when last
struck. A window embedded as numbers tells how loud these are about; here classes of velocity stay classes.

Shapes: N, n nodes, M cells of the window, H heads, V classes of velocity, D width.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from varcli.pianoroll.config import ModelConfig
from varcli.pianoroll.constants import FALLS
from varcli.pianoroll.model.level import View, plain
from varcli.pianoroll.model.tree import Tree, rectangle
from varcli.pianoroll.roll import ONSET

PITCHES, STEPS = 14, 16
"""The window in a cell's own plane: so many pitches on both sides, and steps before."""
LONG = 32
"""Steps before in which the same pitch is looked for."""
OTHERS = 16
"""Pitches on both sides in other planes, at the same step."""


class VelocityAttention(View):
    """Heads score known onsets by where they stand alone; the softmax of the scores weighs their classes of velocity.

    The weighted classes of all heads are added to a cell's token and to the logits of its own velocity.
    """

    hot: Tensor

    def __init__(self, config: ModelConfig, tree: Tree) -> None:
        near = [rectangle(range(-PITCHES, PITCHES + 1), range(-STEPS, 1)), rectangle(range(1), range(-LONG, -STEPS))]
        other = [rectangle(range(away - OTHERS, away + OTHERS + 1), range(1)) for away in tree.planes_away]
        offsets = np.unique(np.concatenate(near + other), axis=0)
        level, V, D = tree.depth, config.velocity_bins, config.levels[-1].width
        super().__init__(level, tree.window_weights(level, offsets), config)
        self.score = nn.Parameter(self._first_scores(tree))
        inputs = len(FALLS) * (V + 1)
        self.into_token = nn.Linear(inputs, D)
        self.into_logits = nn.Linear(inputs, V, bias=False)
        with torch.no_grad():
            follow = F.pad(0.5 * torch.eye(V), (0, 1))  # each head votes for the classes that it sees
            self.into_logits.weight.copy_(follow.repeat(1, len(FALLS)))
        hot = F.pad(torch.eye(V), (0, 0, ONSET, 256 - ONSET - V))
        self.register_buffer("hot", hot, persistent=False)

    def _first_scores(self, tree: Tree) -> Tensor:
        away = np.array([0, *tree.planes_away])
        pitch, step = self.offsets.numpy().T
        plane = np.abs(pitch[:, None] - away).argmin(1)
        distance = np.abs(pitch - away[plane])
        return torch.tensor([[-a * -s - b * p for s, p in zip(step, distance, strict=True)] for a, b in FALLS]).float()

    def forward(self, codes_NnM: Tensor) -> tuple[Tensor, Tensor]:
        """What windows of codes u8 [N, n, M] add to tokens [N, n, D] and to the logits of the velocities [N, n, V]."""
        codes = plain(codes_NnM)
        fast = torch.is_autocast_enabled(codes.device.type)
        hot = self.hot.to(torch.bfloat16 if fast else torch.float32)
        score_HM = self.score.to(hot.dtype)
        silent = (codes < ONSET)[..., None, :]
        # Beside the onsets a head may attend to nothing, whose score is 0.
        score = F.pad(score_HM.expand(*codes.shape[:2], -1, -1).masked_fill(silent, float("-inf")), (0, 1))
        weight = score.softmax(-1)
        seen = weight[..., :-1] @ F.embedding(codes.int(), hot)
        voted = torch.cat([seen, weight[..., -1:]], -1).flatten(-2)
        return self.into_token(voted), self.into_logits(voted)
