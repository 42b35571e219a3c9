"""`var evaluate emitters`: its figures, where the size of the field comes from, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
from cli_support import assert_refused, run, run_json

from varcli.emitters.table import EmitterTable
from varcli.emitters.tables import Field, write_table

KEYS = {
    *("found", "truth", "radius_nm", "border_nm", "least_photons", "size_nm", "pixel_size_nm", "assumed", "emitters"),
    *("frames", "true_positives", "false_positives", "missed", "precision", "recall", "jaccard", "rmse_nm"),
    *("rmse_axis_nm", "efficiency", "bias_x_nm", "bias_y_nm", "photon_ratio", "gridding_x", "gridding_y"),
    *("within_1_sd", "within_2_sd", "z_std_robust", "probability_error"),
}
FIELD = Field(pixel_size_nm=100, frames=3, height=30, width=40)


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Path]:
    """Paths of tables: `near` and `truth` share two emitters of three, `sized` is the truth with its provenance."""
    frame, x, y = np.array([0, 0, 2]), np.array([1000.0, 2000.0, 3100.0]), np.array([1000.0, 2000.0, 2100.0])
    photons = np.array([500.0, 600.0, 700.0])
    truth = EmitterTable(frame, x, y, photons)
    near = EmitterTable(frame, x + np.array([10.0, -10.0, 600.0]), y, photons, sd_x_nm=photons, sd_y_nm=photons)
    written = {"near": (near, "bench"), "truth": (truth, "bench"), "sized": (truth, "csv")}
    written["empty"] = (truth.rows(frame < 0), "bench")
    for name, (table, format) in written.items():
        write_table(table, tmp_path / f"{name}.csv", format, FIELD, {})
    return {name: tmp_path / f"{name}.csv" for name in written}


def test_figures(tables: dict[str, Path]) -> None:
    document = run_json("evaluate", "emitters", tables["near"], tables["truth"], "--size-nm", "4000,3000")
    assert set(document) == KEYS
    assert (document["true_positives"], document["missed"], document["frames"]) == (2, 1, 2)
    assert (document["size_nm"], document["assumed"]) == ([4000, 3000], {})
    assert (document["within_1_sd"], document["probability_error"]) == (1.0, None)
    assert document["emitters"] == {"found": 3, "truth": 3}


def test_the_tables_say_the_size_of_the_field(tables: dict[str, Path]) -> None:
    document = run_json("evaluate", "emitters", tables["near"], tables["sized"])
    assert (document["size_nm"], document["pixel_size_nm"], document["assumed"]) == ([4000, 3000], 100, {})
    assert 0 < document["gridding_x"] <= 1


def test_a_size_that_nobody_says_is_named_as_assumed(tables: dict[str, Path]) -> None:
    result = run("evaluate", "emitters", tables["near"], tables["truth"])
    assert result.exit_code == 0
    assert "warning: the size of the field is assumed: 3100 x 2100 nm" in result.stderr
    assert "jaccard" in result.stdout and "probability error" not in result.stdout


def test_mistakes_are_said_in_a_line(tables: dict[str, Path]) -> None:
    call = ("evaluate", "emitters", tables["near"], tables["truth"])
    assert_refused(run("evaluate", "emitters", tables["near"], "nowhere.csv"), 2, "nowhere.csv: no such file")
    for size in ("4000", "4000,0", "a,b", "1,2,3", "nan,1"):
        assert_refused(run(*call, "--size-nm", size), 2, f"--size-nm {size!r}: not a width and a height")
    assert_refused(run(*call, "--size-nm", "800,800"), 2, "--border 450: nothing is left")
    assert_refused(run("evaluate", "emitters", tables["empty"], tables["empty"]), 2, "--size-nm")
