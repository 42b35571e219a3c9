"""The Python API: it loads quickly and late, names what it says it does, and its documentation runs as written."""

import ast
import re
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import varcli
from varcli.emitters.pipeline.chunk import ChunkDone

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


PAGES = [(page, name) for page in ("python.md", "conditioning.md") for name in sections(ROOT / "docs" / page)]


RUN = ("Molecules", "The network alone", "In Python")


@pytest.mark.parametrize(("page", "section"), [each for each in PAGES if each[1] in RUN])
def test_the_documentation_runs(page: str, section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = sections(ROOT / "docs" / page)[section]
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, f"docs/{page}, {section}", "exec"), names)
    if section == "Molecules":
        assert (tmp_path / "found" / "stack_locs.hdf5").is_file()
        assert len(names["table"]) > len(names["linked"].table) > 0
    elif section == "The network alone":
        assert names["probability"].shape == (1, 80, 80) and names["positions"].shape == (1, 80, 80, 2)
    else:
        (roll,) = names["rolls"]
        assert not set(note.pitch % 12 for note in roll.notes) - {0, 2, 4, 5, 7, 9, 11}


class Lazy:
    """Frames that are read when they are sliced, and counted."""

    def __init__(self, frames: np.ndarray) -> None:
        self.frames, self.shape, self.dtype, self.most = frames, frames.shape, frames.dtype, 0

    def __getitem__(self, part: slice) -> np.ndarray:
        self.most = max(self.most, len(self.frames[part]))
        return self.frames[part]


def test_arrays_lazy_stacks_and_files_give_the_same_table(tmp_path: Path) -> None:
    simulation = varcli.simulate("blinking", {"frames": 240, "height": 32, "width": 32}, seed=2)
    written = varcli.simulate(
        "blinking", {"frames": 240, "height": 32, "width": 32}, seed=2, output=tmp_path / "stack.tif"
    )
    assert len(simulation.truth) == written.emitters
    lazy = Lazy(simulation.frames_adu)
    options = {"camera": simulation.camera, "estimator": "none"}
    tables = [
        varcli.localize(stack, **options).table for stack in (simulation.frames_adu, lazy, tmp_path / "stack.tif")
    ]
    assert lazy.most < 240
    for name in ("frame", "x_nm", "y_nm", "photons", "probability"):
        np.testing.assert_array_equal(getattr(tables[0], name), getattr(tables[1], name))
        np.testing.assert_array_equal(getattr(tables[0], name), getattr(tables[2], name))


def test_a_run_that_is_closed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("varcli.emitters.pipeline.resume._SECONDS_BETWEEN_SAVES", 0)
    stack = varcli.simulate("blinking", {"frames": 600, "height": 24, "width": 24}, seed=3)
    options = {"camera": stack.camera, "estimator": "none", "output_dir": tmp_path / "made"}
    whole = varcli.localize(stack.frames_adu, **{**options, "output_dir": None})
    events = varcli.localize_events(stack.frames_adu, **options)
    for event in events:
        if isinstance(event, ChunkDone):
            break
    assert isinstance(events, Generator)
    events.close()
    resumed = varcli.localize(stack.frames_adu, **options)
    assert 0 < resumed.resumed_at < 600
    np.testing.assert_array_equal(resumed.table.x_nm, whole.table.x_nm)


def test_a_stack_that_breaks_off_is_a_warning(tmp_path: Path) -> None:
    simulated = varcli.simulate("blinking", {"frames": 60, "height": 24, "width": 24}, seed=4)
    broken = simulated.frames_adu.astype(np.float32)
    broken[58] = -1e6
    with pytest.warns(UserWarning, match="incomplete: .*negative"):
        found = varcli.localize(broken, camera=simulated.camera, estimator="none")
    assert not found.complete
    assert found.failures
