"""The memory behind a batch of canvases: codes that windows read, what is known beforehand, and what may sound.

Shapes: B canvases, P pitches, T steps, K steps of whole patches (T rounded up).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from varcli.pianoroll.constants import GIVEN, UNKNOWN
from varcli.pianoroll.model.decisions import Parents
from varcli.pianoroll.model.level import View, hide, plain

NEVER = 255
"""Reveal level of a cell that no masked level shows."""


@dataclass(frozen=True)
class Limits:
    """What holds for cells before any decision: `given` ones have their codes, free ones may sound if `allowed`.

    Both bool [B, P, T]; None stands for none given, and all allowed. A free cell whose next cell is given and held must
    sound itself: what is held began somewhere. `metres` i64 [B, C] says of each column how many of its
    steps lie in a bar, and its width more for one told in eighths (None: all, in quarters); beyond that, but for the
    plan, no cell is decided, whatever its code, see `metre.BarColumns`.
    """

    given: Tensor | None = None
    allowed: Tensor | None = None
    metres: Tensor | None = None


@dataclass(frozen=True)
class CanvasLayout:
    """What all canvases of a model have in common.

    `patch` is the shape of a node of level 0; `margins` are the cells below, above, before and after a canvas that some
    window may show; `is_causal` [levels] says which levels have a scan order. Cells may be given beforehand if
    `conditioning`, and be held if `has_held`. The first `plan_rows` rows are those of a plan.
    """

    pitches: int
    patch: tuple[int, int]
    margins: tuple[int, int, int, int]
    is_causal: tuple[bool, ...]
    conditioning: bool
    has_held: bool
    plan_rows: int = 0

    @property
    def masked(self) -> bool:
        """Whether children of some level are decided in another than the scan order."""
        return not all(self.is_causal)

    @property
    def knows_column_below(self) -> bool:
        """Whether nodes know what lies below them in their own column: one step wide, and in scan order."""
        return self.patch[1] == 1 and self.is_causal[0]

    def columns(self, steps: int) -> int:
        """Patches of level 0 side by side in `steps` steps; the last may reach beyond them."""
        return -(-steps // self.patch[1])

    def rows_known_below(self, pitch: Tensor) -> Tensor:
        """How many rows of its column a node at `pitch` knows to be complete below it."""
        return pitch if self.knows_column_below else pitch // self.patch[0] * self.patch[0]


class Canvas:
    """Cell codes u8 [B, P, T] inside a margin wide enough for every window, and where cells lie in the flat memory.

    `steps_B` [B] says how long each canvas really is; what lies beyond is padding and never decided.
    `reveal` u8 of the same size holds the masked level that shows a cell (NEVER if none does); None where scan order
    says it: in AR models, and while a masked one is walked `in_order`. `columns_in_order` says that level 0 knows whole
    columns before its own, though masks show the cells in them. Given cells carry GIVEN.
    """

    def __init__(
        self,
        layout: CanvasLayout,
        codes_BPT: Tensor,
        steps_B: Tensor | None = None,
        limits: Limits | None = None,
        *,
        in_order: bool = False,
        columns_in_order: bool = False,
    ) -> None:
        B, P, T = codes_BPT.shape
        low_p, high_p, low_t, high_t = layout.margins
        self.layout, self.steps, self.columns = layout, T, layout.columns(T)
        self._width = self.columns * layout.patch[1]
        self.steps_B = torch.full((B,), T, device=codes_BPT.device) if steps_B is None else steps_B
        self.shape = (B, P + low_p + high_p, self._width + low_t + high_t)
        self.codes = codes_BPT.new_full(self.shape, UNKNOWN if layout.masked else 0)
        self.inner, self.full = self.inside(self.codes, T), self.inside(self.codes)
        self.reveal = torch.full_like(self.codes, NEVER) if layout.masked and not in_order else None
        self.columns_in_order = in_order or columns_in_order or layout.is_causal[0]
        self._is_causal: Tensor | None = None
        if self.reveal is not None and any(layout.is_causal):
            self._is_causal = torch.tensor(layout.is_causal, device=self.codes.device)
        self._inside = torch.arange(T, device=codes_BPT.device) < self.steps_B[:, None]
        self._limits = limits or Limits()
        self._in_bar = self._cells_in_bars(self._limits.metres)
        self._offsets: dict[View, Tensor] = {}
        self._maps: dict[tuple[str, tuple[int, int]], Tensor] = {}
        self._origin = low_p * self.shape[2] + low_t
        given = self._limits.given
        codes = codes_BPT if given is None else torch.where(given, codes_BPT | GIVEN, codes_BPT)
        # Outside the canvas nothing is known to masked models: they must work without knowing where a piece ends.
        self.inner.copy_(codes.masked_fill(~self._inside[:, None], UNKNOWN) if layout.masked else codes)

    def inside(self, cells: Tensor, steps: int | None = None) -> Tensor:
        """What of an array of the size of `codes` lies within the margins, up to `steps` (None: whole patches)."""
        low_p, _, low_t, _ = self.layout.margins
        return cells[:, low_p : low_p + self.layout.pitches, low_t : low_t + (self._width if steps is None else steps)]

    def flat(self, canvas: Any, pitch: Any, step: Any) -> Any:
        """Index of cells in the flat memory; numbers, tensors and numpy arrays go in and come out alike."""
        return canvas * (self.shape[1] * self.shape[2]) + pitch * self.shape[2] + step + self._origin

    def flat_offsets(self, view: View) -> Tensor:
        """Window offsets of a view as distances in the flat memory, i32 [W]."""
        if view not in self._offsets:
            self._offsets[view] = (view.offsets[:, 0] * self.shape[2] + view.offsets[:, 1]).int()
        return self._offsets[view]

    def windows(self, view: View, first_Nn: Tensor, position_Nn: Tensor) -> Tensor:
        """Codes u8 [N, n, W] in the windows of nodes, UNKNOWN where scan order or masks hide them.

        Nodes have their first cell at `first` i32 in the flat memory, at `position` in their patch.
        """
        # 32-bit indices and plain row gathers: this is the hottest memory traffic of training.
        shape = (*first_Nn.shape, len(view.offsets))  # -1 would fail where there are no nodes
        index = (first_Nn[..., None] + self.flat_offsets(view)).view(-1)
        position = position_Nn.reshape(-1)
        codes = self.codes.view(-1).index_select(0, index).view(shape)
        if self.reveal is None:
            hidden = view.follows.index_select(0, position).view(shape)
        else:
            differs = view.differs.index_select(0, position).view(shape)
            hidden = self.reveal.view(-1).index_select(0, index).view(shape) > differs
            if self._is_causal is not None:
                follows = view.follows.index_select(0, position).view(shape)
                hidden = torch.where(self._is_causal[differs.int()], follows, hidden)
        if self.layout.conditioning:
            hidden = hidden & (codes < GIVEN)
        return hide(codes, hidden)

    def show(self, level: int, shape: tuple[int, int], first_N: Tensor) -> None:
        """Note that masked `level` shows the cells of nodes of a shape, which begin at `first` in flat memory."""
        assert self.reveal is not None
        rows = torch.arange(shape[0], device=first_N.device)[:, None] * self.shape[2]
        cells = rows + torch.arange(shape[1], device=first_N.device)
        self.reveal.view(-1)[(first_N[:, None] + cells.flatten()).flatten()] = level

    def known_at_top(self) -> Tensor:
        """Cells u8 [B, P, K] that all of level 0 may know: the codes themselves if its order says what is past (the
        caller takes whole columns before its own), else those that are unmasked or given; the others are UNKNOWN."""
        if self.columns_in_order or self.reveal is None:
            return self.full
        return self.full.masked_fill((self.inside(self.reveal) != 0) & (self.full < GIVEN), UNKNOWN)

    def metres(self, nodes: Parents) -> Tensor:
        """What the column of each node is, see `Limits`, i64 like the nodes."""
        known, w = self._limits.metres, self.layout.patch[1]
        return torch.full_like(nodes.step, w) if known is None else known[nodes.canvas, nodes.step // w]

    def _cells_in_bars(self, metres_BC: Tensor | None) -> Tensor | None:
        """Which cells do not lie beyond a bar, bool [B, P, K]; None if all."""
        if metres_BC is None:
            return None
        w = self.layout.patch[1]
        steps = torch.arange(w, device=metres_BC.device) <= (metres_BC[..., None] - 1) % w
        in_plan = torch.arange(self.layout.pitches, device=steps.device) < self.layout.plan_rows
        return in_plan[:, None] | steps.flatten(1)[:, None]

    def given_at(self, cells: Parents) -> Tensor | None:
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
        return self._bars_only(plain(self.full) > 0)

    def _can(self) -> Tensor:
        can = self._inside[:, None].expand_as(self.inner)
        if self._limits.allowed is not None:
            can = can & self._limits.allowed
        if self._limits.given is not None:
            can = torch.where(self._limits.given, plain(self.inner) > 0, can)
        return self._bars_only(self._widen(can))

    def _must(self) -> Tensor:
        given = self._limits.given
        assert given is not None
        must = given & (plain(self.inner) > 0)
        if self.layout.has_held:
            held = self.inner == (GIVEN | 1)
            must[..., :-1] |= held[..., 1:] & ~given[..., :-1]
        return self._bars_only(self._widen(must))

    def _bars_only(self, cells: Tensor) -> Tensor:
        return cells if self._in_bar is None else cells & self._in_bar

    def _widen(self, cells: Tensor) -> Tensor:
        return F.pad(cells, (0, self.full.shape[2] - cells.shape[2]))
