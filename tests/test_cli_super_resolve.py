"""`var super-resolve` end to end: files, provenance, what is assumed, resuming, broken stacks, bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from cli_support import run, run_json
from emitter_support import SAID, Maxima, column, save_stack, spots

from varcli import loading
from varcli.checkpoint import save_checkpoint
from varcli.emitters.config import EmittersConfig
from varcli.emitters.network import predict
from varcli.emitters.pipeline import resume as partial
from varcli.emitters.tables import FORMATS


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a few thousand fresh weights, of the whole trained domain."""
    import torch

    from varcli.emitters.training import build_model

    torch.manual_seed(0)
    model = {"encoder_width": 4, "encoder_layers": 1, "width": 8, "heads": 1, "layers": 1, "accumulated_width": 2}
    config = EmittersConfig.model_validate({"model": model})
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    held = config.model_dump(mode="json")
    data = {"simulated": held["simulation"]}
    weights = build_model(config).state_dict()
    save_checkpoint(path, weights, task="emitters", config=held, data=data, steps=1, metrics={}, seed=0)
    return path


@pytest.fixture
def maxima(monkeypatch: pytest.MonkeyPatch) -> Maxima:
    """A model that finds spots, in place of the tiny one's weights."""
    model = Maxima()
    in_place(model, monkeypatch)
    return model


def in_place(model: Maxima, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `model` stand for every network that is loaded."""
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: (model, None))
    monkeypatch.setattr(predict, "Predictor", lambda network: network)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    return save_stack(tmp_path / "img.tif", spots())


class Call:
    """A call of the command with the same checkpoint, camera and folder."""

    def __init__(self, checkpoint: Path, folder: Path) -> None:
        self.common = ["--checkpoint", str(checkpoint), "--output-dir", str(folder), "--polish", "none"]

    def args(self, *words: object, said: bool = True) -> list[str]:
        return ["super-resolve", *self.common, *(SAID if said else []), *map(str, words)]


@pytest.fixture
def call(checkpoint: Path, tmp_path: Path) -> Call:
    return Call(checkpoint, tmp_path / "out")


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


def outputs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.mark.parametrize("kind", ["sum", "frames"])
def test_a_stopped_run_goes_on_to_the_same_bytes(
    call: Call, stack: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    monkeypatch.setattr(partial, "_SECONDS_BETWEEN_SAVES", 0.0)
    args = call.args(stack, "--batch-size", "2", "--map", kind, "--format", "csv,picasso")

    def go(model: Maxima, *more: str) -> Any:
        in_place(model, monkeypatch)
        return run(*[*args, *more])

    assert go(Maxima(), "--output-dir", str(tmp_path / "whole")).exit_code == 0
    assert go(Maxima(stop_at=4)).exit_code == 130
    folder = tmp_path / "out/img_partial"
    assert folder.is_dir() and not list((tmp_path / "out").glob("*.csv"))
    with (folder / "rows.bin").open("ab") as file:
        file.write(b"written, but never counted")
    differs = go(Maxima(), "--threshold", "0.6")
    assert differs.exit_code == 2 and "threshold" in differs.stderr and folder.is_dir()
    again = Maxima()
    done = go(again, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["resumed_at"] >= 4
    assert again.frames < Maxima().frames + 12 + 12
    assert outputs(tmp_path / "out") == outputs(tmp_path / "whole")
    assert not folder.exists()


def test_another_stack_under_the_same_name_is_another_call(
    call: Call, stack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_place(Maxima(stop_at=3), monkeypatch)
    assert run(*call.args(stack, "--batch-size", 2)).exit_code == 130
    save_stack(stack, spots(seed=1))
    done = run(*call.args(stack, "--batch-size", 2))
    assert done.exit_code == 2 and "input" in done.stderr


def test_what_was_written_when_it_was_stopped_is_its_own(
    call: Call, stack: Path, maxima: Maxima, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from varcli.emitters.results import localization

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(localization, "table_writer", stop)
        assert run(*call.args(stack)).exit_code == 130
    assert (tmp_path / "out/img_to80.tif").exists()
    assert run_json(*call.args(stack))["resumed_at"] == 12


def test_render_in_another_style(call: Call, stack: Path, maxima: Maxima, tmp_path: Path) -> None:
    said = run_json(*call.args(stack, "--render-style", "histogram", "--render-depth", "16", "--colormap", "hot"))
    with tifffile.TiffFile(said["render"]["tif"]) as tif:
        counts = tif.asarray() * json.loads(tif.pages.first.description)["emitters_per_step"]
    assert counts.sum() == pytest.approx(said["emitters"], rel=1e-4)
    assert counts == pytest.approx(counts.round(), abs=1e-3)


AFTER = ["--filter", "photons > 300", "--density", "1:3000", "--link", "--gap", "3", "--radius", "300", "--report"]


def test_what_follows_is_what_var_post_does(call: Call, stack: Path, maxima: Maxima, tmp_path: Path) -> None:
    plain = run_json(*call.args(stack, "--output-dir", tmp_path / "plain"))
    said = run_json(*call.args(stack, *AFTER))
    assert plain["post"] is None and plain["seconds"]["post"] < said["seconds"]["post"]
    before = outputs(tmp_path / "plain")
    assert before.items() <= outputs(tmp_path / "out").items()  # the table of the run is as it is without
    table = tmp_path / "out/img_emitters.csv"
    post = run_json("post", table, *AFTER, "--render", "10", "--output-dir", tmp_path / "post")
    # The table on disk is rounded to a ten-thousandth.
    for name, value in post.items():
        if name == "outputs":
            assert [Path(path).name for path in said["post"][name]] == [Path(path).name for path in value]
        elif isinstance(value, float):
            assert said["post"][name] == pytest.approx(value, rel=1e-3), name
        else:
            assert said["post"][name] == value, name
    assert outputs(tmp_path / "out").keys() == before.keys() | outputs(tmp_path / "post").keys()
    beside, alone = (json.loads((tmp_path / at / "img_post_emitters.json").read_text()) for at in ("out", "post"))
    assert beside == alone and beside["post"]["rows"]["linked"] < beside["post"]["rows"]["read"]


def test_its_own_tables_are_taken_in_every_format(call: Call, stack: Path, maxima: Maxima, tmp_path: Path) -> None:
    said = run_json(*call.args(stack, "--format", ",".join(FORMATS)))
    for token, format in FORMATS.items():
        table = tmp_path / "out" / format.file_name("img")
        assert str(table) in said["tables"]
        options = ("--pixel-size", "100", "--link", "--output-dir", tmp_path / token)
        post = run_json("post", table, *options)
        assert post["rows"]["read"] == said["emitters"] and post["outputs"][0].endswith("img_post_emitters.csv"), token


def test_stopped_in_what_follows_it_goes_on(
    call: Call, stack: Path, maxima: Maxima, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from varcli.emitters.results import localization

    run_json(*call.args(stack, *AFTER, "--output-dir", tmp_path / "whole"))

    def stop(*_: object) -> None:
        (tmp_path / "out/img_post_emitters.csv").write_text("half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(localization, "carry_out", stop)
        assert run(*call.args(stack, *AFTER)).exit_code == 130
    assert (tmp_path / "out/img_partial").exists()
    before = maxima.frames
    assert run_json(*call.args(stack, *AFTER))["resumed_at"] == 12
    assert maxima.frames - before <= 12 and not (tmp_path / "out/img_partial").exists()  # the look at the stack alone
    whole = {name: data.replace(b"/whole/", b"/out/") for name, data in outputs(tmp_path / "whole").items()}
    assert outputs(tmp_path / "out") == whole


def test_an_unfinished_run_goes_on_with_other_steps_and_overwrites_nothing(
    call: Call, stack: Path, maxima: Maxima, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from varcli.emitters.results import localization

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(localization, "table_writer", stop)
        assert run(*call.args(stack)).exit_code == 130
    mine = tmp_path / "out/img_post_quality.json"
    mine.write_text("mine")
    refused = run(*call.args(stack, "--link"))
    assert refused.exit_code == 2 and "img_post_quality.json exists" in refused.stderr and mine.read_text() == "mine"
    mine.unlink()
    said = run_json(*call.args(stack, "--link"))
    assert said["resumed_at"] == 12 and said["post"]["rows"]["linked"] > 0


def test_steps_that_fail_leave_the_table(call: Call, stack: Path, maxima: Maxima, tmp_path: Path) -> None:
    done = run(*call.args(stack, "--drift", "rcc", "--json"))
    said = json.loads(done.stdout)
    assert done.exit_code == 1 and "less than three segments" in done.stderr
    assert "img_emitters.csv is written: var post goes on from there" in done.stderr
    assert said["post"] is None and said["complete"] and (tmp_path / "out/img_emitters.csv").exists()
    assert not (tmp_path / "out/img_partial").exists()


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


def test_an_empty_stack_has_an_empty_table(call: Call, maxima: Maxima, tmp_path: Path) -> None:
    path = save_stack(tmp_path / "dark.tif", np.full((4, 33, 47), 120, np.uint16))
    said = run_json(*call.args(path, "--mode", "both", "--gif"))
    assert said["emitters"] == 0
    assert len((tmp_path / "out/dark_emitters.csv").read_text().splitlines()) == 1


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
