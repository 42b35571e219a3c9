"""Options of the emitter family, every one a sentence; importable without torch."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from varcli.schema import Section, TrainConfig

FIELD_PX = 40
"""Side of the field that scales are counted in, camera pixels: scale 80 has two cells per pixel."""


Mixing = Literal["attention", "convolution", "none"]


class EmitterModelConfig(Section):
    """The next-scale predictor: its scales, and what each of them is made of."""

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
        default=False, description="All scales share their blocks; AdaLN conditions them on the scale."
    )
    mixing: tuple[Mixing, ...] = Field(
        default=("attention", "convolution", "none", "none"),
        description="How tokens of each scale exchange information: attention, 3x3 convolution, or not at all.",
    )
    reach: int = Field(default=3, ge=1, description="Cells to each side that attention reaches, on field grids.")
    window: int = Field(default=20, ge=1, description="Side of the windows of attention in cells, on absolute grids.")
    recompute: bool = Field(
        default=False,
        description="In training, blocks of dense scales are worked out twice instead of kept: slower, less memory.",
    )
    positions: bool = Field(
        default=True, description="Tokens carry an embedding of their place (in their parent, or the image)."
    )
    accumulate: bool = Field(
        default=True, description="The output of a scale is added to a running map that the next scale reads."
    )
    accumulated_width: int = Field(default=16, ge=1, description="Channels of the running map.")
    quantize: bool = Field(default=False, description="What is added to the running map comes from a codebook.")
    codebook: int = Field(default=8192, ge=2, description="Entries of the codebook.")
    commitment: float = Field(default=0.25, ge=0, description="Weight of the commitment loss of the codebook.")
    decides: Literal["counts", "occupancy"] = Field(
        default="counts",
        description="Whether a cell predicts how many emitters it holds, or only whether it holds any.",
    )
    teacher_forcing: float = Field(
        default=0.0, ge=0, le=1, description="Share of training frames whose running map is given the true counts."
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


class SimulationConfig(Section):
    """The domain of microscopes, samples and disturbances that training frames are drawn from.

    Ranges are (least, greatest); those of light, widths and densities are drawn evenly in their logarithm. A share is
    the part of the samples that has a property at all; how strong it is then varies.
    """

    sigma_px: tuple[float, float] = Field(default=(0.75, 2.4), description="Width of the PSF's core, camera pixels.")
    background_e: tuple[float, float] = Field(default=(0.3, 400.0), description="Background, photoelectrons per pixel.")
    electrons: tuple[float, float] = Field(
        default=(60.0, 30000.0), description="Typical photoelectrons of an emitter in one frame."
    )
    least_snr: float = Field(
        default=5.0, gt=0, description="Least typical brightness in standard deviations of its best estimate's noise."
    )
    invisible_snr: float = Field(
        default=1.5, ge=0, description="An emitter dimmer than this, in the same unit, counts as background."
    )
    density: tuple[float, float] = Field(
        default=(0.02, 6.0), description="Emitters per 100 square pixels, for a PSF of 1.3 pixels; scales by its area."
    )
    emccd_share: float = Field(default=0.3, ge=0, le=1, description="Samples behind an EM gain.")
    read_noise_e: tuple[float, float] = Field(
        default=(0.4, 6.0), description="Rms read noise of cameras without EM gain, electrons."
    )
    emccd_read_noise_e: tuple[float, float] = Field(
        default=(0.03, 0.5), description="Rms read noise of cameras with EM gain, electrons at the input."
    )
    step_e: tuple[float, float] = Field(default=(0.02, 1.5), description="Electrons at the input per ADU.")
    empty_share: float = Field(default=0.02, ge=0, le=1, description="Frames without any emitter.")
    grid_share: float = Field(
        default=0.12, ge=0, le=1, description="Fields of isolated emitters that are all equally bright."
    )
    sparse_share: float = Field(default=0.1, ge=0, le=1, description="Fields of at most half an emitter per 100 px².")
    structure_share: float = Field(default=0.25, ge=0, le=1, description="Emitters in clusters or on filaments.")
    exponential_share: float = Field(
        default=0.15, ge=0, le=1, description="Samples whose photons are exponentially distributed."
    )
    lognormal_share: float = Field(
        default=0.35, ge=0, le=1, description="Samples whose photons are log-normally distributed."
    )
    blink_share: float = Field(default=0.25, ge=0, le=1, description="Emitters may be on for part of the frame only.")
    tail_share: float = Field(default=0.25, ge=0, le=1, description="PSFs with a second, wider Gaussian.")
    tail_light: float = Field(default=0.3, ge=0, lt=1, description="Greatest part of the light in that tail.")
    tail_scale: tuple[float, float] = Field(default=(1.8, 3.2), description="Width of the tail, in core widths.")
    airy_share: float = Field(default=0.12, ge=0, le=1, description="Airy spots, in focus or slightly out of it.")
    ellipse_share: float = Field(default=0.25, ge=0, le=1, description="Elliptic PSFs, axes along x and y.")
    ellipse: float = Field(default=1.2, ge=1, description="Greatest ratio of one axis to the geometric mean of both.")
    slope_share: float = Field(default=0.25, ge=0, le=1, description="Sloped background with a wide blob of light.")
    slope: float = Field(default=8.0, ge=1, description="Greatest ratio of that background from edge to edge.")
    rough_share: float = Field(default=0.15, ge=0, le=1, description="Background that varies smoothly all over.")
    gain_share: float = Field(default=0.2, ge=0, le=1, description="Cameras whose stated electrons per ADU are wrong.")
    gain_error: float = Field(default=0.2, ge=0, lt=1, description="Greatest relative error of them.")
    hot_share: float = Field(default=0.2, ge=0, le=1, description="Cameras with a few hot pixels.")
    hot_pixels: float = Field(default=0.003, ge=0, le=1, description="Greatest part of the pixels that are hot.")
    read_map_share: float = Field(default=0.15, ge=0, le=1, description="Cameras whose read noise differs per pixel.")
    known_share: float = Field(
        default=0.6, ge=0, le=1, description="Samples whose distribution of photons the model is given."
    )

    @model_validator(mode="after")
    def _ordered(self) -> "SimulationConfig":
        for name, value in self:
            if isinstance(value, tuple) and not 0 < value[0] <= value[1]:
                raise ValueError(f"{name} is (least, greatest), both above 0, not {value}")
        if self.empty_share + self.grid_share + self.sparse_share > 1:
            raise ValueError("empty_share, grid_share and sparse_share add up to more than 1")
        if self.exponential_share + self.lognormal_share > 1 or self.tail_share + self.airy_share > 1:
            raise ValueError("shares that exclude each other add up to more than 1")
        return self


class LossConfig(Section):
    """What is descended in training, and on frames of what size."""

    scale_weights: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(0.5, 0.7, 0.9, 1.0), min_length=1, description="Weight of each scale, coarse to fine."
    )
    crop_px: int = Field(default=40, ge=8, multiple_of=4, description="Side of a training frame in camera pixels.")


class EmittersConfig(Section):
    """The whole config of an emitter model: what a preset or config.toml holds."""

    task: Literal["emitters"] = "emitters"
    name: str = Field(default="emitters", description="What the run is called.")
    model: EmitterModelConfig = EmitterModelConfig()
    simulation: SimulationConfig = SimulationConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
