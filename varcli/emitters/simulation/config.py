"""Options of cameras and of simulated acquisitions, every one a sentence; importable without torch."""

from typing import Literal

from pydantic import Field, model_validator

from varcli.emitters.camera.config import CameraConfig
from varcli.schema import Section

PhotonDistribution = Literal["normal", "lognormal", "exponential"]


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
    photon_law: PhotonDistribution = Field(default="normal", description="How brightness differs between molecules.")
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
    drift_nm: tuple[float, float] = Field(
        default=(0.0, 0.0),
        description="How far x and y have drifted at the last frame, nm; in between by s + sin(2 pi s) / 8 of it.",
    )
    molecules: MoleculesConfig = MoleculesConfig()
    spot: SpotConfig = SpotConfig()
    background: BackgroundConfig = BackgroundConfig()
    camera: CameraConfig = CameraConfig(pixel_size_nm=100.0, baseline_adu=100.0, e_per_adu=0.5, read_noise_e=1.6)
