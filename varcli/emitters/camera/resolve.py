"""Which camera took a stack: what is said, else what its files say, else what its noise says, else a stated default."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from varcli.emitters.camera.camera import Camera
from varcli.emitters.camera.file import GivenCamera
from varcli.emitters.camera.photon_transfer import CameraEstimate
from varcli.errors import UsageError

Origin = Literal["said", "metadata", "estimated", "default"]

DEFAULT_PIXEL_NM = 100.0
DEFAULT_READ_NOISE_E = 1.5
_READ_NOISE_BEFORE_EM_E = 0.3
_NOMINAL_EM_GAIN = 100.0
_NO_EM = "no EM gain, which noise alone cannot tell; --em-gain G says otherwise"


@dataclass(frozen=True)
class Provenanced:
    """A value that a result rests on, where it comes from, and in words what else is to be known of it."""

    name: str
    value: Any
    unit: str
    origin: Origin
    note: str = ""

    @property
    def assumed(self) -> bool:
        """Whether the user did not say it."""
        return self.origin != "said"

    def document(self) -> dict[str, Any]:
        """The same for JSON; a map is given by its mean."""
        is_map = isinstance(self.value, np.ndarray)
        value = float(np.mean(self.value)) if is_map else self.value
        note = " ".join(filter(None, ("the mean of a map" if is_map else "", self.note)))
        return {"name": self.name, "value": value, "unit": self.unit, "origin": self.origin, "note": note}

    def __str__(self) -> str:
        value = self.document()["value"]
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        quantity = f"{self.name} {shown} {self.unit}".rstrip()
        how = {"metadata": "from the file", "estimated": "estimated", "default": "the default", "said": "said"}
        return f"{quantity} ({how[self.origin]}{': ' if self.note else ''}{self.note})"


def resolve_camera(
    said: GivenCamera, metadata: dict[str, Any], estimate: Callable[[], CameraEstimate]
) -> tuple[Camera, tuple[Provenanced, ...]]:
    """A camera without gaps, and where each of its values comes from; `estimate` is called only if it is needed."""
    pixel = _pixel_size(said, metadata)
    needed = said.baseline_adu is None or said.e_per_adu is None
    measured = estimate() if needed else None
    em_gain = _em_gain(said, measured)
    has_em = em_gain.value is not None
    gain = em_gain.value or 1.0
    if said.read_noise_e is not None:
        read_noise = Provenanced("read noise", said.read_noise_e, "e-", "said")
    else:
        read = _READ_NOISE_BEFORE_EM_E * gain if has_em else DEFAULT_READ_NOISE_E
        read_noise = Provenanced("read noise", read, "e-", "default", "--read-noise E says otherwise")
    if said.qe is not None:
        qe = Provenanced("quantum efficiency", said.qe, "", "said")
    else:
        qe = Provenanced("quantum efficiency", 1.0, "", "default", "photons are photoelectrons; --qe Q says otherwise")
    baseline, e_per_adu = _transfer(said, measured, gain, has_em)
    camera = Camera(pixel.value, baseline.value, e_per_adu.value, em_gain.value, float(qe.value), read_noise.value)
    return camera, (pixel, baseline, e_per_adu, em_gain, read_noise, qe)


def _pixel_size(said: GivenCamera, metadata: dict[str, Any]) -> Provenanced:
    if said.pixel_size_nm is not None:
        return Provenanced("pixel size", said.pixel_size_nm, "nm", "said")
    if "pixel_size_nm" in metadata:
        note = f"{metadata.get('pixel_size_from', 'its tags')}; --pixel-size NM says otherwise"
        return Provenanced("pixel size", float(metadata["pixel_size_nm"]), "nm", "metadata", note)
    return Provenanced("pixel size", DEFAULT_PIXEL_NM, "nm", "default", "no file says it; --pixel-size NM does")


def _em_gain(said: GivenCamera, measured: CameraEstimate | None) -> Provenanced:
    if said.em_gain is not None:
        return Provenanced("EM gain", said.em_gain if said.em_gain > 1 else None, "", "said")
    if measured is not None and measured.measured and measured.likely_em:
        note = "its noise is that of a camera which multiplies electrons, the gain itself is nominal"
        return Provenanced("EM gain", _NOMINAL_EM_GAIN, "", "estimated", note)
    return Provenanced("EM gain", None, "", "default", _NO_EM)


def _transfer(
    said: GivenCamera, measured: CameraEstimate | None, gain: float, has_em: bool
) -> tuple[Provenanced, Provenanced]:
    """Baseline and electrons at the output per ADU."""
    origin: Origin = "estimated" if measured is not None and measured.measured else "default"
    if said.baseline_adu is not None:
        baseline = Provenanced("baseline", said.baseline_adu, "ADU", "said")
    else:
        assert measured is not None
        sd = measured.sd_baseline_adu
        note = f"standard deviation {sd:.2g} ADU" if math.isfinite(sd) else "the darkest level of the stack"
        baseline = Provenanced("baseline", max(0.0, measured.baseline_adu), "ADU", origin, note)
    if said.e_per_adu is not None:
        return baseline, Provenanced("e-/ADU", said.e_per_adu, "", "said")
    assert measured is not None
    value = measured.e_per_adu_em * gain if has_em else measured.e_per_adu
    return baseline, Provenanced("e-/ADU", float(value), "", origin, measured.sentence)


def refuse_impossible(camera: Camera, frames_adu: np.ndarray) -> None:
    """Raise UsageError where maps do not fit the frames [n, Y, X], or the baseline lies above the light."""
    for name in ("baseline_adu", "e_per_adu", "read_noise_e"):
        value = getattr(camera, name)
        if isinstance(value, np.ndarray) and value.shape != frames_adu.shape[1:]:
            sizes = " and ".join(f"{shape[1]}x{shape[0]}" for shape in (value.shape, frames_adu.shape[1:]))
            raise UsageError(f"the camera's map of {name} and the frames differ in size: {sizes}")
    bright = float(np.quantile(frames_adu[: max(1, 4_000_000 // frames_adu[0].size)], 0.99))
    baseline = float(np.mean(camera.baseline_adu))
    if baseline > bright:
        raise UsageError(
            f"a baseline of {baseline:g} ADU lies above 99% of the stack's numbers (up to {bright:g})",
            "--baseline is what the camera reads without light; leave it out to have it estimated",
        )
