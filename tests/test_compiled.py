"""The cache of compiled functions: fresh after any edit, private, shared by processes, and never in the way."""

import math
import os
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numba
import numpy as np
import pytest

from varcli import compiled, events
from varcli.cli.progress import Display
from varcli.compiled import cache

OUTER = """
from varcli.compiled import kernel
from pack.constants import SCALE
from pack.inner import inner

@kernel(fastmath=True)
def outer(x):
    return SCALE * inner(x)
"""
INNER = """
from varcli.compiled import kernel
from pack import deeper

OFFSET = deeper.OFFSET

@kernel()
def inner(x):
    return x + OFFSET
"""
RUN = """
from pack.outer import outer
print(outer(1.0), sum(outer._cache_misses.values()), outer._cache.cache_path)
"""

BESIDE = """
from varcli.compiled import cache, compile_beside
from pack import example
compile_beside(example.example)
helper, = cache.helpers.values()
"""


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A package of two compiled functions, one of which calls the other across files."""
    folder = tmp_path / "site" / "pack"
    folder.mkdir(parents=True)
    files = {"__init__": "", "outer": OUTER, "inner": INNER, "constants": "SCALE = 10\n", "deeper": "OFFSET = 1\n"}
    files["example"] = "from pack.outer import outer\ndef example():\n    return outer, (1.0,)\n"
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def start(pack: Path, code: str = RUN, **env: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(pack.parent), str(Path(compiled.__file__).parents[2])])
    env = {"HOME": str(pack.parent.parent / "home"), "PATH": os.environ["PATH"], "PYTHONPATH": path, **env}
    return subprocess.Popen(
        [sys.executable, "-B", "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(pack: Path, code: str = RUN, **env: str) -> tuple[float, int, Path]:
    """The value of `outer(1.0)`, how often it was compiled, and where it is kept."""
    process = start(pack, code, **env)
    out, error = process.communicate()
    assert process.returncode == 0, error
    value, misses, folder = out.split(maxsplit=2)
    return float(value), int(misses), Path(folder.strip())


def test_an_edit_in_any_file_that_matters_compiles_anew(pack: Path) -> None:
    first, misses, folder = run(pack)
    assert (first, misses) == (20.0, 1)
    assert run(pack) == (20.0, 0, folder)
    (pack / "inner.py").write_text(INNER.replace("x + OFFSET", "x + 2 * OFFSET"))
    assert run(pack)[:2] == (30.0, 1)
    (pack / "constants.py").write_text("SCALE = 100\n")
    assert run(pack)[:2] == (300.0, 1)
    (pack / "deeper.py").write_text("OFFSET = 3\n")
    assert run(pack)[:2] == (700.0, 1)
    for name, text in {"inner": INNER, "constants": "SCALE = 10\n", "deeper": "OFFSET = 1\n"}.items():
        (pack / f"{name}.py").write_text(text)
    assert run(pack) == (20.0, 0, folder), "what was compiled before is still there"
    assert not list(pack.rglob("*.nb[ci]"))


def test_the_cache_lies_where_the_user_has_caches(pack: Path, tmp_path: Path) -> None:
    assert run(pack, XDG_CACHE_HOME=str(tmp_path / "xdg"))[2] == tmp_path / "xdg" / "varcli" / "kernels"
    assert run(pack, NUMBA_CACHE_DIR=str(tmp_path / "numba"))[2] == tmp_path / "numba" / "kernels"


def test_without_a_place_to_write_a_private_temporary_one_is_used(pack: Path, tmp_path: Path) -> None:
    blocked, temporary = tmp_path / "blocked", tmp_path / "temporary"
    blocked.write_text("a file where the folder should be")
    temporary.mkdir()
    env = {"XDG_CACHE_HOME": str(blocked), "TMPDIR": str(temporary)}
    value, misses, folder = run(pack, **env)
    assert (value, misses) == (20.0, 1)
    assert folder.is_relative_to(temporary)
    assert run(pack, **env)[1] == 0, "and serves the next run"
    if hasattr(os, "getuid"):
        assert folder.stat().st_mode & 0o777 == 0o700
        folder.chmod(0o777)
        assert run(pack, **env) == (20.0, 1, Path("None")), "others may write there: nothing is read or kept"


def test_two_processes_may_compile_at_once(pack: Path) -> None:
    both = [start(pack) for _ in range(2)]
    assert [process.communicate()[0].split()[0] for process in both] == ["20.0", "20.0"]
    assert run(pack)[:2] == (20.0, 0)


def test_what_a_process_beside_compiles_is_loaded(pack: Path) -> None:
    assert run(pack, BESIDE + RUN)[:2] == (20.0, 0)
    assert run(pack, BESIDE.replace("helper, =", "assert not") + RUN)[:2] == (20.0, 0), "nothing is left to do beside"


@pytest.mark.parametrize("failure", ["helper._process.kill()", "helper._process.stdin.close()"])
def test_without_the_process_beside_the_first_call_compiles(pack: Path, failure: str) -> None:
    assert run(pack, f"{BESIDE}\n{failure}\n{RUN}")[:2] == (20.0, 1)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc which processes run")
def test_the_process_beside_ends_with_its_own(pack: Path) -> None:
    (pack / "example.py").write_text("import time\n\ndef example():\n    time.sleep(60)\n")
    lines = (
        "from varcli.compiled.cache import Helper",
        "code = 'from varcli.compiled import compile_here; compile_here(pack.example.example)'",
        "print(Helper(f'import pack.example; {code}')._process.pid)",
    )
    began = time.monotonic()
    status = Path("/proc", start(pack, "\n".join(lines)).communicate()[0].strip(), "stat")
    while status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() - began < 30
        time.sleep(0.1)


def test_damage_is_compiled_again(pack: Path) -> None:
    folder = run(pack)[2]
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:40])
    assert run(pack)[:2] == (20.0, 1)
    assert run(pack)[:2] == (20.0, 0)


def test_signatures_do_not_share_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_root", lambda: tmp_path)

    @compiled.kernel()
    def twice(x):
        return 2 * x

    assert twice(1) == 2
    assert twice(1.5) == 3.0
    assert twice(np.float32(1.5)) == 3.0
    assert len(list(tmp_path.iterdir())) == 3


def test_a_digest_follows_what_is_read_and_nothing_else() -> None:
    def digest(scale: object, source: str, fastmath: bool = False) -> str:
        names = {"scale": scale, "math": math, "__name__": __name__}
        exec(source, names)
        return cache._digest(compiled.kernel(fastmath)(names["f"]))

    source = "def f(x):\n    return scale * math.exp(x)"
    same = digest(2.0, source)
    assert digest(2.0, f"# moved down, and\nunused = 3\n{source}  # spoken of") == same
    others = [
        digest(2, source),
        digest(np.float32(2), source),
        digest((2.0,), source),
        digest(np.array([2.0]), source),
        digest(np.array([2.5]), source),
        digest(2.0, source.replace("exp", "log")),
        digest(2.0, source.replace("exp(x)", "exp(x + 1)")),
        digest(2.0, source, fastmath=True),
    ]
    assert len({same, *others}) == 9


def test_fields_of_a_tuple_are_part_of_its_type() -> None:
    one, other = (namedtuple("Pair", fields)(1.0, 2.0) for fields in (("a", "b"), ("b", "a")))
    assert cache._spelled(numba.typeof((one,))) != cache._spelled(numba.typeof((other,)))


def test_what_nobody_uses_is_removed(tmp_path: Path) -> None:
    for days in (0, 29, 31):
        file = tmp_path / f"{days}.kernel"
        file.touch()
        os.utime(file, (time.time(), time.time() - 86400 * days))
    cache._remove_unused(tmp_path)
    assert {file.stem for file in tmp_path.iterdir()} == {"0", "29"}


def test_what_is_reported_is_shown_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning, match="no place"):
        events.report(events.Warned("no place"))
    with Display():
        events.report(events.Warned("no place"))
    assert capsys.readouterr().err == "warning: no place\n"
