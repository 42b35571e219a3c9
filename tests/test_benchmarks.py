"""The benchmarks run and say what they measured; how fast or good a model is, is no matter of tests."""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from cli_support import save_corpus, save_tiny
from roll_support import notes_to_cells

from varcli.checkpoint import read_header
from varcli.errors import UsageError, VarError
from varcli.pianoroll.config import ModelConfig
from varcli.pianoroll.corpus.arrays import read_npz
from varcli.pianoroll.roll import Note, Vocabulary

FOLDER = Path(__file__).parent.parent / "benchmarks"
QUICK = ["--steps", "16"]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    """A benchmark as a module, found as its own folder finds it."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return import_module(request.param)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("model") / "tiny.safetensors"))


@pytest.mark.parametrize(
    ("benchmark", "columns"),
    [("recording", 4), ("sampling", 6)],
    indirect=["benchmark"],
)
def test_speed_is_a_table(
    benchmark: ModuleType, columns: int, checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark.main(["--checkpoint", checkpoint, "--repeats", "2", *QUICK])
    head, rule, row, *rest = capsys.readouterr().out.splitlines()
    assert len({len(line) for line in (head, rule, row)}) == 1
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == columns and cells[0] == checkpoint
    assert float(cells[-1]) > 0
    assert "16 steps" in rest[-1]


@pytest.mark.parametrize("benchmark", ["music"], indirect=True)
def test_music_is_compared_with_held_out_windows(
    benchmark: ModuleType,
    checkpoint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    options = ["--checkpoint", checkpoint, "--data", str(save_corpus(tmp_path / "midi")), "--samples", "3", *QUICK]
    benchmark.main([*options, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert (document["samples"], document["steps"], document["windows"]) == (3, 16, 5)
    assert len(document["statistics"]) == 6
    for one in document["statistics"].values():
        assert one["low"] <= one["median_held_out"] <= one["high"] and 0 <= one["inside"] <= 1
    assert 0 <= document["empty"] <= 1 and 0 <= document["walls"] <= 1
    music = document["music"]
    assert music["windows"] == {"generated": 3, "reference": 5}
    assert 0 <= music["mean_overlap"] <= 1 and music["copies"]["all_voices"]["generated"]["windows"] == 3
    page = tmp_path / "pages" / "page.png"
    benchmark.main([*options, "--split", "valid", "--top-p", "1,1,0.9,1", "--report", str(page)])
    shown = capsys.readouterr().out
    assert all(name in shown for name in document["statistics"]) and "shared, top line" in shown
    assert "valid pieces" in shown
    assert page.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="top_p has 2 numbers; the model has 4 levels"):
        benchmark.main([*options, "--top-p", "1,0.9"])
    with pytest.raises(UsageError, match="no test piece is 4096 steps long"):
        benchmark.main([*options[:-2], "--steps", "4096"])


@pytest.mark.parametrize("benchmark", ["sampling_defaults"], indirect=True)
def test_a_trained_file_gets_the_sampling_defaults_of_a_config(benchmark: ModuleType, tmp_path: Path) -> None:
    path, config = save_tiny(tmp_path / "tiny.safetensors"), tmp_path / "config.toml"
    before = read_header(path)
    config.write_text("[sample]\ntop_p = [1, 1, 0.9, 1]")
    benchmark.main([str(path), str(config)])
    after = read_header(path)
    assert after.config["sample"] == before.config["sample"] | {"top_p": [1.0, 1.0, 0.9, 1.0]}
    assert replace(after, config=before.config) == before
    config.write_text("[[model.levels]]\nshape = '1x1'\n[[model.levels]]\n[sample]\ntop_p = [1, 0.9]")
    with pytest.raises(VarError, match="top_p has 2 numbers for 4 levels"):
        benchmark.main([str(path), str(config)])
    assert read_header(path) == after


@pytest.mark.parametrize("benchmark", ["music"], indirect=True)
def test_samples_like_the_data_are_inside_and_silence_is_not(benchmark: ModuleType) -> None:
    steps = 64
    tune = [Note(60 + n % 5, step, 2, 40 + 5 * n) for n, step in enumerate(range(0, steps, 4))]
    octaves = [[replace(note, pitch=note.pitch + up) for note in tune] for up in (-12, 0, 12)]
    canvases = [notes_to_cells(notes, steps, Vocabulary())[0] for notes in octaves]
    silence = np.zeros_like(canvases[0])
    found = benchmark.compare([*canvases, silence], canvases, ModelConfig())
    assert {one.inside for one in found.values()} == {0.75}
    assert all(one.low <= one.median_held_out <= one.high for one in found.values())


@pytest.mark.parametrize("benchmark", ["chords_told"], indirect=True)
def test_tones_of_the_chord_are_counted_on_the_beat(benchmark: ModuleType) -> None:
    notes = [Note(pitch, 0, 8, 64) for pitch in (48, 60, 64, 67)] + [Note(61, 8, 4, 64), Note(62, 10, 2, 64)]
    cells = notes_to_cells(notes, 32, Vocabulary())[0]
    names = benchmark.chords_in(cells, 16)
    assert names == ["C:maj", "N"]
    assert benchmark.on_the_beat(cells, Vocabulary(), names, 16, 4) == (4, 5)


@pytest.mark.parametrize("benchmark", ["own_samples"], indirect=True)
def test_own_samples_and_held_out_windows_are_priced_alike(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("support"), "STEPS", 16)
    path, data = save_tiny(tmp_path / "tiny.safetensors"), save_corpus(tmp_path / "songs")
    benchmark.main(["--data", str(data), "--checkpoint", str(path), "--windows", "3"])
    said = json.loads(capsys.readouterr().out)
    own, held_out = said["own"]["nats_per_frame"], said["held out"]["nats_per_frame"]
    assert said["difference"]["nats_per_frame"] == pytest.approx(own - held_out)
    assert min(own, held_out, said["difference"]["standard_error"]) > 0


@pytest.mark.parametrize("benchmark", ["support"], indirect=True)
def test_what_a_user_can_mend_is_two_lines(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise UsageError("no model there", "choose another")

    with pytest.raises(SystemExit) as stopped:
        benchmark.run(main)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: no model there\nhint: choose another\n"


@pytest.fixture
def chorales_16th(tmp_path: Path) -> Path:
    """Two pieces of four voices as the published file holds them: pickled, soprano first, NaN for a rest."""
    piece = np.array([[60, 57, 52, 36], [64, 57, 52, np.nan], [81, 74, 69, 66]], np.float16)
    pickled = np.empty(1, object)
    pickled[0] = piece
    path = tmp_path / "pickled.npz"
    np.savez(path, train=pickled, valid=pickled, test=pickled)
    return path


@pytest.mark.parametrize("benchmark", ["chorales_16th"], indirect=True)
def test_chorales_at_sixteenths_keep_every_voice_in_its_rows(
    benchmark: ModuleType, chorales_16th: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "canvases.npz"
    monkeypatch.setattr("sys.argv", ["chorales_16th.py", str(chorales_16th), str(target), "--transpose", "2"])
    benchmark.main()
    pieces = {name: (split, canvas) for name, split, canvas in read_npz(target)}
    # The first bass is at the lowest of its rows and the last near the highest: this piece can move up by one alone.
    assert {name: split for name, (split, _) in pieces.items()} == {
        "train_000": "train",
        "train_000_+1": "train",
        "valid_000": "valid",
        "test_000": "test",
    }
    canvas = pieces["test_000"][1]
    rows = [[0, 40, 69, 96], [40, 69, 100], [30, 57, 86, 117]]
    assert [list(np.flatnonzero(column)) for column in canvas.T] == rows
    assert (canvas == pieces["train_000"][1]).all()
    moved = [list(np.flatnonzero(column) - 1) for column in pieces["train_000_+1"][1].T]
    assert moved == rows


@pytest.mark.parametrize("benchmark", ["chorales_16th"], indirect=True)
@pytest.mark.parametrize("piece", [np.full((2, 4), 35.0), np.full((2, 3), 60.0), np.full((2, 4), 60.5)])
def test_chorales_at_sixteenths_that_are_not_four_voices_are_refused(benchmark: ModuleType, piece: np.ndarray) -> None:
    with pytest.raises(UsageError):
        benchmark.rows_of(piece)
