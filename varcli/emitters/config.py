"""Options of the emitter family, every one a sentence; importable without torch."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Law = Literal["normal", "lognormal", "exponential"]
PixelMap = str
"""A path to one value per pixel: .npy or .tif, of the size of a frame."""


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


class CameraConfig(Section):
    """The table [camera] of a camera.toml: what a data sheet or a calibration says."""

    pixel_size_nm: float = Field(gt=0, le=1e5, description="Side of a pixel in the sample, nm.")
    baseline_adu: Annotated[float, Field(ge=0)] | PixelMap = Field(
        description="Counts of a pixel without light (the offset): a number, or the path of a map."
    )
    e_per_adu: Annotated[float, Field(gt=0)] | PixelMap = Field(
        description="Electrons at the output per count, before any EM gain: a number, or the path of a map."
    )
    em_gain: float | None = Field(default=None, ge=1, description="EM gain; absent for cameras without it.")
    qe: float = Field(default=1.0, gt=0, le=1, description="Part of the photons that become electrons.")
    read_noise_e: Annotated[float, Field(ge=0)] | PixelMap = Field(
        description="Rms read noise at the output, so before division by an EM gain: a number, or the path of a map."
    )


class MoleculesConfig(Section):
    """Where molecules lie and how they blink."""

    structure: Literal["uniform", "filaments", "clusters", "grid"] = Field(
        default="uniform", description="Molecules all over, along bent filaments, in round clusters, or on a lattice."
    )
    density_per_um2: float = Field(
        default=0.5, ge=0, description="Molecules that are on at a time, per square micrometre; a lattice has its own."
    )
    structures: int = Field(default=6, ge=1, description="Number of filaments or clusters.")
    width_nm: float = Field(
        default=40.0, ge=0, description="Standard deviation of molecules round a filament or a cluster's centre, nm."
    )
    spacing_nm: float = Field(default=1200.0, gt=0, description="Distance of neighbours on a lattice, nm.")
    sites: int = Field(
        default=0, ge=0, description="Molecules that blink again and again where they are; 0: each blink is a new one."
    )
    on_frames: float = Field(
        default=2.0, ge=0, description="Mean time that a molecule is on, frames; 0: each is in just one, and wholly."
    )
    photon_law: Law = Field(default="normal", description="How brightness differs between molecules.")
    photons: float = Field(default=1000.0, gt=0, description="Median photons of a molecule in a whole frame, detected.")
    photon_spread: float = Field(
        default=0.2,
        ge=0,
        description="Relative standard deviation (normal) or that of the logarithm (lognormal); not for exponential.",
    )


class SpotConfig(Section):
    """The point-spread function."""

    kind: Literal["gaussian", "airy"] = Field(default="gaussian", description="Gaussians, or an Airy spot.")
    sigma_px: float = Field(default=1.3, gt=0.2, le=20, description="Width of the core, camera pixels.")
    ellipse: float = Field(default=1.0, gt=0, description="Width in x over the core's, and the core's over that in y.")
    tail_light: float = Field(default=0.0, ge=0, lt=1, description="Part of the light in a second, wider Gaussian.")
    tail_scale: float = Field(default=2.0, gt=0, le=6, description="Width of that, in core widths.")
    defocus: float = Field(
        default=0.0, ge=0, le=4, description="Airy: phase at the rim of the pupil, radians; the core stays sigma_px."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> "SpotConfig":
        if self.kind == "airy" and (self.tail_light or self.ellipse != 1):
            raise ValueError("an airy spot has neither tail_light nor ellipse")
        if self.kind == "gaussian" and self.defocus:
            raise ValueError("defocus is for kind airy")
        return self


class BackgroundConfig(Section):
    """Light that is not of molecules, the same in every frame."""

    photons: float = Field(default=10.0, ge=0, description="Mean background, photons per pixel and frame.")
    slope: float = Field(default=1.0, ge=1, description="Ratio of a slope from edge to edge; 1: none.")
    blob: float = Field(default=0.0, ge=0, description="Height of a wide blob of light, relative to the rest.")
    roughness: float = Field(
        default=0.0, ge=0, le=2, description="Standard deviation of the logarithm of smooth bumps; 0: none."
    )
    spurious_e: float = Field(
        default=0.0, ge=0, description="Electrons per pixel that the camera makes by itself, such as clock charges."
    )


class StackConfig(Section):
    """A simulated acquisition: what `var simulate emitters` takes from a preset or a file."""

    task: Literal["simulation"] = "simulation"
    name: str = Field(default="blinking", description="What the simulation is called.")
    frames: int = Field(default=500, ge=1, description="Number of frames.")
    height: int = Field(default=64, ge=4, le=8192, description="Rows of a frame.")
    width: int = Field(default=64, ge=4, le=8192, description="Columns of a frame.")
    saturation_adu: int = Field(default=65535, ge=1, le=65535, description="Greatest count that a pixel can hold.")
    molecules: MoleculesConfig = MoleculesConfig()
    spot: SpotConfig = SpotConfig()
    background: BackgroundConfig = BackgroundConfig()
    camera: CameraConfig = CameraConfig(pixel_size_nm=100.0, baseline_adu=100.0, e_per_adu=0.5, read_noise_e=1.6)
