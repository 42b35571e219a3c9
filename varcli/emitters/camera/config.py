"""Options of a camera, every one a sentence; importable without torch."""

from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from varcli.emitters.camera.camera import problem
from varcli.schema import Section

PixelMap = str
"""A path to one value per pixel: .npy or .tif, of the size of a frame."""


class CameraConfig(Section):
    """The table [camera] of a camera.toml: the numbers of a data sheet or of a calibration."""

    pixel_size_nm: float = Field(description="Side of a pixel in the sample, nm.")
    baseline_adu: float | PixelMap = Field(
        description="Counts of a pixel without light (the offset): a number, or the path of a map."
    )
    e_per_adu: float | PixelMap = Field(
        description="Electrons at the output per count, before any EM gain: a number, or the path of a map."
    )
    em_gain: float | None = Field(default=None, description="EM gain; absent for cameras without it.")
    qe: float = Field(default=1.0, description="Part of the photons that become electrons.")
    read_noise_e: float | PixelMap = Field(
        description="Rms read noise at the output, so before division by an EM gain: a number, or the path of a map."
    )

    @field_validator("*")
    @classmethod
    def _possible(cls, value: Any, info: ValidationInfo) -> Any:
        wrong = problem(str(info.field_name), value) if isinstance(value, float) else None
        if wrong:
            raise ValueError(wrong)
        return value
