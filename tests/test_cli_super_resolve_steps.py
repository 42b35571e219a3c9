"""`var super-resolve` with the steps of `var post`: filters, drift, density, linking and the page."""

import json
from pathlib import Path

import pytest
from cli_support import run, run_json
from emitter_support import Maxima
from super_resolve_support import STEPS, Call, outputs

from varcli.emitters.tables import FORMATS

pytest_plugins = "super_resolve_support"


def test_what_follows_is_what_var_post_does(call: Call, stack: Path, maxima: Maxima, tmp_path: Path) -> None:
    plain = run_json(*call.args(stack, "--output-dir", tmp_path / "plain"))
    said = run_json(*call.args(stack, *STEPS))
    assert plain["post"] is None and plain["seconds"]["post"] < said["seconds"]["post"]
    before = outputs(tmp_path / "plain")
    assert before.items() <= outputs(tmp_path / "out").items()  # the table of the run is as it is without
    table = tmp_path / "out/img_emitters.csv"
    post = run_json("post", table, *STEPS, "--render", "10", "--output-dir", tmp_path / "post")
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


def test_steps_that_fail_leave_the_table(call: Call, stack: Path, maxima: Maxima, tmp_path: Path) -> None:
    done = run(*call.args(stack, "--drift", "rcc", "--json"))
    said = json.loads(done.stdout)
    assert done.exit_code == 1 and "less than three segments" in done.stderr
    assert "img_emitters.csv is written: var post goes on from there" in done.stderr
    assert said["post"] is None and said["complete"] and (tmp_path / "out/img_emitters.csv").exists()
    assert not (tmp_path / "out/img_partial").exists()
