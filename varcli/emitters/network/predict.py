"""The network on frames as they come: any size, in batches and tiles, from photoelectrons to candidates.

Legend: B frames, Y X pixels or cells.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from varcli.emitters.network.detect import FinestCells, detect
from varcli.emitters.network.inputs import CELL_PX, FrameConditions, Inputs, pad_frames, prepare
from varcli.emitters.network.model import TrueVAREmitterPredictor
from varcli.emitters.network.prediction import Conditions, Prediction
from varcli.emitters.network.scales import ScaleOutput
from varcli.emitters.table import concatenate

_PIXELS_AT_ONCE = 64 * 40 * 40
_TILE_PX = 1024
_HALO_PX = 64
"""Pixels around a tile that the network sees but does not answer for: more than its layers reach."""


@dataclass(frozen=True)
class Predictor:
    """A network with its weights, applied to frames of photoelectrons."""

    model: TrueVAREmitterPredictor

    def predict(
        self, frames_e: np.ndarray, conditions: Conditions, *, threshold: float = 0.5, scales: Sequence[int] = ()
    ) -> Prediction:
        """Find candidates in frames [B, Y, X] of photoelectrons, whose expected count reaches `threshold`.

        `scales` names the scales whose counts are wanted as maps over the frames, rounded up to whole coarsest cells.
        """
        model = self.model
        B, Y, X = frames_e.shape
        grids = model.grids(Y, X)
        counts = {scale: np.zeros((B, grids[scale].rows, grids[scale].columns), np.float32) for scale in scales}
        cells = dict.fromkeys(model.config.scales, 0)
        finest: list[FinestCells] = []
        side_Y, side_X = (side + -side % CELL_PX for side in (Y, X))
        step = max(1, _PIXELS_AT_ONCE // (side_Y * side_X))
        fast = bf16_is_fast(model.device)
        with torch.inference_mode(), torch.autocast(model.device.type, torch.bfloat16, enabled=fast):
            for start in range(0, B, step):
                some = np.ascontiguousarray(frames_e[start : start + step], np.float32)
                frames = torch.from_numpy(some).to(model.device)
                per_frame = FrameConditions.of(conditions, len(frames), model.device)
                inputs = prepare(pad_frames(frames), per_frame)
                for tile in _tiles(side_Y, side_X):
                    outputs = model.run(tile.cut(inputs), per_frame, tile.size(Y, X))
                    for output in outputs:
                        per_px = grids[output.scale].cells_per_px
                        cells[output.scale] += math.prod(output.shape) if output.cells is None else len(output.offset)
                        if output.scale in counts:
                            tile.place(output, counts[output.scale][start : start + step], per_px)
                    finest.append(_finest(outputs[-1], tile, grids[outputs[-1].scale].cells_per_px, start))
        of_cells = {scale: B * grid.rows * grid.columns for scale, grid in grids.items()}
        return Prediction(detect(concatenate(finest), threshold), counts, cells, of_cells)


def bf16_is_fast(device: torch.device) -> bool:
    """Whether bfloat16 products run in hardware: on GPUs, and on processors with AVX-512 BF16 or AMX."""
    if device.type != "cpu":
        return device.type == "cuda"
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported and supported())


@dataclass(frozen=True)
class _Tile:
    """A part of a frame: the pixels seen, and of them those answered for, [low, high) in rows and columns."""

    seen_rows: tuple[int, int]
    seen_columns: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]

    def cut(self, inputs: Inputs) -> Inputs:
        rows, columns = slice(*self.seen_rows), slice(*self.seen_columns)
        return Inputs(
            inputs.channels_BCYX[..., rows, columns], inputs.conditions_BK, inputs.log_noise_BYX[:, rows, columns]
        )

    def size(self, height: int, width: int) -> tuple[int, int]:
        """How much of the part seen is frame, not padding."""
        (top, bottom), (left, right) = self.seen_rows, self.seen_columns
        return min(bottom, height) - top, min(right, width) - left

    def place(self, output: ScaleOutput, counts_BYX: np.ndarray, cells_per_px: float) -> None:
        low_y, high_y, low_x, high_x = (round(v * cells_per_px) for v in (*self.rows, *self.columns))
        off_y, off_x = (round(v * cells_per_px) for v in (self.seen_rows[0], self.seen_columns[0]))
        part = output.counts_BYX[:, low_y - off_y : high_y - off_y, low_x - off_x : high_x - off_x]
        counts_BYX[:, low_y:high_y, low_x:high_x] = part.float().cpu().numpy()


def _tiles(height: int, width: int) -> Iterator[_Tile]:
    def cuts(side: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        step = side if side <= _TILE_PX + 2 * _HALO_PX else _TILE_PX
        for low in range(0, side, step):
            high = min(side, low + step)
            yield (max(0, low - _HALO_PX), min(side, high + _HALO_PX)), (low, high)

    for seen_rows, rows in cuts(height):
        for seen_columns, columns in cuts(width):
            yield _Tile(seen_rows, seen_columns, rows, columns)


def _finest(output: ScaleOutput, tile: _Tile, cells_per_px: float, first_frame: int) -> FinestCells:
    """The finest cells that a tile answers for, in the coordinates of the frame."""
    assert output.leaves is not None
    leaves = output.leaves
    if output.cells is None:
        B, Y, X = output.shape
        device = output.log_count.device
        frame, row, column = torch.meshgrid(*(torch.arange(n, device=device) for n in (B, Y, X)), indexing="ij")
    else:
        frame, row, column = output.cells.frame_L, output.cells.row_L, output.cells.column_L

    def flat(x: Tensor) -> np.ndarray:
        return x.reshape(-1).float().cpu().numpy().astype(np.float64)

    rows, columns = flat(row) + tile.seen_rows[0] * cells_per_px, flat(column) + tile.seen_columns[0] * cells_per_px
    y, x = ((cell + 0.5 + flat(leaves.offset_L2[..., i])) / cells_per_px for i, cell in ((1, rows), (0, columns)))
    low, high = np.array([tile.rows, tile.columns]).T * cells_per_px
    own = (rows >= low[0]) & (rows < high[0]) & (columns >= low[1]) & (columns < high[1])
    sd_x, sd_y, sd_log = (flat(leaves.sd_L3[..., i]) for i in range(3))
    found = FinestCells(
        flat(frame).astype(np.int64) + first_frame,
        flat(output.log_count.exp()),
        x,
        y,
        flat(leaves.log_electrons_L),
        sd_x / cells_per_px,
        sd_y / cells_per_px,
        sd_log,
    )
    return found.rows(own)
