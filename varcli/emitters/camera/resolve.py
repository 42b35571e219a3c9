"""Which camera took a stack: what the user gives, else its files, else its noise, else a stated default."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from varcli.emitters.camera.camera import Camera
from varcli.emitters.camera.photon_transfer import ASSUMED_READ_NOISE_E, ASSUMED_READ_NOISE_EM_E, CameraEstimate
from varcli.emitters.camera.values import QUANTITIES, Origin, Provenanced, Values, value_of
from varcli.errors import UsageError

DEFAULT_PIXEL_NM = 100.0
_NOMINAL_EM_GAIN = 100.0
_NO_EM = "no EM gain, which noise alone cannot tell; --em-gain G says otherwise"


def resolve_camera(
    given: Values, metadata: dict[str, Any], estimate: Callable[[], CameraEstimate]
) -> tuple[Camera, tuple[Provenanced, ...]]:
    """A camera without gaps, and where each of its values comes from; `estimate` is called only if it is needed."""
    values = _of_file(metadata) | given
    if not {"baseline_adu", "e_per_adu"} <= values.keys():
        values = _of_noise(estimate(), values.get("em_gain")) | values
    values = _defaults(values.get("em_gain")) | values
    camera = Camera(**{name: value.value for name, value in values.items()})
    return camera, tuple(values[name] for name in QUANTITIES)


def _of_file(metadata: dict[str, Any]) -> Values:
    if "pixel_size_nm" not in metadata:
        return {}
    note = f"{metadata.get('pixel_size_from', 'its tags')}; --pixel-size NM says otherwise"
    return value_of("pixel_size_nm", float(metadata["pixel_size_nm"]), "metadata", note)


def _of_noise(measured: CameraEstimate, em_gain: Provenanced | None) -> Values:
    """Baseline, electrons at the output per ADU for a camera with this EM gain, and the gain where none is given."""
    values: Values = {}
    if em_gain is None and measured.measured and measured.likely_em:
        note = "its noise is that of a camera which multiplies electrons, the gain itself is nominal"
        values = value_of("em_gain", _NOMINAL_EM_GAIN, "estimated", note)
        em_gain = values["em_gain"]
    gain = None if em_gain is None else em_gain.value
    e_per_adu = measured.e_per_adu if gain is None else measured.e_per_adu_em * gain
    sd = measured.sd_baseline_adu
    note = f"standard deviation {sd:.2g} ADU" if math.isfinite(sd) else "the darkest level of the stack"
    origin: Origin = "estimated" if measured.measured else "default"
    values |= value_of("baseline_adu", max(0.0, measured.baseline_adu), origin, note)
    return values | value_of("e_per_adu", float(e_per_adu), origin, measured.sentence)


def _defaults(em_gain: Provenanced | None) -> Values:
    gain = None if em_gain is None else em_gain.value
    read_noise = ASSUMED_READ_NOISE_E if gain is None else ASSUMED_READ_NOISE_EM_E * gain
    return (
        value_of("pixel_size_nm", DEFAULT_PIXEL_NM, "default", "no file says it; --pixel-size NM does")
        | value_of("em_gain", None, "default", _NO_EM)
        | value_of("read_noise_e", read_noise, "default", "--read-noise E says otherwise")
        | value_of("qe", 1.0, "default", "photons are photoelectrons; --qe Q says otherwise")
    )


def refuse_impossible(camera: Camera, frames_adu: np.ndarray) -> None:
    """Raise UsageError where maps do not fit the frames [n, Y, X], or the baseline lies above the light."""
    camera.check_size(*frames_adu.shape[1:])
    bright = float(np.quantile(frames_adu[: max(1, 4_000_000 // frames_adu[0].size)], 0.99))
    baseline = float(np.mean(camera.baseline_adu))
    if baseline > bright:
        raise UsageError(
            f"a baseline of {baseline:g} ADU lies above 99% of the stack's numbers (up to {bright:g})",
            "--baseline is what the camera reads without light; leave it out to have it estimated",
        )
