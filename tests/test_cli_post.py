"""`var post`: its figures and files in every format, several tables, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from cli_support import assert_refused, run, run_json
from PIL import Image
from post_support import blinks, drifting

from varcli.emitters.table import EmitterTable
from varcli.emitters.tables import FORMATS, Field, read_table, write_table

FIELD = Field(pixel_size_nm=100, frames=2000, height=60, width=60, baseline_adu=100, e_per_adu=0.5)


def save(path: Path, table: EmitterTable, format: str = "csv") -> Path:
    write_table(table, path, format, FIELD, {"seed": 3})
    return path


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 24,000 localisations in four hundred places that drift; every tenth is dim."""
    table = blinks(8000, 2000, size_nm=5900, sd_nm=10)
    rng = np.random.default_rng(1)
    site = rng.uniform(500, 5400, (400, 2))
    # Blinks move to a few places, each with all of its localisations, so that there is a structure to correlate.
    nearest = np.argmin(((table.x_nm[:, None] - site[:, 0]) ** 2) + (table.y_nm[:, None] - site[:, 1]) ** 2, 1)
    noise = rng.normal(0, 10, (2, len(table)))
    photons = np.where(np.arange(len(table)) % 10 == 0, 100.0, 900.0)
    x_nm, y_nm = site[nearest, 0] + noise[0], site[nearest, 1] + noise[1]
    table = drifting(replace(table, x_nm=x_nm, y_nm=y_nm, photons=photons), 2000)
    return save(tmp_path_factory.mktemp("found") / "cell_emitters.csv", table)


def test_all_steps(found: Path, tmp_path: Path) -> None:
    steps = ("--filter", "photons > 300 and uncertainty_xy_nm < 50", "--drift", "rcc", "--density", "3:60", "--link")
    drawn = ("--render", 20, "--report")
    document = run_json("post", found, *steps, *drawn, "--gap", 1, "--radius", 60, "--output-dir", tmp_path)
    rows = document["rows"]
    assert list(rows) == ["read", "filtered", "dense", "linked"]
    assert rows["filtered"] == pytest.approx(0.9 * rows["read"], abs=1)
    assert rows["linked"] == document["localizations"] < rows["dense"] <= rows["filtered"]
    assert document["drift"]["span_x_nm"] == pytest.approx(120 - 25, rel=0.25)
    assert document["nena_nm"] == pytest.approx(10, rel=0.1) and document["assumed"] == {}
    written = {Path(path).name for path in document["outputs"]}
    assert written == {path.name for path in tmp_path.iterdir()}
    endings = "emitters.csv emitters.json quality.json drift.csv render.tif render.png report.png"
    assert written == {f"cell_post_{ending}" for ending in endings.split()}
    with tifffile.TiffFile(tmp_path / "cell_post_render.tif") as image:
        assert image.pages[0].shape == (300, 300)
    table = read_table(tmp_path / "cell_post_emitters.csv")
    assert len(table) == rows["linked"] and (table.meta["frames"], table.meta["width"]) == (2000, 60)
    assert table.meta["camera"] == {"baseline_adu": 100, "e_per_adu": 0.5} and table.meta["seed"] == 3
    assert table.meta["post"]["steps"]["filter"] == steps[1] and table.meta["post"]["rows"] == rows
    quality = json.loads((tmp_path / "cell_post_quality.json").read_text())
    assert quality["nena"]["precision_nm"] == pytest.approx(document["nena_nm"])
    drift = (tmp_path / "cell_post_drift.csv").read_text().splitlines()
    assert drift[:2] == ["frame,x_nm,y_nm", "0,0.000,0.000"] and len(drift) == 2001


def test_every_format_is_read_and_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y, photons, background, sd = rng.uniform(100, 5000, (5, 50))
    table = EmitterTable(
        np.arange(50) * 3, x, y, photons, background, psf_sigma_nm=sd, sd_x_nm=sd, sd_y_nm=sd, probability=sd / 5000
    )
    formats = ",".join(FORMATS)
    for token, format in FORMATS.items():
        path = save(tmp_path / format.file_name("one"), table, token)
        call = ("post", path, "--format", formats, "--pixel-size", 100, "--output-dir", tmp_path / token)
        document = run_json(*call, "--filter", "x_nm < 3000")
        assert document["localizations"] == (x < 3000).sum(), token
        for other, written in FORMATS.items():
            again = read_table(tmp_path / token / written.file_name("one_post"), 100)
            np.testing.assert_allclose(again.x_nm, x[x < 3000], atol=0.02, err_msg=f"{token} {other}")
            np.testing.assert_array_equal(again.frame, table.frame[x < 3000])


def test_images_in_other_styles(found: Path, tmp_path: Path) -> None:
    small = save(tmp_path / "b_emitters.csv", read_table(found).rows(np.arange(2000)))
    places = np.arange(9), np.full(9, 30.0), np.full(9, 30.0)
    bare = save(tmp_path / "bare_bench.csv", EmitterTable(*places), "bench")
    call = ("--render", 50, "--output-dir", tmp_path / "out")
    style = ("--render-style", "histogram", "--render-depth", 16, "--colormap", "gray")
    run_json("post", small, *call, *style, "--report")
    with tifffile.TiffFile(tmp_path / "out" / "b_post_render.tif") as tif:
        image = tif.asarray()
        per_step = json.loads(tif.pages.first.description)["emitters_per_step"]
        above, below = tif.pages.first.tags["XResolution"].value
    assert image.dtype == np.uint16 and image.max() == 65535 and 1e7 * below / above == pytest.approx(50)
    counts = image * per_step
    assert counts.sum() == pytest.approx(2000, rel=1e-4) and np.abs(counts - counts.round()).max() < 1e-3
    with Image.open(tmp_path / "out" / "b_post_render.png") as picture:
        colours = np.asarray(picture).astype(int)
    assert (np.ptp(colours, axis=2) == 0).all() and len(np.unique(colours)) > 3
    sure = run("post", bare, *call, "--pixel-size", 100, "--render-style", "gaussian")
    assert_refused(sure, 2, "the table says no uncertainties", "--render-style histogram")
    assert "counts in one pixel" in run("post", bare, *call, "--pixel-size", 100).stderr


def test_progress_goes_to_stderr(found: Path, tmp_path: Path) -> None:
    done = run("post", found, "--drift", "rcc", "--segments", 3, "--link", "--output-dir", tmp_path, "--json")
    assert json.loads(done.stdout)["drift"]["pairs"] == 3
    assert "5 steps done" in done.stderr  # read, drift, link, precision and resolution, write


def test_several_tables_become_one(found: Path, tmp_path: Path) -> None:
    small = save(tmp_path / "b_emitters.csv", read_table(found).rows(np.arange(2000)))
    call = ("post", small, small, "--output-dir", tmp_path / "out")
    appended = run_json(*call)
    assert appended["localizations"] == 4000 and appended["frames"] > 2000
    assert read_table(tmp_path / "out" / "b_post_emitters.csv").meta["frames"] == 4000
    kept = run_json(*call, "--frames", "keep", "--overwrite")
    assert kept["localizations"] == 4000 and kept["frames"] < 2000
    lines = run(*call, "--overwrite").stdout
    assert "localizations" in lines and "no background" in lines


def test_frames_out_of_order_are_sorted_when_asked(tmp_path: Path) -> None:
    table = EmitterTable(np.array([4, 0, 2]), np.array([1.0, 2, 3]), np.array([1.0, 2, 3]))
    path = save(tmp_path / "t.csv", table, "bench")
    call = ("post", path, "--pixel-size", 100, "--output-dir", tmp_path / "out")
    assert_refused(run(*call), 2, "frames out of order: row 2 is of frame 0", "--sort")
    assert not (tmp_path / "out").exists()
    document = run_json(*call, "--sort")
    assert document["frames"] == 5 and set(document["assumed"]) == {"frames", "height", "width"}


def test_mistakes_are_said_in_a_line(found: Path, tmp_path: Path) -> None:
    call = ("post", found, "--output-dir", tmp_path / "out")
    refusals = {
        (2, "no column 'photon'", "did you mean photons?"): ("--filter", "photon > 3"),
        (2, "the table has no column crlb_xy_nm"): ("--filter", "crlb_xy_nm < 3"),
        (1, "none of 24", "localisations is left"): ("--filter", "photons < 0"),
        (2, "--density '5': not a number of neighbours"): ("--density", "5"),
        (2, "--gap and --radius belong to --link"): ("--gap", "2"),
        (2, "--segments belongs to --drift rcc"): ("--segments", "4"),
        (2, "no format 'xls'"): ("--format", "xls"),
        (2, "--render-depth belongs to a rendered image"): ("--render-depth", "16", "--report"),
        (2, "--colormap belongs to a rendered image"): ("--colormap", "hot"),
        (2, "--colormap", "inferno"): ("--render", "10", "--colormap", "rainbow"),
        (1, "has", "localisations, fewer than 200"): ("--drift", "rcc", "--segments", "500"),
    }
    for (code, *said), options in refusals.items():
        assert_refused(run(*call, *options), code, *said)
    assert_refused(run("post", tmp_path / "nowhere.csv"), 2, "nowhere.csv: no such file")
    bare = save(tmp_path / "bare.csv", EmitterTable(np.zeros(1, int), np.ones(1), np.ones(1)), "bench")
    assert_refused(run("post", bare, "--output-dir", tmp_path / "out"), 2, "the pixel size", "--pixel-size")
    empty = save(tmp_path / "empty_emitters.csv", read_table(found).rows(np.zeros(0, int)))
    assert_refused(run("post", empty, "--output-dir", tmp_path / "out"), 1, "the table is empty")
    assert_refused(run("post", found, empty, "--output-dir", tmp_path / "out", "--link", "--radius", 0), 2, "--radius")
    assert not list((tmp_path / "out").iterdir())
    (tmp_path / "out" / "cell_post_quality.json").touch()
    assert_refused(run(*call), 2, "cell_post_quality.json exists", "--overwrite")
