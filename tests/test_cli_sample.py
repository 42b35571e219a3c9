"""`var sample`: which files appear, that they are the same every time, and what is refused."""

import io
import json
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_support import PYTHON, assert_refused, run, run_json, save_tiny, tiny_config
from PIL import Image

from varcli import registry
from varcli.pianoroll.events import SampleDone, SampleStarted
from varcli.pianoroll.generation import generate
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.roll import Roll, Vocabulary
from varcli.pianoroll.score.midi import read_midi


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {kind: save_tiny(folder / f"{kind}.safetensors", FractalModel(tiny_config(kind))) for kind in ("ar", "mar")}


def sample(model: Path, folder: Path, *args: object) -> tuple[object, ...]:
    """The words of a `var sample` that makes one short roll on the CPU."""
    rest = ("--target-width", 24, "--device", "cpu", "--output-dir", folder)
    return ("sample", "--mode", "unconditional", "--checkpoint", model, *rest, *args)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("kind", ["ar", "mar"])
def test_every_sample_gets_its_files(tmp_path: Path, models: dict[str, Path], kind: str) -> None:
    document = run_json(*sample(models[kind], tmp_path, "--num-samples", 2, "--gif", "--save-frames"))
    conditions = {
        "prompt",
        "kept_cells",
        "written_cells",
        "tempo",
        "form",
        "chords",
        "key",
        "metre",
        "ranking",
        "constraints",
        "page",
    }
    assert set(document) == {"mode", "checkpoint", "seed", "samples", "seconds"} | conditions
    assert (document["mode"], document["checkpoint"], document["seed"]) == ("unconditional", str(models[kind]), 0)
    assert set(content(tmp_path)) == {
        *(f"unconditional_00{i}{end}" for i in (0, 1) for end in (".mid", ".png", "_frames.npz")),
        "unconditional_000_process.gif",
    }
    for index, said in enumerate(document["samples"]):
        assert set(said) == {
            "index",
            "midi",
            "picture",
            "gif",
            "frames",
            "audio",
            "score",
            "notes",
            "steps",
            "nats_per_note",
            "seconds",
        }
        assert (said["index"], said["steps"]) == (index, 24)
        assert len(read_midi(Path(said["midi"])).roll.notes) == said["notes"] > 0
        assert Image.open(said["picture"]).format == "PNG"
    assert document["samples"][1]["gif"] is None
    assert Image.open(document["samples"][0]["gif"]).format == "GIF"
    frames = np.load(document["samples"][0]["frames"], allow_pickle=False)
    assert frames["frames"].shape[1:] == (128, 24)
    assert not frames["frames"][0].any()
    assert frames["labels"][0] == "Init"
    assert len(frames["frames"]) <= 48


def test_the_same_call_gives_the_same_bytes(tmp_path: Path, models: dict[str, Path]) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    for folder in (one, two):
        run_json(*sample(models["ar"], folder, "--gif", "--seed", 5))
    assert content(one) == content(two)
    other = tmp_path / "3"
    run_json(*sample(models["ar"], other, "--seed", 6))
    assert content(other)["unconditional_000.mid"] != content(one)["unconditional_000.mid"]


def test_a_sample_does_not_depend_on_how_many_follow(tmp_path: Path, models: dict[str, Path]) -> None:
    few, many = tmp_path / "few", tmp_path / "many"
    run_json(*sample(models["ar"], few, "--num-samples", 2, "--batch-size", 2))
    run_json(*sample(models["ar"], many, "--num-samples", 3, "--batch-size", 2, "--gif", "--gif-samples", "all"))
    more = content(many)
    assert content(few).items() <= more.items()
    assert sum(name.endswith("_process.gif") for name in more) == 3


def test_options_reach_the_model(tmp_path: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    original = generate.generate

    def spy(model: Any, settings: Any) -> Iterator[Any]:
        seen.append(settings)
        return original(model, settings)

    monkeypatch.setattr(generate, "generate", spy)
    words = ("--num-iter-list", "3 2,2 1", "--temperature", 0.9, "--top-p", "1,1 0.9,0.8", "--tempo", 96, "--seed", 7)
    document = run_json(*sample(models["mar"], tmp_path, *words))
    (settings,) = seen
    assert settings.num_iter_list == (3, 2, 2, 1)
    assert (settings.temperature, settings.top_p, settings.tempo_bpm) == (0.9, (1.0, 1.0, 0.9, 0.8), 96)
    assert (settings.seed, settings.target_width, settings.num_samples) == (7, 24, 1)
    assert read_midi(Path(document["samples"][0]["midi"])).roll.tempo_bpm == pytest.approx(96, abs=0.01)


def test_recording_goes_as_deep_and_as_often_as_asked(tmp_path: Path, models: dict[str, Path]) -> None:
    words = ("--save-frames", "--overwrite")
    run_json(*sample(models["ar"], tmp_path, *words, "--record-every", 1))
    frames = np.load(tmp_path / "unconditional_000_frames.npz", allow_pickle=False)
    assert list(frames["labels"]) == ["Init", *(f"AR L0 patch {i}/6" for i in range(1, 7))]
    run_json(*sample(models["ar"], tmp_path, *words, "--record-levels", "0,1", "--record-every", 1))
    deeper = np.load(tmp_path / "unconditional_000_frames.npz", allow_pickle=False)
    assert {0, 1} <= set(deeper["level"].tolist())


def test_a_run_folder_is_a_checkpoint(tmp_path: Path) -> None:
    save_tiny(tmp_path / "run" / "best.safetensors") if (tmp_path / "run").mkdir() is None else None
    assert run_json(*sample(tmp_path / "run", tmp_path / "out"))["samples"]


def test_nothing_is_overwritten_unasked(tmp_path: Path, models: dict[str, Path]) -> None:
    kept = tmp_path / "unconditional_001.png"
    kept.write_text("mine")
    assert_refused(run(*sample(models["ar"], tmp_path, "--num-samples", 2)), 2, kept, "--overwrite")
    assert content(tmp_path) == {kept.name: b"mine"}
    run_json(*sample(models["ar"], tmp_path, "--num-samples", 2, "--overwrite"))
    assert kept.read_bytes() != b"mine"


def test_streams_are_kept_apart(tmp_path: Path, models: dict[str, Path]) -> None:
    result = run(*sample(models["ar"], tmp_path, "--json"))
    assert json.loads(result.stdout)
    assert "1 of 1 sample done" in result.stderr
    result = run(*sample(models["ar"], tmp_path, "--overwrite"))
    assert str(tmp_path / "unconditional_000.mid") in result.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--target-width", 0), "--target-width"),
        (("--num-samples", 0), "--num-samples"),
        (("--batch-size", 0), "--batch-size"),
        (("--temperature", 0), "--temperature 0: must be above 0"),
        (("--temperature", "nan"), "--temperature"),
        (("--temperature", "inf"), "--temperature inf: must be above 0"),
        (("--temperature", "warm"), "--temperature 'warm': not numbers"),
        (("--top-p", 1.5), "--top-p 1.5: must be above 0 and at most 1"),
        (("--top-p", "1,1,0.9"), "--top-p has 3 numbers; the model has 4 levels"),
        (("--top-p", "1,1,2,1"), "--top-p 2: must be above 0 and at most 1"),
        (("--tempo", 0), "--tempo"),
        (("--fps", 0), "--fps"),
        (("--seed", -1), "--seed"),
        (("--num-iter-list", "twelve"), "--num-iter-list 'twelve'"),
        (("--record-levels", "9"), "no level 9"),
        (("--record-levels", "x"), "--record-levels 'x'"),
        (("--record-every", "0"), "--record-every '0'"),
        (("--scan-order", "diagonal"), "--scan-order"),
        (("--scan-order", "row_major"), "row_major"),
        (("--num-iter-list", "3 2 2 1"), "--num-iter-list"),
        (("--mode", "continuation"), "--mode"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, models: dict[str, Path], words: tuple[object, ...], said: str) -> None:
    assert_refused(run(*sample(models["ar"], tmp_path / "out", *words)), 2, said)
    assert not list((tmp_path / "out").glob("*"))


def test_no_gpu_is_said(tmp_path: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert_refused(run(*sample(models["ar"], tmp_path, "--device", "cuda")), 2, "--device cuda")


def test_a_place_that_cannot_be_written(tmp_path: Path, models: dict[str, Path]) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        assert_refused(run(*sample(models["ar"], folder)), 2, folder, "--output-dir")
    assert content(tmp_path) == {"file": b"x"}


def test_a_disk_that_fills_up_leaves_whole_files_only(tmp_path: Path, models: dict[str, Path]) -> None:
    """A limit on the size of a file stops the writing halfway, as a full disk does."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    words = [str(word) for word in sample(models["ar"], tmp_path, "--gif")]
    done = subprocess.run(
        [PYTHON, "-m", "varcli", *words],
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-2].endswith("unconditional_000.png: the disk is full")
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["unconditional_000.mid"]
    assert read_midi(tmp_path / "unconditional_000.mid").roll.notes


def empty_roll(model: Any, settings: Any) -> Iterator[Any]:
    cells = np.zeros((128, 16), np.uint8)
    yield SampleStarted(0, 1, cells)
    yield SampleDone(0, 1, Roll(cells, Vocabulary()))


def test_a_roll_without_notes_is_written_and_warned_of(
    tmp_path: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mido

    monkeypatch.setattr(generate, "generate", empty_roll)
    result = run(*sample(models["ar"], tmp_path, "--json", "--gif"))
    assert result.exit_code == 0
    assert "warning: " in result.stderr
    assert "no notes" in result.stderr
    assert json.loads(result.stdout)["samples"][0]["notes"] == 0
    file = mido.MidiFile(file=io.BytesIO((tmp_path / "unconditional_000.mid").read_bytes()))
    assert not any(message.type == "note_on" for message in file)
    assert Image.open(tmp_path / "unconditional_000.png").size[0] > 0


def interrupted(model: Any, settings: Any) -> Iterator[Any]:
    yield from empty_roll(model, settings)
    raise KeyboardInterrupt


def test_an_interrupt_keeps_what_is_done(
    tmp_path: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "generate", interrupted)
    result = run(*sample(models["ar"], tmp_path, "--num-samples", 2))
    assert result.exit_code == 130
    assert set(content(tmp_path)) == {"unconditional_000.mid", "unconditional_000.png"}


@pytest.mark.parametrize(
    "entry",
    [entry for entry in registry.entries() if entry.weights and entry.task == "pianoroll"],
    ids=lambda entry: entry.name,
)
def test_shipped_weights_sample(tmp_path: Path, entry: registry.Entry) -> None:
    said = run_json(*sample(Path(entry.name), tmp_path, "--target-width", 32))["samples"][0]
    assert said["notes"] > 0
