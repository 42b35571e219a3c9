"""`var simulate emitters`: its files, its presets, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from cli_support import assert_refused, run, run_json

from varcli.config import load_simulation
from varcli.emitters.camera.file import read_camera
from varcli.emitters.stack.stack import Stack
from varcli.emitters.tables import read_table
from varcli.registry import SIMULATIONS, names

SMALL = ("--set", "frames=6", "--set", "height=20", "--set", "width=30")


def test_a_stack_its_truth_and_its_camera_are_written(tmp_path: Path) -> None:
    output = tmp_path / "a.tif"
    said = run_json("simulate", "emitters", *SMALL, "--seed", 3, "--output", output)
    stack = Stack.open([output])
    assert (stack.frames, stack.height, stack.width) == (6, 20, 30)
    assert stack.metadata["pixel_size_nm"] == pytest.approx(100)
    truth = read_table(tmp_path / "a_truth.csv")
    assert len(truth) == said["emitters"] and truth.frame.min() >= 0 and truth.frame.max() <= 5
    assert truth.meta["seed"] == 3 and truth.meta["simulated"]["width"] == 30
    assert read_camera(tmp_path / "a_camera.toml")["e_per_adu"].value == 0.5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "a_camera.toml", "a_truth.csv", "a_truth.json"]


def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run("simulate", "emitters", *SMALL, "--seed", seed, "--output", tmp_path / f"{name}.tif").exit_code == 0
    a, b, c = ((tmp_path / f"{name}.tif").read_bytes() for name in "abc")
    assert a == b and a != c
    truths = [(tmp_path / f"{name}_truth.csv").read_bytes() for name in "ab"]
    assert truths[0] == truths[1]


@pytest.mark.parametrize("preset", [name for name, _ in SIMULATIONS])
def test_presets_run(tmp_path: Path, preset: str) -> None:
    assert load_simulation(preset).name == preset and preset not in names()
    assert run("simulate", "emitters", preset, *SMALL, "--output", tmp_path / "a.tif").exit_code == 0
    assert tifffile.imread(tmp_path / "a.tif").shape == (6, 20, 30)


def test_a_file_may_name_maps_beside_it(tmp_path: Path) -> None:
    np.save(tmp_path / "offset.npy", np.full((20, 30), 300.0))
    config = tmp_path / "own.toml"
    config.write_text(
        "frames = 2\nheight = 20\nwidth = 30\n[camera]\npixel_size_nm = 65\nbaseline_adu = 'offset.npy'\n"
        "e_per_adu = 1\nread_noise_e = 1\n"
    )
    run_json("simulate", "emitters", config, "--output", tmp_path / "out" / "a.tif")
    assert np.all(read_camera(tmp_path / "out" / "a_camera.toml")["baseline_adu"].value == 300)


def test_what_is_wrong_is_said_before_any_work(tmp_path: Path) -> None:
    output = tmp_path / "a.tif"
    refused = ("simulate", "emitters")
    assert_refused(run(*refused, "nothing", "--output", output), 2, "no preset or config file 'nothing'")
    assert_refused(run(*refused, "--output", tmp_path / "a.png"), 2, "not a .tif")
    assert_refused(run(*refused, "--set", "molecules.on_frame=1", "--output", output), 2, "mean molecules.on_frames?")
    assert_refused(run(*refused, "--set", "camera.qe=2", "--output", output), 2, "camera.qe")
    assert_refused(run(*refused, "fractal-ar", "--output", output), 2, "no preset or config file 'fractal-ar'")
    output.write_bytes(b"mine")
    assert_refused(run(*refused, *SMALL, "--output", output), 2, "exists")
    assert output.read_bytes() == b"mine" and len(list(tmp_path.iterdir())) == 1
