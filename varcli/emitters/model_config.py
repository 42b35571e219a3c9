"""Options of the next-scale emitter predictor, every one a sentence; importable without torch."""

from itertools import pairwise
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

FIELD_PX = 40
"""Side of the field that scales are counted in, camera pixels: scale 80 has two cells per pixel."""

Mixing = Literal["attention", "convolution", "none"]


class EmitterModelConfig(BaseModel):
    """The next-scale predictor: its scales, and what each of them is made of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scales: tuple[int, ...] = Field(
        default=(10, 20, 40, 80), description="Cells per side, coarse to fine; each twice the one before."
    )
    grid: Literal["field", "absolute"] = Field(
        default="field",
        description="Scales count cells per 40 camera pixels, whatever the frame; or cells of the whole image.",
    )
    dense_scales: int = Field(
        default=2, ge=1, description="Scales computed everywhere; finer ones only where the one before holds something."
    )
    active_count: float = Field(
        default=0.02, ge=0, description="Expected emitters from which on a cell is refined at the next scale."
    )
    encoder_width: int = Field(default=32, ge=4, description="Channels of the image at full resolution.")
    encoder_layers: int = Field(default=3, ge=1, description="3x3 convolutions at full resolution.")
    width: int = Field(default=64, ge=8, description="Width of the tokens of every scale.")
    heads: int = Field(default=4, ge=1, description="Attention heads; divides the width.")
    layers: int = Field(default=2, ge=1, description="Blocks of every scale.")
    shared_blocks: bool = Field(
        default=False, description="All scales go through the same blocks, told apart by AdaLN."
    )
    mixing: tuple[Mixing, ...] = Field(
        default=("attention", "convolution", "none", "none"),
        description="How tokens of each scale see one another: attention, 3x3 convolution, or not at all.",
    )
    reach: int = Field(default=3, ge=1, description="Cells to each side that attention sees, on field grids.")
    window: int = Field(default=20, ge=1, description="Side of the windows of attention in cells, on absolute grids.")
    recompute: bool = Field(
        default=False,
        description="In training, blocks of dense scales are worked out twice instead of kept: slower, less memory.",
    )
    positions: bool = Field(default=True, description="Tokens are told where they lie (in their parent, or the image).")
    accumulate: bool = Field(
        default=True, description="What a scale says is added to a running map that the next scale reads."
    )
    accumulated_width: int = Field(default=16, ge=1, description="Channels of the running map.")
    quantize: bool = Field(default=False, description="What is added to the running map comes from a codebook.")
    codebook: int = Field(default=8192, ge=2, description="Entries of the codebook.")
    commitment: float = Field(default=0.25, ge=0, description="Weight of the commitment loss of the codebook.")
    decides: Literal["counts", "occupancy"] = Field(
        default="counts", description="A cell says how many emitters it holds, or only whether it holds any."
    )
    teacher_forcing: float = Field(
        default=0.0, ge=0, le=1, description="Share of training frames whose running map is told the true counts."
    )

    @model_validator(mode="after")
    def _check(self) -> "EmitterModelConfig":
        if not self.scales or any(fine != 2 * coarse for coarse, fine in pairwise(self.scales)):
            raise ValueError(f"scales must double from one to the next, got {list(self.scales)}")
        if self.grid == "field" and (FIELD_PX % self.scales[0] or self.scales[0] > FIELD_PX):
            raise ValueError(f"the first scale must divide {FIELD_PX} on field grids, got {self.scales[0]}")
        if len(self.mixing) != len(self.scales):
            raise ValueError(f"mixing needs one entry per scale: {len(self.mixing)} for {len(self.scales)}")
        if self.width % self.heads:
            raise ValueError(f"heads must divide the width: {self.heads} and {self.width}")
        if self.grid == "absolute" and self.dense_scales < len(self.scales):
            raise ValueError("absolute grids are dense at every scale: set dense_scales to the number of scales")
        if any(kind != "none" for kind in self.mixing[self.dense_scales :]):
            raise ValueError("scales beyond dense_scales are lists of cells: their mixing must be none")
        return self
