"""Options of the emitter family, every one a sentence; importable without torch."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from varcli.emitters.model_config import EmitterModelConfig
from varcli.schema import TrainConfig


class Section(BaseModel):
    """A table of the config file: unknown keys are refused, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
    exponential_share: float = Field(default=0.15, ge=0, le=1, description="Brightness with an exponential law.")
    lognormal_share: float = Field(default=0.35, ge=0, le=1, description="Brightness with a log-normal law.")
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
    gain_share: float = Field(default=0.2, ge=0, le=1, description="Cameras whose electrons per ADU are told wrongly.")
    gain_error: float = Field(default=0.2, ge=0, lt=1, description="Greatest relative error of them.")
    hot_share: float = Field(default=0.2, ge=0, le=1, description="Cameras with a few hot pixels.")
    hot_pixels: float = Field(default=0.003, ge=0, le=1, description="Greatest part of the pixels that are hot.")
    read_map_share: float = Field(default=0.15, ge=0, le=1, description="Cameras whose read noise differs per pixel.")
    known_share: float = Field(default=0.6, ge=0, le=1, description="Samples whose brightness law the model is told.")

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
