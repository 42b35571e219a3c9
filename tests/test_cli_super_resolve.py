"""`var super-resolve`: what is found, where it is written, and what of it is assumed."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from cli_support import run, run_json
from emitter_support import Maxima, column, save_stack, spots
from super_resolve_support import Call

pytest_plugins = "super_resolve_support"


def test_a_fresh_model_runs_and_finds_what_it_finds(call: Call, stack: Path, tmp_path: Path) -> None:
    said = run_json(*call.args(stack, "--to", "2x"))
    assert said["frames"] == 12 and said["complete"]
    assert tifffile.imread(tmp_path / "out/img_to80.tif").shape == (80, 80)


def test_files_and_the_same_provenance_everywhere(call: Call, stack: Path, maxima: Maxima, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = run_json(*call.args(stack, "--mode", "both", "--gif", "--format", "csv,bench,picasso"))
    names = {path.name for path in out.iterdir()}
    assert {"img_emitters.csv", "img_to80.tif", "img_render.tif", "img_render.png"} <= names
    assert {"img_progressive.png", "img_progressive.gif"} <= names
    assert not any("partial" in name for name in names)
    assert {str(out / name) for name in names} == {
        *said["tables"], said["map"], *said["render"].values(), said["progressive"], said["gif"]
    }  # fmt: skip
    beside = json.loads((out / "img_emitters.json").read_text())
    assert said["provenance"].items() <= beside.items()
    assert said["assumed"] == [] == beside["assumed"]
    table = out / "img_emitters.csv"
    frames = list(column(table, "frame"))
    assert frames == sorted(frames) and said["emitters"] == len(frames) > 20
    summed = tifffile.imread(out / "img_to80.tif")
    assert summed.dtype == np.float32 and summed.sum() == pytest.approx(0.9 * len(frames), rel=1e-5)


def test_rows_are_where_the_spots_are_in_nm_and_photons(
    call: Call, maxima: Maxima, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = np.full((1, 40, 40), 120, np.uint16)
    frame[0, 7, 30] = 2000
    path = save_stack(tmp_path / "one.tif", frame)
    run_json(*[*call.args(path), "--qe", "0.5"])
    table = tmp_path / "out/one_emitters.csv"
    assert list(column(table, "x [nm]")) == [3050.0] and list(column(table, "y [nm]")) == [750.0]
    assert list(column(table, "intensity [photon]")) == [2000.0]  # 1000 photoelectrons behind a QE of 0.5
    assert list(column(table, "offset [photon]")) == [pytest.approx(20.0, abs=0.5)]


@pytest.mark.parametrize("options", [["--frames", "3:9"], ["--roi", "10:38,4:31"]])
def test_a_part_gives_the_rows_of_the_whole(
    call: Call, stack: Path, maxima: Maxima, tmp_path: Path, options: list[str]
) -> None:
    run_json(*call.args(stack, "--format", "bench"))
    part = run_json(*call.args(stack, "--format", "bench", *options, "--output-dir", tmp_path / "part"))
    rows = [line.rsplit(",", 3)[0] for line in (tmp_path / "out/img_bench.csv").read_text().splitlines()]
    few = [line.rsplit(",", 3)[0] for line in (tmp_path / "part/img_bench.csv").read_text().splitlines()]
    assert 5 < len(few) < len(rows)
    if options[0] == "--frames":
        assert set(few) <= set(rows)
        assert part["frames"] == 6
    else:
        assert len(set(few) & set(rows)) > 0.8 * len(few)  # spots cut by the edge may move
        assert tifffile.imread(tmp_path / "part/img_to80.tif").shape == (54, 56)


def test_map_of_every_frame(call: Call, stack: Path, maxima: Maxima, tmp_path: Path) -> None:
    run_json(*call.args(stack, "--map", "frames", "--to", "20", "--batch-size", "5", "--render", "none"))
    maps = tifffile.imread(tmp_path / "out/img_to20.tif")
    assert maps.shape == (12, 20, 20)
    frames = np.array(list(column(tmp_path / "out/img_emitters.csv", "frame")))
    assert [m.sum() for m in maps] == pytest.approx([0.9 * (frames == k + 1).sum() for k in range(12)])
    assert not list((tmp_path / "out").glob("*render*"))


def test_the_bare_call_names_everything_it_assumes(call: Call, maxima: Maxima, tmp_path: Path) -> None:
    path = save_stack(tmp_path / "img.tif", spots(40))
    done = run(*call.args(path, "--json", said=False))
    said = json.loads(done.stdout)
    assert done.exit_code == 0
    names = {"pixel size", "baseline", "e-/ADU", "EM gain", "read noise", "quantum efficiency", "PSF width"}
    assert {known["name"] for known in said["assumed"]} == names
    for name in names:
        assert f"assumed: {name}" in done.stderr
    values = {known["name"]: known["value"] for known in said["assumed"]}
    assert values["PSF width"] == pytest.approx(1.3, abs=0.1)
    assert values["pixel size"] == 100.0
    assert said["provenance"]["assumed"] == said["assumed"]


def test_the_pixel_size_of_the_file_is_taken(call: Call, maxima: Maxima, tmp_path: Path) -> None:
    path = save_stack(tmp_path / "a.tif", spots(3), resolution=(1e7 / 65, 1e7 / 65), resolutionunit="CENTIMETER")
    args = call.args(path)
    at = args.index("--pixel-size")
    said = run_json(*args[:at], *args[at + 2 :])
    [pixel] = said["assumed"]
    assert pixel["name"] == "pixel size" and pixel["value"] == pytest.approx(65) and pixel["origin"] == "metadata"


def test_what_the_model_does_not_know_is_said(call: Call, stack: Path, maxima: Maxima, tmp_path: Path) -> None:
    done = run(*[*call.args(stack, "--json"), "--psf-sigma", "4", "--e-per-adu", "20"])
    said = json.loads(done.stdout)
    outside = {entry["quantity"]: entry for entry in said["provenance"]["microscope"]["outside_trained_domain"]}
    assert outside["PSF width"]["value"] == 4 and outside["PSF width"]["trained"] == [0.75, 2.4]
    assert "background" in outside
    for sentence in said["warnings"]:
        assert sentence in done.stderr.replace("\n", " ")
    assert any("PSF width 4 px" in sentence for sentence in said["warnings"])


def test_the_polish_finds_the_place_within_the_pixel(call: Call, stack: Path, maxima: Maxima, tmp_path: Path) -> None:
    args = call.args(stack, "--format", "csv")
    args[args.index("none")] = "mle"
    said = run_json(*args)
    table = tmp_path / "out/img_emitters.csv"
    x, bound = (np.array(list(column(table, name))) for name in ("x [nm]", "crlb_xy [nm]"))
    assert said["emitters"] == len(x) > 20
    assert np.median(np.abs((x / 100) % 1 - 0.5)) > 0.1  # the model says pixel centres
    assert 3 < np.median(bound) < 10  # 1000 photoelectrons, a PSF of 130 nm and a background of 10
    assert np.median(list(column(table, "intensity [photon]"))) == pytest.approx(1000, rel=0.05)


def test_render_in_another_style(call: Call, stack: Path, maxima: Maxima, tmp_path: Path) -> None:
    said = run_json(*call.args(stack, "--render-style", "histogram", "--render-depth", "16", "--colormap", "hot"))
    with tifffile.TiffFile(said["render"]["tif"]) as tif:
        counts = tif.asarray() * json.loads(tif.pages.first.description)["emitters_per_step"]
    assert counts.sum() == pytest.approx(said["emitters"], rel=1e-4)
    assert counts == pytest.approx(counts.round(), abs=1e-3)


def test_an_empty_stack_has_an_empty_table(call: Call, maxima: Maxima, tmp_path: Path) -> None:
    path = save_stack(tmp_path / "dark.tif", np.full((4, 33, 47), 120, np.uint16))
    said = run_json(*call.args(path, "--mode", "both", "--gif"))
    assert said["emitters"] == 0
    assert len((tmp_path / "out/dark_emitters.csv").read_text().splitlines()) == 1
