"""How the image is read: the encoder at full resolution, and its features in cells of any scale.

Legend: B frames, Y X pixels or cells, C channels, L cells of a list, K width of the conditions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from varcli.emitters.config import FIELD_PX
from varcli.emitters.network.blocks import silu
from varcli.emitters.network.inputs import CHANNELS
from varcli.emitters.network.quantizer import bicubic
from varcli.emitters.network.scales import Cells


class StridedConv(nn.Conv2d):
    """A convolution that skips pixels, in float32 whatever autocast asks for; takes and gives the same dtype.

    In bfloat16 PyTorch 2.13 (oneDNN) gets it wrong on processors with AMX: with 16 channels in, 32 out and a stride of
    4 hardly anything of the output is right.
    """

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float()).to(input.dtype)


class Encoder(nn.Module):
    """3x3 convolutions at full resolution, each scaled and shifted by the conditions."""

    def __init__(self, width: int, layers: int, condition_width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(CHANNELS if layer == 0 else width, width, 3, padding=1) for layer in range(layers)
        )
        self.modulation = nn.Linear(condition_width, 2 * width * layers)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x_BCYX: Tensor, condition_BK: Tensor) -> Tensor:
        parts = self.modulation(condition_BK).chunk(len(self.convs), -1)
        for layer, (conv, part) in enumerate(zip(self.convs, parts, strict=True)):
            scale, shift = part[..., None, None].chunk(2, 1)
            y = silu(torch.addcmul(shift, conv(x_BCYX), 1 + scale))
            x_BCYX = y if layer == 0 else y.add_(x_BCYX)
        return x_BCYX


def resize(x_BCYX: Tensor, side: int) -> Tensor:
    """To a square grid: means of what falls into a cell, or bicubic where cells are finer."""
    if x_BCYX.shape[-1] >= side:
        return F.interpolate(x_BCYX, size=(side, side), mode="area")
    return bicubic(x_BCYX, (side, side))


def pad_and_join(maps: list[Tensor]) -> Tensor:
    """Maps [B, C, Y, X] side by side as [B, Y + 2, X + 2, C], with one pixel of zeros around."""
    B, _, Y, X = maps[0].shape
    out = maps[0].new_zeros(B, Y + 2, X + 2, sum(part.shape[1] for part in maps))
    first = 0
    for part in maps:
        last = first + part.shape[1]
        out[:, 1:-1, 1:-1, first:last] = part.permute(0, 2, 3, 1)
        first = last
    return out


def cell_windows(seen_BYXC: Tensor, cells: Cells, scale: int) -> Tensor:
    """The pixels of each cell and one around [L, side² C], from a map with one pixel of padding."""
    pixels = max(1, FIELD_PX // scale)
    B, Y, X, C = seen_BYXC.shape
    row, column = (place.mul(FIELD_PX).div(scale, rounding_mode="floor") for place in (cells.row_L, cells.column_L))
    step = torch.arange(pixels + 2, device=row.device)
    offset = (step[:, None] * X + step).flatten()
    index = ((cells.frame_L * Y + row) * X + column)[:, None] + offset
    return seen_BYXC.reshape(B * Y * X, C).index_select(0, index.flatten()).view(len(index), len(offset) * C)
