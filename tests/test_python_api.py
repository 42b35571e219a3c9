"""The Python API: it loads quickly and late, names what it says it does, and its documentation runs as written."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import varcli

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "numpy", "scipy", "numba", "pydantic", "PIL", "tifffile", "h5py", "typer", "rich")


def sections(page: Path) -> dict[str, str]:
    """The Python blocks under each heading of the second level, joined; those above the first stand before each."""
    start, *parts = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    code = {part.splitlines()[0]: "\n".join(re.findall(r"^```python\n(.*?)^```", part, re.M | re.S)) for part in parts}
    before = "\n".join(re.findall(r"^```python\n(.*?)^```", start, re.M | re.S))
    return {heading: f"{before}\n{blocks}" for heading, blocks in code.items()}


def test_import_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, time; began = time.perf_counter(); import varcli; took = time.perf_counter() - began\n"
        f"print(took, *(name for name in {HEAVY!r} if name in sys.modules))"
    )
    took, *heavy = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not heavy
    assert float(took) < 0.1


def test_every_name_is_there_and_known_to_type_checkers() -> None:
    for name in varcli.__all__:
        assert getattr(varcli, name) is not None
        assert name in dir(varcli)
    tree = ast.parse(Path(varcli.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == varcli._HOMES
    assert sorted(varcli.__all__) == sorted([*typed, "__version__"])


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="localise"):
        varcli.localise  # noqa: B018


@pytest.mark.parametrize("section", sections(ROOT / "docs" / "python.md"))
def test_the_documentation_runs(section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = sections(ROOT / "docs" / "python.md")[section]
    exec(compile(code, f"docs/python.md, {section}", "exec"), {"__name__": "__main__"})
