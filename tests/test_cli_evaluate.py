"""`var evaluate likelihood`: its figures, its surprise maps, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import tomli
from cli_support import assert_refused, run, run_json, save_corpus, save_midi, save_tiny, tiny_config, tiny_toml
from PIL import Image

from varcli.config import config_from_json
from varcli.pianoroll.figures.surprise import draw_surprise
from varcli.pianoroll.model.fractal import FractalModel

KEYS = {
    "checkpoint",
    "data",
    "split",
    "passes",
    "order",
    "nats_per_frame",
    "nats_per_frame_from_2",
    "frames",
    "bits_per_level",
    "exact",
    "pieces",
    "skipped",
    "impossible",
    "constraints",
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    kinds = {"ar": tiny_config(), "mar": tiny_config("mar"), "binary": tiny_config(binary=True)}
    return {kind: save_tiny(folder / f"{kind}.safetensors", FractalModel(config)) for kind, config in kinds.items()}


def likelihood(*args: object) -> tuple[object, ...]:
    return ("evaluate", "likelihood", *args, "--device", "cpu")


def test_figures_of_an_autoregressive_model(tmp_path: Path, models: dict[str, Path]) -> None:
    corpus = save_corpus(tmp_path / "midi")
    document = run_json(*likelihood(models["ar"], corpus))
    assert set(document) == KEYS
    assert (document["split"], document["exact"], document["skipped"]) == ("test", True, [])
    pieces = document["pieces"]
    assert {Path(piece["name"]).stem for piece in pieces} == {"000", "010"}
    assert document["frames"] == sum(piece["frames"] for piece in pieces) == 32 + 52
    mean = sum(piece["nats_per_frame"] * piece["frames"] for piece in pieces) / document["frames"]
    assert document["nats_per_frame"] == pytest.approx(mean, rel=1e-5)
    assert sum(document["bits_per_level"].values()) > 0


def test_a_masked_model_is_not_called_exact(tmp_path: Path, models: dict[str, Path]) -> None:
    document = run_json(*likelihood(models["mar"], save_corpus(tmp_path / "midi"), "--split", "valid", "--passes", 2))
    assert (document["exact"], document["nats_per_frame_from_2"], document["passes"]) == (False, None, 2)
    assert [Path(piece["name"]).stem for piece in document["pieces"]] == ["001", "011"]


def test_without_attention_a_masked_model_is_exact_in_the_order_of_time(
    tmp_path: Path, models: dict[str, Path]
) -> None:
    config = config_from_json(tomli.loads(tiny_toml("mar").replace('kind = "mar"', 'kind = "mar"\nnetwork = "mlp"')))
    plain = save_tiny(tmp_path / "plain.safetensors", FractalModel(config))
    corpus = save_corpus(tmp_path / "midi")
    document = run_json(*likelihood(plain, corpus, "--split", "valid", "--order", "time"))
    assert (document["exact"], document["order"]) == (True, "time")
    assert not run_json(*likelihood(plain, corpus, "--split", "valid"))["exact"]
    assert_refused(run(*likelihood(models["mar"], corpus, "--split", "valid", "--order", "time")), 2, "attention")


def test_a_benchmark_array(tmp_path: Path, models: dict[str, Path]) -> None:
    rolls = {f"test_{index}": np.random.default_rng(index).random((20, 88)) < 0.05 for index in range(3)}
    path = tmp_path / "noise.npz"
    np.savez(path, **{name: roll.astype(np.uint8) for name, roll in rolls.items()})  # pyright: ignore[reportArgumentType]
    document = run_json(*likelihood(models["binary"], path))
    assert document["frames"] == 60
    assert_refused(run(*likelihood(models["ar"], path)), 2, "binary")


def test_surprise_maps(tmp_path: Path, models: dict[str, Path]) -> None:
    corpus, folder = save_corpus(tmp_path / "midi"), tmp_path / "maps"
    words = likelihood(models["ar"], corpus, "--surprise-map", folder)
    document = run_json(*words)
    maps = [Path(piece["surprise_map"]) for piece in document["pieces"]]
    assert sorted(maps) == sorted(folder.iterdir())
    assert all(Image.open(path).format == "PNG" for path in maps)
    assert_refused(run(*words), 2, "exists", "--overwrite")
    assert run(*words, "--overwrite").exit_code == 0


def test_a_surprising_cell_is_bright_and_a_silent_one_is_dark() -> None:
    nats = np.full((128, 32), 0.01, np.float32)
    nats[60, 8] = 1.0
    little = np.asarray(draw_surprise(nats)).astype(int)
    nats[60, 8] = 8.0
    much = np.asarray(draw_surprise(nats)).astype(int)
    changed = np.abs(much - little)[60:].sum(2) > 60
    rows, columns = np.nonzero(changed)
    assert 0 < rows.max() - rows.min() < much.shape[0] / 10
    assert 0 < columns.max() - columns.min() < much.shape[1] / 20
    assert much[60:][changed].mean() > little[60:][changed].mean() + 50


def test_files_that_cannot_be_read_are_named_and_left_out(tmp_path: Path, models: dict[str, Path]) -> None:
    corpus = save_corpus(tmp_path / "midi")
    (corpus / "020.mid").write_bytes(b"MThd but no more")
    result = run(*likelihood(models["ar"], corpus))
    assert result.exit_code == 0
    assert "warning: 020.mid is left out" in result.stderr
    document = run_json(*likelihood(models["ar"], corpus))
    assert [name for name, _ in document["skipped"]] == ["020.mid"]


def test_what_it_refuses(tmp_path: Path, models: dict[str, Path]) -> None:
    corpus = save_corpus(tmp_path / "midi", count=1)
    assert_refused(run(*likelihood(models["ar"], tmp_path / "none")), 2, tmp_path / "none")
    assert_refused(run(*likelihood("nope", corpus)), 2, "nope")
    assert_refused(run(*likelihood(models["ar"], corpus, "--passes", 0)), 2, "--passes")
    result = run(*likelihood(models["ar"], corpus, "--split", "valid"))
    assert result.exit_code == 2
    assert "no pieces in the split 'valid'" in result.stderr
    (tmp_path / "file").write_text("x")
    assert_refused(run(*likelihood(models["ar"], corpus, "--surprise-map", tmp_path / "file")), 2, tmp_path / "file")


@pytest.mark.parametrize("kind", ["ar", "mar"])
def test_constraints_leave_more_probability_to_what_keeps_to_them(
    tmp_path: Path, models: dict[str, Path], kind: str
) -> None:
    corpus = save_corpus(tmp_path / "midi")
    words = likelihood(models[kind], corpus, "--passes", 2)
    free = run_json(*words)
    limited = run_json(*words, "--scale", "C:major", "--pitch-range", "60:72")
    assert limited["constraints"] == {"scale": "C:major", "pitch_range": "60:72", "max_polyphony": None}
    assert limited["nats_per_frame"] < free["nats_per_frame"]
    assert (limited["exact"], limited["impossible"]) == (kind == "ar", [])
    one = run_json(*words, "--scale", "C:major", "--pitch-range", "60:72", "--max-polyphony", 1)
    assert one["nats_per_frame"] < limited["nats_per_frame"]
    assert sum(one["bits_per_level"].values()) * np.log(2) == pytest.approx(one["nats_per_frame"])


def test_a_limit_on_polyphony_that_never_binds_costs_the_same(tmp_path: Path, models: dict[str, Path]) -> None:
    words = likelihood(models["ar"], save_corpus(tmp_path / "midi"))
    free, followed = run_json(*words), run_json(*words, "--max-polyphony", 128)
    assert followed["nats_per_frame"] == pytest.approx(free["nats_per_frame"], rel=1e-4)
    for level, bits in free["bits_per_level"].items():
        assert followed["bits_per_level"][level] == pytest.approx(bits, rel=1e-3)


def test_pieces_that_break_a_constraint_are_left_out_and_named(tmp_path: Path, models: dict[str, Path]) -> None:
    corpus = save_corpus(tmp_path / "midi")
    save_midi(corpus / "020.mid", 10)  # only the first five notes of the scale
    result = run(*likelihood(models["ar"], corpus, "--pitch-range", "60:67", "--json"))
    document = json.loads(result.stdout)
    assert [Path(piece["name"]).stem for piece in document["pieces"]] == ["020"]
    assert {Path(name).stem: reason for name, reason in document["impossible"]} == {
        "000": "pitch 69 at step 10 sounds where nothing may",
        "010": "pitch 69 at step 10 sounds where nothing may",
    }
    assert "000.mid is left out: pitch 69" in result.stderr
    assert_refused(run(*likelihood(models["ar"], corpus, "--pitch-range", "60:61", "--json")), 1, "none of 3 pieces")
    assert_refused(run(*likelihood(models["ar"], corpus, "--scale", "X:major")), 2, "no tonic")
