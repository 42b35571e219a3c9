"""`var super-resolve` on broken stacks and with wrong options: what there is, or one line."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from cli_support import run, run_json
from emitter_support import SAID, Maxima, column, save_stack, spots
from super_resolve_support import Call

pytest_plugins = "super_resolve_support"


def test_a_truncated_stack_gives_its_frames_and_exit_1(call: Call, maxima: Maxima, tmp_path: Path) -> None:
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, spots(), photometric="minisblack")
    path.write_bytes(path.read_bytes()[: 8 * 3200])
    done = run(*[*call.args(path), "--json"])
    said = json.loads(done.stdout)
    assert done.exit_code == 1 and "truncated" in done.stderr and "page" in done.stderr
    assert not said["complete"] and 0 < said["frames"] < 12
    beside = json.loads((tmp_path / "out/cut_emitters.json").read_text())
    assert beside["complete"] is False and beside["frames_done"] == said["frames"]
    assert max(column(tmp_path / "out/cut_emitters.csv", "frame")) <= said["frames"]
    whole = run_json(*call.args(path, "--frames", "0:4", "--output-dir", tmp_path / "part"))
    assert whole["complete"]


def test_a_frame_that_is_no_picture_ends_a_stack(call: Call, maxima: Maxima, tmp_path: Path) -> None:
    frames = spots().astype(np.float32)
    frames[7, 3, 3] = np.nan
    done = run(*[*call.args(save_stack(tmp_path / "nan.tif", frames)), "--json"])
    said = json.loads(done.stdout)
    assert done.exit_code == 1 and "frame 7" in done.stderr and "not finite" in done.stderr
    assert said["frames"] == 7 and not said["complete"]


def test_saturated_and_constant_frames_are_said(call: Call, maxima: Maxima, tmp_path: Path) -> None:
    frames = spots()
    frames[2, 4, 4] = 65535
    frames[5] = 100
    done = run(*[*call.args(save_stack(tmp_path / "s.tif", frames), "--json")])
    warnings = " ".join(json.loads(done.stdout)["warnings"])
    assert done.exit_code == 0 and "first frame 2" in warnings and "first frame 5" in warnings


BAD = {
    "no file": (["missing.tif"], 2, "missing.tif"),
    "not a TIFF": (["text.tif"], 1, "text.tif"),
    "RGB": (["rgb.tif"], 1, "rgb.tif"),
    "negative": (["negative.tif"], 1, "negative number"),
    "channels": (["channels.tif"], 1, "--channel"),
    "no such channel": (["img.tif", "--channel", "3"], 2, "channel"),
    "zero pages": (["empty.tif"], 1, "empty.tif"),
    "scale": (["img.tif", "--to", "50"], 2, "10 (0.25x), 20 (0.5x), 40 (1x), 80 (2x)"),
    "no scale": (["img.tif", "--to", "fine"], 2, "--to"),
    "threshold": (["img.tif", "--threshold", "1"], 2, "--threshold"),
    "camera missing": (["img.tif", "--camera", "nowhere.toml"], 2, "nowhere.toml"),
    "camera incomplete": (["img.tif", "--camera", "part.toml"], 2, "part.toml"),
    "camera impossible": (["img.tif", "--camera", "bad.toml"], 2, "e_per_adu"),
    "camera unknown key": (["img.tif", "--camera", "typo.toml"], 2, "pixel_size_nm"),
    "map of another size": (["img.tif", "--camera", "map.toml"], 2, "40x40"),
    "pixel size": (["img.tif", "--pixel-size", "-3"], 2, "--pixel-size"),
    "qe": (["img.tif", "--qe", "1.5"], 2, "--qe"),
    "em gain": (["img.tif", "--em-gain", "0.5"], 2, "--em-gain"),
    "baseline above the light": (["img.tif", "--baseline", "30000"], 2, "baseline"),
    "psf": (["img.tif", "--psf-sigma", "wide"], 2, "--psf-sigma"),
    "frames": (["img.tif", "--frames", "5:50"], 2, "0:12"),
    "frames backwards": (["img.tif", "--frames", "5:2"], 2, "--frames"),
    "roi": (["img.tif", "--roi", "0:10"], 2, "--roi"),
    "roi outside": (["img.tif", "--roi", "0:10,30:70"], 2, "0:40"),
    "format": (["img.tif", "--format", "csv,xls"], 2, "xls"),
    "render": (["img.tif", "--render", "0"], 2, "--render"),
    "filter": (["img.tif", "--filter", "photons >"], 2, "at character 10"),
    "unknown column": (["img.tif", "--filter", "photon > 3"], 2, "did you mean photons?"),
    "column of the polish": (["img.tif", "--filter", "sd_background > 3"], 2, "no column uncertainty_background"),
    "density": (["img.tif", "--density", "5"], 2, "--density"),
    "gap without link": (["img.tif", "--gap", "2"], 2, "--link"),
    "segments without drift": (["img.tif", "--segments", "4"], 2, "--drift rcc"),
    "segments": (["img.tif", "--drift", "rcc", "--segments", "13"], 2, "12 frames"),
    "no image": (["img.tif", "--render", "none", "--render-depth", "16"], 2, "belongs to a rendered image"),
    "checkpoint": (["img.tif", "--checkpoint", "nowhere.safetensors"], 2, "nowhere"),
    "music": (["img.tif", "--checkpoint", "fractal-ar"], 1, "pianoroll"),
}


@pytest.fixture
def bad_files(stack: Path) -> Path:
    folder, frames = stack.parent, spots(3)
    (folder / "text.tif").write_text("no picture at all, though it is long enough to be one")
    tifffile.imwrite(folder / "rgb.tif", np.zeros((3, 20, 20, 3), np.uint8), photometric="rgb")
    tifffile.imwrite(folder / "negative.tif", frames.astype(np.int16) - 300, photometric="minisblack")
    tifffile.imwrite(folder / "channels.tif", np.stack([frames, frames], 1), imagej=True, metadata={"axes": "TCYX"})
    (folder / "empty.tif").write_bytes(b"II*\0\0\0\0\0")
    whole = "pixel_size_nm = 100\nbaseline_adu = 100\nread_noise_e = 1.6\n"
    (folder / "part.toml").write_text("[camera]\npixel_size_nm = 100\n")
    (folder / "bad.toml").write_text(f"[camera]\n{whole}e_per_adu = 0\n")
    (folder / "typo.toml").write_text(f"[camera]\n{whole}e_per_adu = 1\npixel_size = 100\n")
    (folder / "map.toml").write_text(f'[camera]\n{whole}e_per_adu = "map.npy"\n')
    np.save(folder / "map.npy", np.ones((30, 40)))
    return folder


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line(
    what: str, checkpoint: Path, bad_files: Path, maxima: Maxima, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, code, said = BAD[what]
    monkeypatch.chdir(bad_files)
    given = [*SAID]
    for option in words:
        if option.startswith("--") and option in given:  # what the case says replaces what is said otherwise
            at = given.index(option)
            del given[at : at + 2]
    if "--camera" in words:
        given = ["--psf-sigma", "1.3"]
    model = [] if "--checkpoint" in words else ["--checkpoint", str(checkpoint)]
    done = run(*["super-resolve", *words, *given, *model, "--polish", "none"])
    assert done.exit_code == code, done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("assumed")]
    assert len(lines) <= 2, done.stderr
    assert done.stdout == "" and not list(bad_files.glob("outputs/*.*"))


def test_nothing_is_overwritten(call: Call, stack: Path, maxima: Maxima, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/img_render.png").write_text("mine")
    done = run(*call.args(stack))
    assert done.exit_code == 2 and "img_render.png exists" in done.stderr
    assert (tmp_path / "out/img_render.png").read_text() == "mine" and maxima.calls == 0
    assert run(*call.args(stack, "--overwrite")).exit_code == 0
