"""`var super-resolve` that was stopped: it goes on to the same bytes, and to those of its own call alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli_support import run, run_json
from emitter_support import Maxima, save_stack, spots
from super_resolve_support import STEPS, Call, in_place, outputs

from varcli.emitters.pipeline import resume as partial

pytest_plugins = "super_resolve_support"


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


def test_stopped_in_what_follows_it_goes_on(
    call: Call, stack: Path, maxima: Maxima, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from varcli.emitters.results import localization

    run_json(*call.args(stack, *STEPS, "--output-dir", tmp_path / "whole"))

    def stop(*_: object) -> None:
        (tmp_path / "out/img_post_emitters.csv").write_text("half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(localization, "carry_out", stop)
        assert run(*call.args(stack, *STEPS)).exit_code == 130
    assert (tmp_path / "out/img_partial").exists()
    before = maxima.frames
    assert run_json(*call.args(stack, *STEPS))["resumed_at"] == 12
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
