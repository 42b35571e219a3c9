"""Tables of emitters: what is written comes back, in the units and from the origin that each format has."""

import dataclasses
import errno
import json
from itertools import pairwise, product
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from varcli.emitters.camera.camera import Camera
from varcli.emitters.table import EmitterTable
from varcli.emitters.tables import FORMATS, Field, file_names, read_table, table_writer, write_table
from varcli.emitters.tables.text import TextRows
from varcli.errors import UsageError, VarError

FIELD = Field.of(Camera(100.0, 100.0, 0.5, em_gain=30.0, read_noise_e=1.5), frames=50, height=40, width=64)
KEPT = {
    "csv": {"sd_background"},  # what each format has no place for
    "picasso": {"background_std"},
    "bench": {"background", "background_std", "psf_sigma_nm", "sd_photons", "sd_background", "crlb_xy_nm"},
    "smap": set(),
    "decode": {"background_std", "psf_sigma_nm"},
}
ALL = {field.name for field in dataclasses.fields(EmitterTable)}
KEPT["challenge"] = ALL - {"frame", "x_nm", "y_nm", "photons", "meta"}


def make_table(rows: int, seed: int = 0, **without: None) -> EmitterTable:
    rng = np.random.default_rng(seed)
    names = [field.name for field in dataclasses.fields(EmitterTable) if field.name not in ("frame", "meta")]
    columns = {name: rng.uniform(0.01, 1.0, rows) for name in names}
    for name in ("x_nm", "y_nm", "photons"):
        columns[name] = columns[name] * 4000
    return EmitterTable(frame=np.sort(rng.integers(0, 50, rows)), **{**columns, **without})


def read_locs(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        dataset = file["locs"]
        assert isinstance(dataset, h5py.Dataset)
        return dataset[:]


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.integers(0, 30), seed=st.integers(0, 1000))
def test_what_is_written_comes_back(tmp_path: Path, format: str, rows: int, seed: int) -> None:
    table = make_table(rows, seed)
    path = tmp_path / FORMATS[format].file_name("cell")
    write_table(table, path, format, FIELD, {"note": "µ", "nan": float("nan")})
    back = read_table(path)
    assert set(back.columns()) == set(table.columns()) - KEPT[format]
    assert back.frame.dtype == np.int64
    for name in back.columns():
        step = 4e-3 if name in ("x_nm", "y_nm", "photons") else 1e-3
        np.testing.assert_allclose(getattr(back, name), getattr(table, name), atol=step, rtol=1e-5)
    if format not in ("bench", "challenge"):
        assert (back.meta["note"], back.meta["nan"]) == ("µ", None)
        assert (back.meta["frames"], back.meta["height"], back.meta["width"]) == (50, 40, 64)
        assert back.meta["camera"] == {
            "baseline_adu": 100.0,
            "e_per_adu": 0.5,
            "em_gain": 30.0,
            "qe": 1.0,
            "read_noise_e": 1.5,
        }


@pytest.mark.parametrize("format", FORMATS)
def test_bytes_depend_on_the_rows_alone(tmp_path: Path, format: str) -> None:
    table = make_table(30_000)
    pieces = [0, 0, 1, 7_000, 7_000, 29_999, 30_000]
    for name, cuts in (("once", [0, 30_000]), ("often", pieces)):
        (tmp_path / name).mkdir()
        with table_writer(format, tmp_path / name, "cell", FIELD, {"a": 1}) as append:
            for start, stop in pairwise(cuts):
                append(table.rows(np.arange(start, stop)))
            assert not any((tmp_path / name / file).exists() for file in file_names(format, "cell"))
    for name in file_names(format, "cell"):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "often" / name).read_bytes()
    assert {path.name for path in (tmp_path / "once").iterdir()} == set(file_names(format, "cell"))


@pytest.mark.parametrize("format", FORMATS)
def test_a_writer_that_stops_leaves_nothing(tmp_path: Path, format: str) -> None:
    with pytest.raises(KeyError), table_writer(format, tmp_path, "cell", FIELD, {}) as append:
        append(make_table(3))
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_of_the_table_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TextRows, "append", full)
    with pytest.raises(VarError, match=r"a\.csv: the disk is full"):
        write_table(make_table(2), tmp_path / "a.csv", "csv", FIELD, {})
    assert list(tmp_path.iterdir()) == []


def test_thunderstorm_has_its_columns_units_and_first_frame(tmp_path: Path) -> None:
    table = make_table(2)
    path = write_table(table, tmp_path / "a.csv", "csv", FIELD, {})[0]
    header, first, *_ = path.read_text().splitlines()
    assert header == (
        '"id","frame","x [nm]","y [nm]","sigma [nm]","intensity [photon]","offset [photon]","bkgstd [photon]",'
        '"uncertainty_xy [nm]","uncertainty_x [nm]","uncertainty_y [nm]","uncertainty_photon [photon]",'
        '"crlb_xy [nm]","probability"'
    )
    values = dict(zip(header.replace('"', "").split(","), map(float, first.split(",")), strict=True))
    assert (values["id"], values["frame"]) == (1, table.frame[0] + 1)
    both = np.sqrt((table.sd_x_nm[0] ** 2 + table.sd_y_nm[0] ** 2) / 2)  # type: ignore[index]
    assert values["uncertainty_xy [nm]"] == pytest.approx(both, abs=1e-4)
    assert values["x [nm]"] == pytest.approx(table.x_nm[0], abs=1e-3)


def test_picasso_counts_from_the_centre_of_the_first_pixel(tmp_path: Path) -> None:
    corner = EmitterTable(np.array([0]), np.array([50.0]), np.array([150.0]), sd_x_nm=np.array([20.0]))
    path, beside = write_table(corner, tmp_path / "a.hdf5", "picasso", FIELD, {})
    locs = read_locs(path)
    assert locs.dtype.names == ("frame", "x", "y", "lpx", "net_gradient")
    assert (locs["frame"].dtype, locs["x"].dtype) == (np.uint32, np.float32)
    assert [float(locs[name][0]) for name in ("x", "y", "lpx")] == pytest.approx([0.0, 1.0, 0.2])
    movie, step = yaml.safe_load_all(beside.read_text())
    assert (movie["Width"], movie["Height"], movie["Frames"], step["Pixelsize"]) == (64, 40, 50, 100.0)
    beside.unlink()
    with pytest.raises(VarError, match="pixel size is not known"):
        read_table(path)
    assert read_table(path, pixel_size_nm=100.0).x_nm[0] == pytest.approx(50.0)


def test_decode_goes_down_the_rows_first_and_counts_from_centres(tmp_path: Path) -> None:
    table = dataclasses.replace(
        make_table(1), x_nm=np.array([50.0]), y_nm=np.array([350.0]), crlb_xy_nm=np.array([20.0])
    )
    path = write_table(table, tmp_path / "a.h5", "decode", FIELD, {})[0]
    with h5py.File(path) as file:
        data = {name: np.asarray(column[:]) for name, column in file["data"].items() if column.shape}  # type: ignore
        assert file["data/phot_cr"].shape is None  # type: ignore[union-attr]
        assert dict(file["meta"].attrs)["xy_unit"] == "px"
    assert data["xyz"][0].tolist() == [3.0, 0.0, 0.0]
    assert data["xyz_cr"][0, :2] == pytest.approx([0.04, 0.04])  # variances
    assert data["frame_ix"][0] == table.frame[0]
    with h5py.File(path, "r+") as file:
        file["meta"].attrs["xy_unit"] = "nm"
        file["data/xyz"][0] = [300, 0, 0]  # type: ignore[index]
    back = read_table(path)
    assert (back.x_nm[0], back.y_nm[0]) == (50.0, 350.0)


def test_smap_counts_from_centres_and_is_read_from_both_kinds_of_matlab(tmp_path: Path) -> None:
    table = dataclasses.replace(make_table(2), x_nm=np.array([50.0, 70.0]), y_nm=np.array([150.0, 90.0]))
    path = write_table(table, tmp_path / "a_sml.mat", "smap", FIELD, {"note": "µ"})[0]
    head = path.read_bytes()[:128]
    assert head.startswith(b"MATLAB 7.3 MAT-file") and head[124:] == b"\x00\x02IM"
    with h5py.File(path) as file:
        loc = {name: np.asarray(column[:]) for name, column in file["saveloc/loc"].items()}  # type: ignore[union-attr]
        assert file["saveloc/loc/xnm"].attrs["MATLAB_class"] == b"single"
    assert loc["xnm"].tolist() == [[0.0, 20.0]] and loc["ynm"].tolist() == [[100.0, 40.0]]
    assert loc["frame"][0].tolist() == (table.frame + 1).tolist()
    older = {
        "loc": {name: column.T for name, column in loc.items()},
        "file": {"info": {"cam_pixelsize_um": [0.1, 0.2], "Width": 5.0}, "name": "a"},
    }
    scipy.io.savemat(tmp_path / "b_sml.mat", {"saveloc": older}, do_compression=True)
    back = read_table(tmp_path / "b_sml.mat")
    assert back.x_nm.tolist() == [50.0, 70.0] and back.y_nm.tolist() == [200.0, 140.0]
    assert back.photons == pytest.approx(table.photons)
    (tmp_path / "b_sml.mat").write_bytes((tmp_path / "b_sml.mat").read_bytes()[:300])
    with pytest.raises(VarError, match="MATLAB file that cannot be read"):
        read_table(tmp_path / "b_sml.mat")


def test_the_challenge_counts_from_corners_and_frame_1(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text("Ground-truth,frame,xnano,ynano,znano,intensity \n7,1,10.5,20.5,0,900\n8,3,11,21,-40,800\n")
    table = read_table(path)
    assert table.frame.tolist() == [0, 2] and table.x_nm.tolist() == [10.5, 11.0]
    assert table.photons is not None and table.photons.tolist() == [900, 800]
    assert table.meta["ignored_columns"] == ["Ground-truth", "znano"]


@pytest.mark.parametrize(("first", "second"), list(product(FORMATS, FORMATS)))
def test_every_pair_of_formats_keeps_what_both_hold(tmp_path: Path, first: str, second: str) -> None:
    table = dataclasses.replace(make_table(20), x_nm=np.linspace(0, 6400, 20), y_nm=np.linspace(4000, 0, 20))
    table.frame[0] = 0  # the first frame and the corner: numbers from 1 and from centres of pixels must come back to 0
    path = tmp_path / FORMATS[first].file_name("a")
    once = read_table(write_table(table, path, first, FIELD, {})[0])
    path = tmp_path / FORMATS[second].file_name("b")
    twice = read_table(write_table(once, path, second, FIELD, {})[0])
    assert set(twice.columns()) == set(table.columns()) - KEPT[first] - KEPT[second]
    assert np.array_equal(twice.frame, table.frame)
    for name in twice.columns():
        # Twice the rounding of text with four decimals or of 32-bit numbers.
        step = 8e-3 if name in ("x_nm", "y_nm", "photons") else 2e-3
        np.testing.assert_allclose(getattr(twice, name), getattr(table, name), atol=step, rtol=2e-5, err_msg=name)


def test_columns_that_are_missing_stay_away(tmp_path: Path) -> None:
    table = make_table(3, crlb_xy_nm=None, background_std=None)
    back = read_table(write_table(table, tmp_path / "a.csv", "csv", FIELD, {})[0])
    assert back.crlb_xy_nm is None and back.background_std is None
    assert "crlb" not in (tmp_path / "a.csv").read_text()
    assert json.loads((tmp_path / "a.json").read_text())["pixel_size_nm"] == 100.0


def test_tables_of_other_tools_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('"frame","x [nm]","y [nm]","z [nm]","uncertainty [nm]"\n1.0,10,20,5,3\n4.0,11,21,6,4\n')
    table = read_table(path)
    assert table.frame.tolist() == [0, 3]
    assert table.sd_x_nm is not None and table.sd_x_nm.tolist() == [3, 4]
    assert table.photons is None and table.meta["ignored_columns"] == ["z [nm]"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty file"),
        ("x,y,z\n1,2,3\n", "not a table of emitters"),
        ('"frame","x [nm]","y [px]"\n1,2,3\n', r"'y \[px\]' where 'y \[nm\]'"),
        ('"x [nm]","y [nm]"\n1,2\n', "no column 'frame'"),
        ('"frame","x [nm]","y [nm]"\n1,2,three\n', "row 1: 'three' is no number"),
        ('"frame","x [nm]","y [nm]"\n1,2,3\n1,2\n', "row 2"),
        ('"frame","x [nm]","y [nm]"\n1,2,3\n0,2,3\n', "row 2: frame is 0"),
        ('"frame","x [nm]","y [nm]"\n1,nan,3\n1,nan,3\n', r"row 1: x_nm is nan \(and 1 more rows\)"),
        ('"frame","x [nm]","y [nm]"\n1.5,2,3\n', "frame is 1.5"),
        ("frame,x_nm\n0,1\n", "not a table of emitters"),
        ("\0\0\0", "not a table of emitters"),
    ],
)
def test_what_is_no_table_is_said_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(VarError, match=said) as caught:
        read_table(path)
    assert "\n" not in caught.value.message


def test_broken_hdf5_and_missing_files(tmp_path: Path) -> None:
    for format in ("picasso", "decode", "smap"):
        path = write_table(make_table(100), tmp_path / "a.hdf5", format, FIELD, {})[0]
        path.write_bytes(path.read_bytes()[:3000])
        with pytest.raises(VarError, match="truncated HDF5"):
            read_table(path)
    with pytest.raises(UsageError, match="no such file"):
        read_table(tmp_path / "b.csv")
