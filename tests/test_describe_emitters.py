"""`var inspect` says what a stack or a table of emitters is, its numbers and its health."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from cli_support import assert_refused, run, run_json

from varcli.emitters.table import EmitterTable
from varcli.emitters.tables import FORMATS, Field, file_names, table_writer

FIELD = Field(pixel_size_nm=100.0, frames=9, height=40, width=50)


def write_stack(path: Path, frames: np.ndarray) -> Path:
    tifffile.imwrite(path, frames, photometric="minisblack", resolution=(1e5, 1e5), resolutionunit="CENTIMETER")
    return path


def test_a_healthy_stack(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(90, 300, (9, 6, 7)).astype("u2")
    document = run_json("inspect", write_stack(tmp_path / "a.tif", frames))
    assert document["kind"] == "stack"
    assert (document["frames"], document["height"], document["width"], document["dtype"]) == (9, 6, 7, "uint16")
    assert (document["smallest"], document["largest"]) == (frames.min(), frames.max())
    assert document["mean"] == pytest.approx(frames.mean())
    assert (document["pixel_size_nm"], document["pixel_size_from"]) == (pytest.approx(100), "resolution tags")
    assert document["complete"] and document["health"] == {"ok": True, "problems": []}
    assert "uint16" in run("inspect", tmp_path / "a.tif").stdout


def test_a_stack_in_trouble(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(90, 300, (9, 30, 30)).astype("u2")
    frames[1], frames[2, 0, 0] = 100, 65535
    path = write_stack(tmp_path / "a.tif", frames)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    document = run_json("inspect", path)
    assert (document["saturated_frames"], document["constant_frames"], document["complete"]) == (1, 1, False)
    assert document["frames"] == 4
    assert len(document["health"]["problems"]) == 3
    path.write_bytes(b"GIF89a")
    assert_refused(run("inspect", path), 1, "not a TIFF")


@pytest.mark.parametrize("format", FORMATS)
def test_a_table(tmp_path: Path, format: str) -> None:
    rng = np.random.default_rng(0)
    frame, numbers = np.array([1, 1, 5]), rng.uniform(1, 2, (4, 3))
    table = EmitterTable(frame, *numbers[:3], probability=numbers[3] / 2)
    with table_writer(format, tmp_path, "cell", FIELD, {"complete": True}) as append:
        append(table)
    path = tmp_path / file_names(format, "cell")[0]
    document = run_json("inspect", path)
    assert (document["kind"], document["format"], document["rows"]) == ("table", format, 3)
    assert (document["first_frame"], document["last_frame"], document["frames_with_emitters"]) == (1, 5, 2)
    assert document["medians"]["photons"] == pytest.approx(np.median(numbers[2]), rel=1e-3)
    assert document["health"] == {"ok": True, "problems": []}
    assert "photons" in run("inspect", path).stdout


def test_a_table_in_trouble(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("frame,x_nm,y_nm,photons,prob\n3,1,1,-5,0.5\n2,1,1,5,1.5\n")
    problems = run_json("inspect", path)["health"]["problems"]
    assert problems == [
        "its frames are out of order",
        "photons: 1 rows are negative",
        "probability: 1 rows are above 1",
    ]
    path.write_text("frame,x_nm,y_nm\n")
    assert run_json("inspect", path)["health"]["problems"] == ["the table has no rows"]
    path.write_text("a,b\n1,2\n")
    assert_refused(run("inspect", path), 1, "not a table of emitters")
