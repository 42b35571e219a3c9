"""A further table format is one class and one registration: tables are written, recognised, read and described."""

from pathlib import Path

import numpy as np
import pytest
from cli_support import run_json

import varcli
from varcli.emitters.tables import FORMATS
from varcli.emitters.tables.base import FileColumn
from varcli.emitters.tables.text import TextFormat


class QuickPalm(TextFormat):
    """The table of QuickPALM, a plugin of ImageJ: nm from the corner, frames from 1."""

    token = "quickpalm"
    summary = "QuickPALM's table: Intensity, X (nm), Y (nm), Frame Number"
    ending = "_quickpalm.xls"
    columns = (
        FileColumn("Intensity", "%.4f", "photons"),
        FileColumn("X (nm)", "%.4f", "x_nm"),
        FileColumn("Y (nm)", "%.4f", "y_nm"),
        FileColumn("Frame Number", "%d", "frame", offset=-1),
    )
    place = ("Frame Number", "X (nm)", "Y (nm)")
    first_frame = 1
    hint = "a table of QuickPALM has Frame Number, X (nm) and Y (nm)"


def test_a_registered_format_is_written_recognised_and_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS, "quickpalm", QuickPalm())
    x_nm = np.array([120.5, 900.25, 33.0])
    table = varcli.EmitterTable(
        frame=np.array([0, 0, 7]), x_nm=x_nm, y_nm=x_nm[::-1], photons=10 * x_nm, meta={"pixel_size_nm": 100.0}
    )
    (path,) = varcli.write_table(table, tmp_path / "found.xls", "quickpalm")
    assert path.read_text().splitlines()[1] == "1205.0000,120.5000,33.0000,1"
    read = varcli.read_table(path)
    assert read.meta["format"] == "quickpalm"
    for name in ("frame", "x_nm", "y_nm", "photons"):
        np.testing.assert_array_equal(getattr(read, name), getattr(table, name))
    assert run_json("inspect", path)["format"] == "quickpalm"
    words = ("--format", "quickpalm", "--pixel-size", 100, "--output-dir", tmp_path / "post")
    outputs = run_json("post", path, *words)["outputs"]
    assert (tmp_path / "post" / "found_post_quickpalm.xls").is_file() and "found_post_quickpalm.xls" in outputs[0]
