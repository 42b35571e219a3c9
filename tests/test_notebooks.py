"""The notebooks run from top to bottom as they stand, and what they show is kept with them, small."""

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def kinds(notebook: Any) -> list[set[str]]:
    """What each code cell shows: text, or the kinds of a value."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [{kind for one in cell.outputs for kind in one.get("data", {"text": ""})} for cell in cells]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    kept = nbformat.read(path, as_version=4)
    assert path.stat().st_size < 200 * 1024
    run = nbformat.read(path, as_version=4)
    for cell in run.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs = []
    (tmp_path / "work").mkdir()
    NotebookClient(run, timeout=300, resources={"metadata": {"path": str(tmp_path / "work")}}).execute()
    assert [shown - {"image/jpeg"} for shown in kinds(run)] == kinds(kept)
    assert not any(one.get("name") == "stderr" for cell in run.cells for one in cell.get("outputs", []))


def test_both_families_have_one() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["microscopy", "music"]
