"""The memory behind a batch of canvases: codes that windows read, what is known beforehand, and what may sound.

Shapes: B canvases, P pitches, T steps, K steps of whole patches (T rounded up).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from varcli.pianoroll.model.level import GIVEN, UNKNOWN, View, plain
from varcli.pianoroll.model.pitch_classes import heard

if TYPE_CHECKING:
    from varcli.pianoroll.model.copy_attention import Candidates
    from varcli.pianoroll.model.decisions import Parents
    from varcli.pianoroll.model.fractal import FractalModel

NEVER = 255
"""Reveal level of a cell that no masked level shows."""


@dataclass(frozen=True)
class Limits:
    """What is settled about cells before any decision: `given` ones hold their codes, free ones may sound if `allowed`.

    Both bool [B, P, T]; None stands for none given, and all allowed. A free cell whose next cell is given and held must
    sound itself: what is held began somewhere.
    """

    given: Tensor | None = None
    allowed: Tensor | None = None


class Canvas:
    """Cell codes u8 [B, P, T] inside a margin wide enough for every window, and where cells lie in the flat memory.

    `steps_B` [B] says how long each canvas really is; what lies beyond is padding and never asked about.
    `reveal` u8 of the same size holds the masked level that shows a cell (NEVER if none does); None where scan order
    says it: in AR models, and while a masked one is walked `in_order`. Given cells carry GIVEN.
    """

    def __init__(
        self,
        model: "FractalModel",
        codes_BPT: Tensor,
        steps_B: Tensor | None = None,
        limits: Limits | None = None,
        *,
        in_order: bool = False,
    ) -> None:
        B, P, T = codes_BPT.shape
        low_p, high_p, low_t, high_t = model.margins
        width = model.tree.columns(T) * model.tree.shapes[0][1]
        self.columns = model.tree.columns(T)
        self.steps = T
        self.steps_B = torch.full((B,), T, device=codes_BPT.device) if steps_B is None else steps_B
        self.shape = (B, P + low_p + high_p, width + low_t + high_t)
        self.codes = codes_BPT.new_full(self.shape, UNKNOWN if model.masked else 0)
        self.inner = self.codes[:, low_p : low_p + P, low_t : low_t + T]
        self.full = self.codes[:, low_p : low_p + P, low_t : low_t + width]
        self.reveal = torch.full_like(self.codes, NEVER) if model.masked and not in_order else None
        self.in_order = in_order or model.level_models[0].is_causal  # level 0 knows the columns before its own
        self.pitch_class_counts: Tensor | None = None
        self.pitch_class_rows: Tensor | None = None
        self.candidates: Candidates | None = None
        self._inside = torch.arange(T, device=codes_BPT.device) < self.steps_B[:, None]
        self._voices: Tensor | None = None
        self._limits = limits or Limits()
        self._has_held = model.config.model.vocabulary == "notes"
        self._offsets: dict[View, Tensor] = {}
        self._maps: dict[tuple[str, tuple[int, int]], Tensor] = {}
        self._origin = low_p * self.shape[2] + low_t
        given = self._limits.given
        codes = codes_BPT if given is None else torch.where(given, codes_BPT | GIVEN, codes_BPT)
        # Outside the canvas masked models know nothing: they must work without seeing where a piece ends.
        self.inner.copy_(codes.masked_fill(~self._inside[:, None], UNKNOWN) if model.masked else codes)

    def flat(self, canvas: Any, pitch: Any, step: Any) -> Any:
        """Index of cells in the flat memory; numbers, tensors and numpy arrays go in and come out alike."""
        return canvas * (self.shape[1] * self.shape[2]) + pitch * self.shape[2] + step + self._origin

    def flat_offsets(self, view: View) -> Tensor:
        """Window offsets of a view as distances in the flat memory, i32 [W]."""
        if view not in self._offsets:
            self._offsets[view] = (view.offsets[:, 0] * self.shape[2] + view.offsets[:, 1]).int()
        return self._offsets[view]

    def known_at_top(self, model: "FractalModel", sheets: list[int] | None = None) -> Tensor:
        """Cells u8 [B, P, K] that all of level 0 may know: the codes themselves if its order says what is past (the
        caller looks at whole columns before its own), else those that are unmasked or given; the others are UNKNOWN.

        `sheets` are the canvases of the batch that are wanted (None: all)."""
        full = self.full if sheets is None else self.full[sheets]
        if self.in_order or self.reveal is None:
            return full
        low_p, _, low_t, _ = model.margins
        P, K = full.shape[1:]
        reveal = self.reveal[:, low_p : low_p + P, low_t : low_t + K]
        shown = (reveal if sheets is None else reveal[sheets]) == 0
        return full.masked_fill(~shown & (full < GIVEN), UNKNOWN)

    def heard(self, model: "FractalModel", sheets: list[int] | None = None) -> Tensor:
        """What nodes of each column may know of the pitch classes (see tonality.heard), of all canvases or `sheets`."""
        known = self.known_at_top(model, sheets)
        B, P, _ = known.shape
        sounding = (plain(known) > 0).view(B, P, self.columns, -1)
        ahead = None
        if self.in_order and model.config.model.conditioning:
            ahead = sounding & ((known >= GIVEN) & (known < UNKNOWN)).view_as(sounding)
        return heard(sounding, past_only=self.in_order, ahead=ahead)

    def voices(self) -> Tensor:
        """How many cells sound below each pitch at each step, u8 [B, P + 1, K]."""
        if self._voices is None:
            below = (plain(self.full) > 0).cumsum(1, dtype=torch.uint8)
            self._voices = F.pad(below, (0, 0, 1, 0))
        return self._voices

    def forget_voices(self) -> None:
        """Count them again when next asked: cells were written."""
        self._voices = None

    def given_at(self, cells: "Parents") -> Tensor | None:
        """Whether cells are given, bool [N]; None if none are."""
        given = self._limits.given
        return None if given is None else given[cells.canvas, cells.pitch, cells.step]

    def occupancy(self, shape: tuple[int, int]) -> Tensor:
        """Whether each node of a shape holds anything, bool [B, P / h, columns]."""
        return self._pooled("sounds", shape)

    def feasible(self, shape: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        """Whether each node of a shape can hold anything and whether it must (None: none must), bool like occupancy."""
        return self._pooled("can", shape), None if self._limits.given is None else self._pooled("must", shape)

    def decisions(self, shapes: Sequence[tuple[int, int]], level: int) -> int:
        """How many free children the occupied parents of a level have; for the last level, free sounding cells."""
        if level == len(shapes):
            sounding, given = self._pooled("sounds", (1, 1)), self._limits.given
            return int((sounding if given is None else sounding & ~self._widen(given)).sum())
        can, must = self.feasible(shapes[level])
        free = can if must is None else can & ~must
        if level == 0:
            return int(free.sum())
        (h0, w0), (h, w) = shapes[level - 1], shapes[level]
        parents = self.occupancy((h0, w0))[:, :, None, :, None]
        return int((free.view(len(free), parents.shape[1], h0 // h, parents.shape[3], w0 // w) & parents).sum())

    def _pooled(self, name: str, shape: tuple[int, int]) -> Tensor:
        key = (name, shape)
        if key not in self._maps:
            cells = self._maps.get((name, (1, 1)))
            if cells is None:
                cells = self._maps[name, (1, 1)] = getattr(self, f"_{name}")()
            B, P, width = cells.shape
            h, w = shape
            if w > 1:
                cells = cells.view(B, P, width // w, w).any(3)
            self._maps[key] = cells.view(B, P // h, h, width // w).any(2) if h > 1 else cells
        return self._maps[key]

    def _sounds(self) -> Tensor:
        return plain(self.full) > 0

    def _can(self) -> Tensor:
        can = self._inside[:, None].expand_as(self.inner)
        if self._limits.allowed is not None:
            can = can & self._limits.allowed
        if self._limits.given is not None:
            can = torch.where(self._limits.given, plain(self.inner) > 0, can)
        return self._widen(can)

    def _must(self) -> Tensor:
        given = self._limits.given
        assert given is not None
        must = given & (plain(self.inner) > 0)
        if self._has_held:
            held = self.inner == (GIVEN | 1)
            must[..., :-1] |= held[..., 1:] & ~given[..., :-1]
        return self._widen(must)

    def _widen(self, cells: Tensor) -> Tensor:
        return F.pad(cells, (0, self.full.shape[2] - cells.shape[2]))
