"""The Python API: it loads quickly and late, names what it says it does, and its documentation runs as written."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from cli_support import run_json, save_corpus, save_midi, save_tiny, tiny_config

import varcli
from varcli.emitters.camera.values import given_values
from varcli.emitters.pipeline.chunk import ChunkDone
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.results.start import Mode
from varcli.pianoroll.roll import Vocabulary
from varcli.pianoroll.sampling.prompt import Region

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


PAGES = [("python.md", name) for name in sections(ROOT / "docs" / "python.md")] + [("conditioning.md", "In Python")]


@pytest.mark.parametrize(("page", "section"), PAGES)
def test_the_documentation_runs(page: str, section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = sections(ROOT / "docs" / page)[section]
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, f"docs/{page}, {section}", "exec"), names)
    if section == "Molecules":
        assert (tmp_path / "found" / "stack_locs.hdf5").is_file()
        assert len(names["table"]) > len(names["linked"].table) > 0
    elif section == "Music":
        assert len(varcli.read_midi(tmp_path / "first.mid").roll.notes) == len(names["roll"].notes) > 0
        assert 0 <= names["compared"].mean_overlap <= 1 and len(names["table"]) == 3
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


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config()
    conditioned = config.model_copy(update={"model": config.model.model_copy(update={"conditioning": True})})
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny.safetensors", FractalModel(conditioned))


@pytest.mark.parametrize(
    ("mode", "words", "options"),
    [
        ("unconditional", ("--num-samples", 3, "--batch-size", 2, "--gif"), {"num_samples": 3, "batch_size": 2}),
        ("continuation", ("--prompt-steps", 16, "--scale", "C:major"), {"prompt_steps": 16, "scale": "C:major"}),
        ("inpainting", ("--region", "4:12", "--region", "14:20,60:70"), {"region": ["4:12", Region(14, 20, 60, 70)]}),
        ("harmonise", ("--pitch-range", "36:84"), {"pitch_range": (36, 84)}),
    ],
)
def test_samples_are_those_of_the_command(tiny: Path, tmp_path: Path, mode: Mode, words: Any, options: Any) -> None:
    prompt = None if mode == "unconditional" else save_midi(tmp_path / "prompt.mid")
    given = () if prompt is None else ("--prompt", prompt)
    common = ("--checkpoint", tiny, "--mode", mode, "--seed", 3, "--target-width", 24, "--device", "cpu")
    run_json("sample", *common, *given, *words, "--output-dir", tmp_path / "command")
    options |= {"checkpoint": tiny, "seed": 3, "target_width": 24, "device": "cpu"}
    recordings = varcli.Recordings(gif="first") if mode == "unconditional" else None
    found = varcli.sample(mode, prompt=prompt, recordings=recordings, output_dir=tmp_path / "python", **options)
    one, other = (
        {path.name: path.read_bytes() for path in (tmp_path / side).iterdir()} for side in ("command", "python")
    )
    assert one == other
    if prompt is not None:
        roll = varcli.read_midi(prompt, vocabulary=found.rolls[0].vocabulary).roll
        for known in (roll, roll.cells):
            again = varcli.sample(mode, prompt=known, **(options | {"checkpoint": varcli.load(tiny, "cpu")[0]}))
            np.testing.assert_array_equal(again.rolls[0].cells, found.rolls[0].cells)
    for sample in found.samples:
        assert sample.to_midi() == one[f"{mode}_{sample.index:03d}.mid"]


def test_likelihood_is_that_of_the_command_and_of_rolls(tiny: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    corpus = save_corpus(tmp_path / "midi")
    options = {"device": "cpu", "max_polyphony": 2}
    found = varcli.evaluate_likelihood(tiny, corpus, **options, surprise_maps=tmp_path / "maps")
    words = ("--device", "cpu", "--max-polyphony", 2, "--surprise-map", tmp_path / "maps", "--overwrite")
    assert run_json("evaluate", "likelihood", tiny, corpus, *words) == found.document()
    rolls = [varcli.read_midi(corpus / f"{name}.mid", vocabulary=Vocabulary(2)).roll for name in ("000", "010")]
    assert varcli.evaluate_likelihood(tiny, rolls, **options).nats_per_frame == found.nats_per_frame
    assert [row["frames"] for row in found.rows()] == [roll.steps for roll in rolls]


def test_a_comparison_is_that_of_the_command_and_of_rolls(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made, real = save_corpus(tmp_path / "made", 2), save_corpus(tmp_path / "real")
    options: dict[str, Any] = {"window_steps": 16, "resamples": 20}
    rolls = [varcli.read_midi(real / f"{name}.mid").roll for name in ("000", "010")]
    of_rolls = varcli.evaluate_music(rolls, rolls, **options)
    found = varcli.evaluate_music(made, real, report=tmp_path / "page.png", **options)
    words = ("--window-steps", 16, "--resamples", 20, "--report", tmp_path / "page.png", "--overwrite")
    assert run_json("evaluate", "music", made, real, *words) == json.loads(
        json.dumps(found.document()), parse_constant=lambda _: None
    )
    assert of_rolls.mean_overlap == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: varcli.sample(temperature=0), "temperature=0: must be above 0; for example temperature=0.9"),
        (lambda: varcli.sample("continuation"), "mode='continuation' needs a prompt; "),
        (lambda: varcli.sample(cast("Mode", "inpaint")), "mode='inpaint': not one of unconditional, continuation"),
        (lambda: varcli.sample(scale="C:mayor"), "scale='C:mayor': no scale 'mayor'; did you mean major?"),
        (lambda: varcli.sample(device="tpu"), "device tpu: this machine has none; device='auto' takes what there is"),
        (lambda: varcli.sample("inpainting", prompt=np.full((128, 8), 99), region="0:4"), "the prompt has shape"),
        (lambda: varcli.localize(np.zeros((4, 32, 32), np.uint16), threshold=1.5), "threshold=1.5: must be above 0"),
        (lambda: varcli.localize(np.zeros((4, 32, 32), np.uint16), psf_sigma=99), "psf_sigma=99: not a width"),
        (lambda: varcli.Outputs(formats=("xls",)), "formats: no format 'xls'"),
        (lambda: varcli.simulate("blinking", {"frames": -1}), "settings"),
    ],
)
def test_errors_name_parameters(call: Any, said: str) -> None:
    with pytest.raises(varcli.UsageError) as caught:
        call()
    assert said in str(caught.value)
    assert "--" not in str(caught.value)


def test_a_stack_that_breaks_off_is_a_warning(tmp_path: Path) -> None:
    simulated = varcli.simulate("blinking", {"frames": 60, "height": 24, "width": 24}, seed=4)
    broken = simulated.frames_adu.astype(np.float32)
    broken[58] = -1e6
    with pytest.warns(UserWarning, match="incomplete: .*negative"):
        found = varcli.localize(broken, camera=simulated.camera, estimator="none")
    assert not found.complete
    assert found.failures


@pytest.mark.filterwarnings("ignore:no emitter")
def test_values_of_a_camera_with_and_without_provenance_count_alike() -> None:
    stack = np.full((4, 16, 16), 100, np.uint16)
    stack[:, 8, 8] = 160
    camera = {"pixel_size_nm": 90.0, "e_per_adu": 0.5, "read_noise_e": 1.5} | given_values(baseline_adu=80.0, qe=0.7)
    found = varcli.localize(stack, camera=camera, psf_sigma=1.2, estimator="none").microscope.camera
    assert (found.pixel_size_nm, found.e_per_adu, found.baseline_adu, found.qe) == (90.0, 0.5, 80.0, 0.7)
