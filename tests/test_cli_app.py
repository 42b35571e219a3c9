"""The frame around the commands: version, errors, exit codes, colours and streams."""

import errno
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_support import PYTHON, assert_refused, run, save_tiny

import varcli
from varcli.api import describe
from varcli.cli import output
from varcli.errors import UsageError, VarError


def raising(error: BaseException) -> Callable[[object], dict[str, object]]:
    """Something to put in the place of `describe`."""

    def describe(path: object) -> dict[str, object]:
        raise error

    return describe


def var(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, "-m", "varcli", *args], env=os.environ | environment, capture_output=True, text=True, check=False
    )


def test_version_on_stdout() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"var {varcli.__version__}\n", "")


def test_help_names_every_command() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in ("sample", "gif", "train", "inspect", "evaluate"):
        assert command in result.stdout


def test_module_and_command_are_the_same() -> None:
    done = var("--help")
    assert done.returncode == 0
    assert "Usage: var [OPTIONS] COMMAND" in done.stdout
    assert var("nonsense").returncode == 2


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (VarError("bad thing"), 1, ["error: bad thing"]),
        (UsageError("bad option", "mend it"), 2, ["error: bad option", "hint: mend it"]),
        (VarError("[red]markup[/] stays"), 1, ["error: [red]markup[/] stays"]),
        (KeyboardInterrupt(), 130, ["error: interrupted"]),
        (OSError(errno.EIO, "Input/output error", "a.mid"), 1, ["error: a.mid: Input/output error"]),
        (OSError(errno.ENOSPC, "No space left on device"), 1, ["error: the disk is full", "hint: free some space"]),
        (MemoryError(), 1, ["error: out of memory", "hint: try a smaller --batch-size"]),
    ],
)
def test_errors_become_lines_and_codes(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, lines: list[str]
) -> None:
    monkeypatch.setattr(describe, "describe", raising(error))
    result = run("inspect", "x")
    assert (result.exit_code, result.stdout, result.stderr.splitlines()) == (code, "", lines)


def test_long_lines_are_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describe, "describe", raising(VarError("word " * 100)))
    assert len(run("inspect", "x").stderr.splitlines()) == 1


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describe, "describe", raising(VarError("bad thing")))
    monkeypatch.setenv("VAR_DEBUG", "1")
    stderr = run("inspect", "x").stderr
    assert "Traceback" in stderr
    assert stderr.splitlines()[-1] == "error: bad thing"


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describe, "describe", raising(RuntimeError("a bug")))
    result = run("inspect", "x")
    assert isinstance(result.exception, RuntimeError)


def test_colours_only_where_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describe, "describe", raising(VarError("bad thing")))
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[1;31m" in run("inspect", "x").stderr
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;31m" not in run("inspect", "x").stderr
    monkeypatch.delenv("FORCE_COLOR")
    assert "\x1b" not in run("inspect", "x").stderr


def test_json_holds_no_number_that_json_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    document = {"a": float("nan"), "b": [np.float32(1.5), float("inf")], "c": np.int64(3), "d": Path("x"), "e": True}
    output.emit(document, [], as_json=True)
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.5, None], "c": 3, "d": "x", "e": True}


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "a.safetensors")
    script = (
        f'set -o pipefail; {PYTHON} -m varcli inspect {path} --json | head -c 1 >/dev/null; echo "${{PIPESTATUS[0]}}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.strip() in {"0", "1"}


def test_an_unknown_command_or_option_is_usage() -> None:
    assert_refused(run("smaple"), 2, "smaple")
    assert_refused(run("inspect", "--jsn"), 2, "--jsn")
