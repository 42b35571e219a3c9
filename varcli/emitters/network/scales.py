"""A scale: its grid over a frame, lists of its cells, and its output.

Legend: B frames, Y X cells of a scale, L cells of a list.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from varcli.emitters.config import FIELD_PX
from varcli.emitters.network.heads import Leaves


@dataclass(frozen=True)
class Grid:
    """The cells of one scale over a frame."""

    rows: int
    columns: int
    cells_per_px: float

    def cell_of(self, emitter_L3: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column of the cell that each emitter [L, 3: x px, y px, e] lies in."""
        row = (emitter_L3[:, 1] * self.cells_per_px).long().clamp(0, self.rows - 1)
        column = (emitter_L3[:, 0] * self.cells_per_px).long().clamp(0, self.columns - 1)
        return row, column


@dataclass(frozen=True)
class Cells:
    """A list of L cells of one scale: whose frame each belongs to, and its row and column."""

    frame_L: Tensor
    row_L: Tensor
    column_L: Tensor

    @property
    def index(self) -> tuple[Tensor, Tensor, Tensor]:
        """What picks these cells out of a map [B, Y, X]."""
        return self.frame_L, self.row_L, self.column_L

    def children(self) -> "Cells":
        """The 4 L children, those of a cell side by side: upper left, upper right, lower left, lower right."""
        row = (2 * self.row_L[:, None] + torch.tensor([0, 0, 1, 1], device=self.row_L.device)).flatten()
        column = (2 * self.column_L[:, None] + torch.tensor([0, 1, 0, 1], device=self.row_L.device)).flatten()
        return Cells(self.frame_L.repeat_interleave(4), row, column)

    def padded(self, count: int) -> "Cells":
        """The same with `count` more cells, the upper left one of the first frame each."""
        return Cells(*(F.pad(part, (0, count)) for part in self.index))

    def first(self, count: int) -> "Cells":
        """The first `count` cells."""
        return Cells(*(part[:count] for part in self.index))

    def chosen(self, mask_L: Tensor) -> "Cells":
        """The cells of a boolean mask."""
        return Cells(*(part[mask_L] for part in self.index))


@dataclass(frozen=True)
class ScaleOutput:
    """What one scale predicts, for a grid of `shape` (B, Y, X) or the `cells` of it that were refined.

    `cell_px` is the size of a cell (x, y) in camera pixels, `log_count` the log of the expected number of emitters, a
    map [B, Y, X] or a list [L]; `log_share` what was added to the parent's to get there (or None at the first scale);
    `offset` [..., 2] the mean position of an emitter, in cells from the centre (x, y). The last scale has `leaves`.
    """

    scale: int
    shape: tuple[int, int, int]
    cell_px: tuple[float, float]
    log_count: Tensor
    offset: Tensor
    log_share: Tensor | None = None
    cells: Cells | None = None
    leaves: Leaves | None = None
    codebook_loss: Tensor | None = None

    def first(self, count: int) -> "ScaleOutput":
        """The same of the first `count` cells of a list."""
        assert self.cells is not None and self.log_share is not None
        leaves = self.leaves
        return replace(
            self,
            log_count=self.log_count[:count],
            offset=self.offset[:count],
            log_share=self.log_share[:count],
            cells=self.cells.first(count),
            leaves=None if leaves is None else Leaves(*(getattr(leaves, f.name)[:count] for f in fields(Leaves))),
        )

    @property
    def counts_BYX(self) -> Tensor:
        """Expected emitters per cell, zero where nothing was refined."""
        if self.cells is None:
            return self.log_count.exp()
        full = self.log_count.new_zeros(self.shape)
        full[self.cells.index] = self.log_count.exp()
        return full

    @property
    def probability_BYX(self) -> Tensor:
        """Probability that a cell holds an emitter, if their number is Poisson distributed."""
        return 1 - torch.exp(-self.counts_BYX)

    @property
    def position_BYX2(self) -> Tensor:
        """Where an emitter of each cell is (x, y), camera pixels from the image's corner; NaN where none was refined.

        The mean position of the cell's emitters; at the last scale, that of its emitter if it holds one.
        """
        offset = self.offset if self.leaves is None else self.leaves.offset_L2
        if self.cells is None:
            rows, columns = (torch.arange(side, device=offset.device) for side in self.shape[1:])
            corner = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
            return (corner + 0.5 + offset) * offset.new_tensor(self.cell_px)
        full = offset.new_full((*self.shape, 2), torch.nan)
        corner = torch.stack([self.cells.column_L, self.cells.row_L], -1)
        full[self.cells.index] = (corner + 0.5 + offset) * offset.new_tensor(self.cell_px)
        return full


def cells_to_refine(
    output: ScaleOutput, active_count: float, truth: Mapping[int, Tensor] | None, size: tuple[int, int]
) -> tuple[Cells, Tensor]:
    """The cells expected to hold more than `active_count` emitters, and where they stand in the scale's list [L].

    Where the scale is a map, they stand in the flattened map. With `truth`, true counts [B, Y, X] by scale, it is the
    cells that hold emitters. `size` (Y, X) in pixels is that of the frames before they were padded.
    """
    if truth is not None:
        wanted = truth[output.scale] > 0
        chosen = wanted if output.cells is None else wanted[output.cells.index]
    else:
        chosen = output.log_count > math.log(max(active_count, 1e-12))
    if output.cells is not None:
        return output.cells.chosen(chosen), chosen.nonzero()[:, 0]
    if truth is None:
        # Cells that lie wholly in the padding hold nothing that anyone asked for.
        rows, columns = (math.ceil(side * output.scale / FIELD_PX) for side in size)
        chosen = chosen.clone()
        chosen[:, rows:], chosen[:, :, columns:] = False, False
    return Cells(*chosen.nonzero(as_tuple=True)), chosen.flatten().nonzero()[:, 0]
