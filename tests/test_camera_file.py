"""camera.toml: read as written, refused in one line where it cannot be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from varcli.emitters.camera.camera import Camera
from varcli.emitters.camera.config import CameraConfig
from varcli.emitters.camera.file import camera_of, complete_camera, dump_camera, read_camera
from varcli.emitters.camera.resolve import resolve_camera
from varcli.emitters.camera.values import given_values
from varcli.errors import UsageError

WHOLE = "[camera]\npixel_size_nm = 108\nbaseline_adu = 100\ne_per_adu = 0.46\nread_noise_e = 1.4\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "camera.toml"
    path.write_text(text)
    return path


def load(path: Path) -> Camera:
    def never() -> Any:
        raise AssertionError("nothing needs to be estimated")

    return resolve_camera(complete_camera(path), {}, never)[0]


def test_a_camera_is_read_and_written(tmp_path: Path) -> None:
    assert load(write(tmp_path, WHOLE)) == Camera(108.0, 100.0, 0.46, read_noise_e=1.4)
    config = CameraConfig(pixel_size_nm=160, baseline_adu=200, e_per_adu=40, em_gain=300, qe=0.9, read_noise_e=70)
    again = load(write(tmp_path, dump_camera(config)))
    assert again == camera_of(config)
    assert again.excess == 2 and again.read_variance == pytest.approx((70 / 300) ** 2 + (40 / 300) ** 2 / 12)


def test_an_em_gain_of_one_multiplies_nothing() -> None:
    assert Camera(100.0, 100.0, 0.5, em_gain=1.0).excess == 1


def test_maps_are_read_beside_the_file(tmp_path: Path) -> None:
    offset = np.arange(12.0).reshape(3, 4)
    np.save(tmp_path / "offset.npy", offset)
    tifffile.imwrite(tmp_path / "noise.tif", offset.astype(np.float32) + 1)
    text = WHOLE.replace("baseline_adu = 100", 'baseline_adu = "offset.npy"').replace("1.4", '"noise.tif"')
    camera = load(write(tmp_path, text))
    assert np.array_equal(camera.baseline_adu, offset) and np.array_equal(camera.read_noise_e, offset + 1)
    camera.check_size(3, 4)
    with pytest.raises(UsageError, match="the map baseline_adu is of 4x3 pixels, the frames of 3x4"):
        camera.check_size(4, 3)


def test_a_camera_may_be_given_in_part(tmp_path: Path) -> None:
    path = write(tmp_path, "[camera]\nem_gain = 100\n")
    assert read_camera(path) == given_values(em_gain=100.0)
    with pytest.raises(UsageError, match="pixel_size_nm is missing"):
        load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("= 108", "= 0"), "pixel_size_nm 0: must be above 0"),
        (("= 108", "= nan"), "pixel_size_nm nan: must be finite"),
        (("= 108", "= true"), "pixel_size_nm must be a number, not True"),
        (("= 0.46", "= -1"), "e_per_adu -1: must be above 0"),
        (("= 0.46", '= "none.npy"'), "no map of the camera at"),
        (("= 1.4", "= 1.4\nem_gain = 0.5"), "em_gain 0.5: must be at least 1"),
        (("= 1.4", "= 1.4\nqe = 1.2"), "qe 1.2: must be above 0 and at most 1"),
        (("read_noise_e", "read_nois_e"), "does not know read_nois_e"),
        (("[camera]", "[kamera]"), "no table [camera]"),
        (("[camera]", "[camera"), "is not TOML"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = write(tmp_path, WHOLE.replace(*change))
    with pytest.raises(UsageError) as raised:
        load(path)
    assert message in raised.value.message and len(raised.value.message.splitlines()) == 1
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("name", ["a.npy", "a.tif", "a.txt"])
def test_broken_maps_are_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"nothing")
    path = write(tmp_path, WHOLE.replace("= 0.46", f'= "{name}"'))
    with pytest.raises(UsageError, match="map of the camera"):
        load(path)
