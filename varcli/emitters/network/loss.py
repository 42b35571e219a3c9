"""The loss of the next-scale predictor: minus the log-likelihood of the true configuration, scale by scale.

The first scale's counts are Poisson distributed, or each cell is occupied or not; a finer scale shares its parents'
counts out (a multinomial distribution), and the finest places an emitter in its cell and its brightness (Gaussian).
Legend: B frames, E emitters, Y X cells of a scale, L cells of a list.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from varcli.emitters.network.heads import Leaves
from varcli.emitters.network.scales import Grid, ScaleOutput

SCALE_WEIGHTS = (0.5, 0.7, 0.9, 1.0)
_OFFSET_WEIGHT = 2.0
_WORST = 30.0


@dataclass(frozen=True)
class Truth:
    """True emitters of B frames, x and y in px and photoelectrons [B, E, 3]; those in the frame count [B, E]."""

    emitters_BE3: Tensor
    inside_BE: Tensor

    def listed(self) -> tuple[Tensor, Tensor]:
        """Frame index [L] and emitter [L, 3] of those that count."""
        frame_L, place_L = self.inside_BE.nonzero(as_tuple=True)
        return frame_L, self.emitters_BE3[frame_L, place_L]

    def counts(self, grids: Mapping[int, Grid]) -> dict[int, Tensor]:
        """How many emitters lie in each cell of each scale [B, Y, X]."""
        frame_L, emitter_L3 = self.listed()
        B = len(self.emitters_BE3)
        found = {}
        for scale, grid in grids.items():
            row, column = grid.cell_of(emitter_L3)
            index = (frame_L * grid.rows + row) * grid.columns + column
            full = torch.zeros(B * grid.rows * grid.columns, device=emitter_L3.device)
            ones = torch.ones(len(index), device=emitter_L3.device)
            found[scale] = full.index_add_(0, index, ones).view(B, grid.rows, grid.columns)
        return found


@dataclass(frozen=True)
class LossParts:
    """The loss to descend, and its unweighted parts in nats per true emitter: one per scale, then the leaves."""

    loss: Tensor
    scales: tuple[float, ...]
    leaf: float

    @property
    def nats(self) -> float:
        """Minus the log-likelihood per true emitter, unweighted."""
        return sum(self.scales) + self.leaf


class VAREmitterLoss(nn.Module):
    """Minus the log-likelihood of all scales, each weighted, in nats per true emitter.

    The last scale's weight also holds for position and photons. `decides` is the model's: counts or occupancy.
    """

    def __init__(self, scale_weights: Sequence[float] = SCALE_WEIGHTS, decides: str = "counts") -> None:
        super().__init__()
        self.scale_weights, self.decides = tuple(scale_weights), decides

    def forward(self, outputs: Sequence[ScaleOutput], truth: Truth, grids: Mapping[int, Grid]) -> LossParts:
        """Price the truth under the outputs of a model that was given `truth.counts(grids)`."""
        frame_L, emitter_L3 = truth.listed()
        counts = truth.counts(grids)
        emitters = max(1, len(frame_L))
        terms, parts = [], []
        for index, output in enumerate(outputs):
            weight = self.scale_weights[min(index, len(self.scale_weights) - 1)]
            nats = self._count_nats(output, counts, outputs[index - 1].scale if index else None)
            parts.append(float(nats.detach()) / emitters)
            terms.append(weight * nats)
            if output.leaves is not None:
                leaf = _leaf_nats(output, output.leaves, frame_L, emitter_L3, grids[output.scale])
                terms.append(weight * leaf)
            elif output.cells is None:
                error = _offset_error(output, frame_L, emitter_L3, grids[output.scale])
                terms.append(weight * _OFFSET_WEIGHT * error)
            if output.codebook_loss is not None:
                terms.append(output.codebook_loss * emitters)
        has_leaves = outputs[-1].leaves is not None
        return LossParts(
            torch.stack(terms).sum() / emitters,
            tuple(parts),
            float(leaf.detach()) / emitters if has_leaves else 0.0,
        )

    def _count_nats(self, output: ScaleOutput, counts: dict[int, Tensor], parent: int | None) -> Tensor:
        """Minus the log-likelihood of a scale's counts, given those of its parents; constants are left out."""
        true = counts[output.scale]
        if parent is None and self.decides == "counts":
            return (output.log_count.exp() - true * output.log_count).sum()
        above = torch.ones_like(true) if parent is None else _to_children(counts[parent])
        if output.cells is not None:
            true, above = true[output.cells.index], above[output.cells.index]
        if self.decides == "counts":
            assert output.log_share is not None
            return -(true * output.log_share).sum()
        log_p = output.log_count if output.log_share is None else output.log_share
        log_not = torch.log1p(-log_p.exp().clamp(max=1 - 1e-6))
        return -torch.where(true > 0, log_p, log_not)[above > 0].sum()


def _to_children(counts_BYX: Tensor) -> Tensor:
    return counts_BYX.repeat_interleave(2, 1).repeat_interleave(2, 2)


def _offset_error(output: ScaleOutput, frame_L: Tensor, emitter_L3: Tensor, grid: Grid) -> Tensor:
    """Squared error of the mean position in a cell (in cells), over all emitters."""
    row, column = grid.cell_of(emitter_L3)
    wanted = emitter_L3[:, :2] * grid.cells_per_px - torch.stack([column, row], 1) - 0.5
    return (output.offset[frame_L, row, column] - wanted).square().sum()


def _leaf_nats(output: ScaleOutput, leaves: Leaves, frame_L: Tensor, emitter_L3: Tensor, grid: Grid) -> Tensor:
    """Gaussian price of position (in cells) and log photoelectrons of each emitter, in the cell it lies in."""
    row, column = grid.cell_of(emitter_L3)
    index = (frame_L * grid.rows + row) * grid.columns + column
    if output.cells is not None:
        cells = output.cells
        lookup = torch.zeros(math.prod(output.shape), dtype=torch.long, device=index.device)
        at = (cells.frame_L * grid.rows + cells.row_L) * grid.columns + cells.column_L
        lookup[at] = torch.arange(len(at), device=index.device)
        index = lookup[index]
    offset = leaves.offset_L2.reshape(-1, 2)[index]
    log_electrons = leaves.log_electrons_L.reshape(-1)[index]
    sd = leaves.sd_L3.reshape(-1, 3)[index]
    wanted = emitter_L3[:, :2] * grid.cells_per_px - torch.stack([column, row], 1) - 0.5
    error = torch.cat([wanted - offset, (emitter_L3[:, 2].log() - log_electrons)[:, None]], 1)
    nats = (0.5 * (error / sd).square() + sd.log() + 0.5 * math.log(2 * math.pi)).sum(1)
    return nats.clamp(max=_WORST).sum()
