"""`var train`: what a run leaves, what it refuses, and that resuming changes nothing."""

import json
from pathlib import Path

import pytest
from cli_support import assert_refused, run, run_json, save_corpus, tiny_toml

from varcli.checkpoint import read_header
from varcli.cli.train import RUN_FILES
from varcli.config import load_config


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(tiny_toml())
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return save_corpus(tmp_path / "midi")


def test_a_run_leaves_its_files(tmp_path: Path, config: Path, corpus: Path) -> None:
    out = tmp_path / "run"
    document = run_json(
        "train", config, "--data", corpus, "--output-dir", out, "--set", "train.seed=5", "--device", "cpu"
    )
    assert {path.name for path in out.iterdir()} == set(RUN_FILES)
    assert set(document) == {"run", "best", "last", "step", "steps", "nats_per_frame", "seconds"}
    assert (document["step"], document["steps"]) == (4, 4)
    resolved = load_config(out / "config.toml")
    assert resolved == load_config(config, ["train.seed=5"])
    header = read_header(out / "best.safetensors")
    assert header.config == resolved.model_dump(mode="json")
    assert header.seed == 5
    assert str(tmp_path) not in json.dumps(header.config)
    events = [json.loads(line)["event"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert events.count("TrainStep") == 4
    assert "Validated" in events


def test_stopping_and_resuming_is_running_through(tmp_path: Path, config: Path, corpus: Path) -> None:
    straight, halved = tmp_path / "straight", tmp_path / "halved"
    rest = ("--data", corpus, "--device", "cpu")
    run_json("train", config, *rest, "--output-dir", straight)
    assert run_json("train", config, *rest, "--output-dir", halved, "--max-steps", 2)["step"] == 2
    assert run_json("train", config, *rest, "--output-dir", halved, "--resume")["step"] == 4
    assert (straight / "last.safetensors").read_bytes() == (halved / "last.safetensors").read_bytes()


def test_a_run_is_not_overwritten_unasked(tmp_path: Path, config: Path, corpus: Path) -> None:
    out = tmp_path / "run"
    command = ("train", config, "--data", corpus, "--output-dir", out, "--max-steps", 1, "--device", "cpu")
    run_json(*command)
    before = (out / "last.safetensors").read_bytes()
    assert_refused(run(*command), 2, "exists", "--resume goes on, --overwrite starts anew")
    assert (out / "last.safetensors").read_bytes() == before
    assert run_json(*command, "--overwrite")["step"] == 1
    assert_refused(run(*command, "--resume", "--overwrite"), 2, "exclude each other")


def test_resuming_needs_the_same_run(tmp_path: Path, config: Path, corpus: Path) -> None:
    out = tmp_path / "run"
    command = ("train", config, "--data", corpus, "--output-dir", out, "--device", "cpu")
    assert_refused(run(*command, "--resume"), 2, "no run to resume")
    run_json(*command, "--max-steps", 1)
    assert_refused(run(*command, "--resume", "--set", "train.learning_rate=0.5"), 2, "config differs")


def test_a_dry_run_writes_nothing(tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    document = run_json("train", config, "--dry-run")
    assert document["steps"] == 4
    assert document["parameters"] == sum(document["parameters_per_level"].values()) > 0
    assert set(tmp_path.rglob("*")) == before


def test_what_is_wrong_is_said_before_any_work(tmp_path: Path, config: Path, corpus: Path) -> None:
    out = tmp_path / "run"
    rest = ("--output-dir", out)
    assert_refused(run("train", config, *rest), 2, "--data")
    assert_refused(run("train", config, *rest, "--data", tmp_path / "none"), 2, "none")
    assert_refused(run("train", "fractal-arr", *rest), 2, "did you mean fractal-ar?")
    assert_refused(run("train", config, *rest, "--set", "train.stesp=3"), 2, "did you mean train.steps?")
    assert_refused(
        run("train", config, *rest, "--set", "model.levels.0.width=0"), 2, "model.levels.0.width", "at least 8"
    )
    assert_refused(run("train", config, *rest, "--data", corpus, "--max-steps", 0), 2, "--max-steps")
    config.write_text(config.read_text() + "\n[modle]\nwidth = 3\n")
    assert_refused(run("train", config, *rest, "--data", corpus), 2, config, "did you mean model?")
    assert not out.exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path, config: Path, corpus: Path) -> None:
    (tmp_path / "file").write_text("x")
    result = run("train", config, "--data", corpus, "--output-dir", tmp_path / "file" / "run")
    assert_refused(result, 2, tmp_path / "file", "--output-dir")


def test_progress_is_on_stderr(tmp_path: Path, config: Path, corpus: Path) -> None:
    result = run("train", config, "--data", corpus, "--output-dir", tmp_path / "run", "--device", "cpu")
    assert "step 4/4" in result.stderr
    assert result.stdout.startswith("run ")
