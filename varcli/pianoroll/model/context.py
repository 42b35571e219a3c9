"""What nodes know of their whole canvas beside their windows: passages to copy from, pitch classes, the plan's harmony,
notes below them.

Shapes: B canvases, P pitches, R rows of a plan, K steps of whole patches, C columns of level 0, N nodes (any shape).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from varcli.pianoroll.config import FORM_ROWS, ModelConfig
from varcli.pianoroll.constants import (
    CHORD_KINDS,
    GIVEN,
    MOST_BELOW,
    PITCH_CLASSES,
    PLAN_OF_DENSITY,
    PLAN_OF_KEY,
    UNKNOWN,
)
from varcli.pianoroll.harmony import places
from varcli.pianoroll.model.canvas import Canvas
from varcli.pianoroll.model.copy_attention import Candidates, candidates_of
from varcli.pianoroll.model.decisions import Parents
from varcli.pianoroll.model.level import plain
from varcli.pianoroll.model.pitch_classes import count_pitch_classes, pitch_class_features
from varcli.pianoroll.roll import ONSET


class Context:
    """Is settled by level 0, as far as that may know."""

    def __init__(self, config: ModelConfig, canvas: Canvas, candidates: Candidates | None = None) -> None:
        """`candidates` are those that `find_candidates` would find, if they are known."""
        self.canvas, self.candidates = canvas, candidates
        self._config = config
        self._pitch_classes: Tensor | None = None
        self._harmony: Tensor | None = None
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

    def harmony(self, level: int, nodes: Parents) -> Tensor | None:
        """What the plan says of the harmony at nodes, rows i64 [N, 4] of `LevelModel.plan`; None if it says nothing.

        It is settled by level 0 as pitch classes are. Nodes of the plan itself get what it says of the bar before.
        """
        options, width = self._config, self.canvas.layout.patch[1]
        if not options.harmony:
            return None
        if level == 0 or self._harmony is None:
            self._harmony = harmony_said(self.canvas.known_at_top()[:, FORM_ROWS : options.plan_rows], width)
        half = nodes.step // width * 2 + (nodes.step % width >= width // 2)
        half = torch.where(nodes.pitch < options.plan_rows, nodes.step // width * 2 - 1, half) + 1
        return relative(self._harmony[nodes.canvas, half], nodes.pitch)

    def notes_below(self, nodes: Parents) -> Tensor:
        """How many cells sound below nodes in their step, i32 [N], at most MOST_BELOW."""
        full = self.canvas.full
        if self._below is None:
            self._below = F.pad((plain(full) > 0).cumsum(1, dtype=full.dtype), (0, 0, 1, 0))
        first = (nodes.canvas * (full.shape[1] + 1) + nodes.pitch) * full.shape[2] + nodes.step
        return self._below.view(-1)[first].clamp(max=MOST_BELOW).int()


def harmony_said(known_BRK: Tensor, column: int) -> Tensor:
    """What known codes u8 of a plan say at each half of each column, i64 [B, 1 + 2 C, 4], nothing at the first entry.

    That is the chord of this half, the one of the half after it, the key and the density, 0 where nothing is said; of
    the next column no more than a given chord is known. Chords are 1 + 12 times the quality + the root, or the last
    kind for no chord; keys 1 + the tonic, 12 more if minor.
    """
    B = len(known_BRK)
    at = known_BRK[:, : PITCH_CLASSES + 1].unflatten(2, (-1, column))[..., list(places(column))]  # [B, 13, C, 4]
    row, kind, said = _read(at)
    chord = torch.where(row < PITCH_CLASSES, 1 + kind * PITCH_CLASSES + row, CHORD_KINDS - 1) * said
    key, density = (1 + row + PITCH_CLASSES * kind) * said, (1 + kind) * said
    is_given = ((at >= GIVEN) & (at != UNKNOWN)).any(1)
    after = F.pad((chord * is_given)[:, 1:, 1], (0, 1))
    first, second = chord[..., 1], chord[..., 2]
    now, then = torch.stack([first, second], 2), torch.stack([second, after], 2)
    both = (part[..., None].expand(-1, -1, 2) for part in (key[..., 0], density[..., 3]))
    return F.pad(torch.stack([now, then, *both], 3).view(B, -1, 4), (0, 0, 1, 0))


def _read(at_BRCx: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The row that holds something, the class of its velocity, and whether there is one."""
    code, row = plain(at_BRCx).max(1)
    return row, (code.long() - ONSET).clamp(min=0), code > 0


def relative(said_N4: Tensor, pitch: Tensor) -> Tensor:
    """Rows i64 [N, 4] of the table of what is said, for nodes at `pitch`: chords and key relative to their own."""
    now, then, key, density = said_N4.unbind(-1)
    chords = [_turned(chord, pitch, CHORD_KINDS - 2) for chord in (now, then)]
    parts = (chords[0], chords[1] + CHORD_KINDS, _turned(key, pitch, 2 * PITCH_CLASSES) + PLAN_OF_KEY)
    return torch.stack([*parts, density + PLAN_OF_DENSITY], -1)


def _turned(kind: Tensor, pitch: Tensor, turning: int) -> Tensor:
    """Kinds of which 1 to `turning` stand for a root or tonic, with that relative to a pitch."""
    of = kind - 1
    turned = 1 + of // PITCH_CLASSES * PITCH_CLASSES + (of % PITCH_CLASSES - pitch) % PITCH_CLASSES
    return torch.where((kind > 0) & (kind <= turning), turned, kind)
