"""What nodes know of their whole canvas beside their windows: passages to copy from, pitch classes, notes below them.

Shapes: B canvases, P pitches, K steps of whole patches, C columns of level 0, N nodes (any shape).
"""

import torch.nn.functional as F
from torch import Tensor

from varcli.pianoroll.config import ModelConfig
from varcli.pianoroll.constants import GIVEN, MOST_BELOW, UNKNOWN
from varcli.pianoroll.model.canvas import Canvas
from varcli.pianoroll.model.copy_attention import Candidates, candidates_of
from varcli.pianoroll.model.decisions import Parents
from varcli.pianoroll.model.level import plain
from varcli.pianoroll.model.pitch_classes import count_pitch_classes, pitch_class_features


class Context:
    """Is settled by level 0, as far as that may know."""

    def __init__(self, config: ModelConfig, canvas: Canvas, candidates: Candidates | None = None) -> None:
        """`candidates` are those that `find_candidates` would find, if they are known."""
        self.canvas, self.candidates = canvas, candidates
        self._config = config
        self._pitch_classes: Tensor | None = None
        self._below: Tensor | None = None

    def find_candidates(self) -> None:
        """Find where columns may copy from, by all that level 0 knows of them now."""
        known = self.canvas.known_at_top()
        self.candidates = candidates_of(known, self._config, in_order=self.canvas.columns_in_order)

    def count_pitch_classes(self) -> Tensor:
        """Counts f32 [B, C, 2, 12] of pitch classes that nodes of each column may know."""
        canvas = self.canvas
        known = canvas.known_at_top()[:, self._config.plan_rows :]
        sounding = (plain(known) > 0).unflatten(2, (canvas.columns, -1))
        later = None
        if canvas.columns_in_order and self._config.conditioning:
            later = sounding & ((known >= GIVEN) & (known < UNKNOWN)).view_as(sounding)
        return count_pitch_classes(sounding, past_only=canvas.columns_in_order, later=later)

    def pitch_class_features(self, level: int, nodes: Parents) -> Tensor | None:
        """Features [N, FEATURES] of the pitch classes relative to nodes, None if the model has no use for them.

        They are counted once, when level 0 has settled what is known: whole columns before, or unmasked patches.
        """
        if not self._config.tonality:
            return None
        if level == 0 or self._pitch_classes is None:
            self._pitch_classes = self.count_pitch_classes()
        column = nodes.canvas * self.canvas.columns + nodes.step // self.canvas.layout.patch[1]
        return pitch_class_features(self._pitch_classes, column, nodes.pitch)

    def notes_below(self, nodes: Parents) -> Tensor:
        """How many cells sound below nodes in their step, i32 [N], at most MOST_BELOW."""
        full = self.canvas.full
        if self._below is None:
            self._below = F.pad((plain(full) > 0).cumsum(1, dtype=full.dtype), (0, 0, 1, 0))
        first = (nodes.canvas * (full.shape[1] + 1) + nodes.pitch) * full.shape[2] + nodes.step
        return self._below.view(-1)[first].clamp(max=MOST_BELOW).int()
