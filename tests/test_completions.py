"""The completion files are fresh, complete names from the registry, and never load torch."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from varcli import registry

FOLDER = Path(__file__).parent.parent / "completions"
FILES = {"bash": "var.bash", "zsh": "_var", "fish": "var.fish"}


def var(*args: str, **environment: str) -> str:
    """What `python -m varcli` prints under these variables; an import of torch fails it."""
    code = "import sys; sys.modules['torch'] = None; from varcli.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.stdout


def complete(*lines: str) -> list[set[str]]:
    """What bash offers for the last word of each line, all asked in one process: starting one takes longest."""
    code = """
import contextlib, io, json, os, sys
sys.modules["torch"] = None
from varcli.cli.app import main
offered = []
for line in json.load(sys.stdin):
    os.environ |= {"_VAR_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main()
    offered.append(out.getvalue().split())
print(json.dumps(offered))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(lines), capture_output=True, text=True, check=True
    )
    return [set(words) for words in json.loads(done.stdout)]


@pytest.mark.parametrize("shell", FILES)
def test_files_are_fresh(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "varcli"],
        env=os.environ | {"_VAR_COMPLETE": f"source_{shell}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (FOLDER / FILES[shell]).read_text() == done.stdout.lstrip("\n")


def test_zsh_file_can_be_autoloaded_and_completes_at_once() -> None:
    lines = (FOLDER / "_var").read_text().splitlines()
    assert lines[0] == "#compdef var"
    assert 'if [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n  _var_completion "$@"\nfi' in "\n".join(lines)


OFFERED = {
    "var ": {"sample", "gif", "simulate", "super-resolve", "post", "train", "inspect", "evaluate"},
    "var evaluate ": {"likelihood", "music", "emitters"},
    "var evaluate music made songs --split ": {"train", "valid", "test", "all"},
    "var sample --mode ": {"unconditional", "continuation", "inpainting", "harmonise"},
    "var sample --scale D:m": {
        "D:major",
        "D:minor",
        "D:melodic_minor",
        "D:mixolydian",
        "D:major_pentatonic",
        "D:minor_pentatonic",
    },
    "var sample --scan-order ": {"row_major", "column_major"},
    "var sample --device ": {"auto", "cpu", "cuda", "mps"},
    "var sample --gif-samples ": {"first", "all"},
    "var train ": set(registry.names()),
    "var simulate ": {"emitters"},
    "var simulate emitters ": {name for name, _ in registry.SIMULATIONS},
    "var train fractal-m": {name for name in registry.names() if name.startswith("fractal-m")},
    "var sample --checkpoint ": {e.name for e in registry.entries() if e.weights and e.task == "pianoroll"},
    "var super-resolve --checkpoint e": {e.name for e in registry.entries() if e.weights and e.task == "emitters"},
    "var super-resolve --polish ": {"mle", "none"},
    "var super-resolve --format csv,p": {"csv,picasso"},
    "var post --format csv,p": {"csv,picasso"},
    "var post --drift ": {"rcc", "none"},
    "var evaluate likelihood ": {e.name for e in registry.entries() if e.weights and e.task == "pianoroll"},
    "var inspect fractal-ar-": {"fractal-ar-reference"},
    "var sample --checkpoint runs/": set(),
}
"""What bash offers for the last word of a line."""


def test_names_complete() -> None:
    assert dict(zip(OFFERED, complete(*OFFERED), strict=True)) == OFFERED


def test_other_shells_complete_too() -> None:
    arguments = {"_TYPER_COMPLETE_ARGS": "var train fractal-ar-"}
    assert "fractal-ar-reference" in var(_VAR_COMPLETE="complete_zsh", **arguments)
    fish = var(_VAR_COMPLETE="complete_fish", _TYPER_COMPLETE_FISH_ACTION="get-args", **arguments)
    assert fish.split()[0] == "fractal-ar-reference"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_accept_the_files(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    done = subprocess.run([shell, "-n", str(FOLDER / FILES[shell])], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_zsh_completes_on_the_first_tab(tmp_path: Path) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("no zsh here")
    # What compinit does with the file, with the two functions that only a line editor has stood in for.
    script = f"""
        fpath=({FOLDER} $fpath); autoload -Uz _var
        compdef() {{ : }}; _arguments() {{ print -r -- "$@" }}
        var() {{ {sys.executable} -m varcli "$@" }}
        env() {{ ( for each in "$@"; do [[ $each == *=* ]] && export "$each"; done; var ) }}
        words=(var train fractal-ar-); CURRENT=3; _var
    """
    done = subprocess.run(["zsh", "-fc", script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "fractal-ar-reference" in done.stdout, done.stderr
