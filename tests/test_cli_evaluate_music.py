"""`var evaluate music`: its figures, its page, and what it refuses."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cli_support import assert_refused, run, run_json, save_midi
from music_support import V, melody
from PIL import Image

from varcli.pianoroll.evaluation import two_sample
from varcli.pianoroll.evaluation.features import FAMILIES
from varcli.pianoroll.roll import Roll
from varcli.pianoroll.score.midi import write_midi

KEYS = {
    *("generated", "reference", "split", "train_data", "window_steps", "steps_per_beat", "beats_per_bar"),
    *("velocity_bins", "seed", "resamples", "windows", "pieces", "silent", "mean_overlap", "mean_overlap_interval"),
    *("mean_overlap_real", "lowest_overlap", "lowest_metric", "mean_overlap_all", "real_windows", "metrics"),
    *("mean_overlap_all_real", "copies", "report", "skipped"),
    *("samples", "two_sample", "form"),
}
QUICK = ("--window-steps", 64, "--resamples", 20)


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def save(folder: Path, numbers: range, steps: int = 128) -> Path:
    """Random melodies under their numbers, as MIDI."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        write_midi(Roll(melody(number, steps), V), folder / f"{number:03d}.mid")
    return folder


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty songs: numbers that end in 0 are for tests, those in 1 for validation."""
    return save(tmp_path_factory.mktemp("data") / "songs", range(40))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("data") / "made", range(100, 106), 64)


def music(*args: object) -> tuple[object, ...]:
    return ("evaluate", "music", *QUICK, *args)


def test_figures(songs: Path, made: Path) -> None:
    document = run_json(*music(made, songs))
    assert set(document) == KEYS
    assert document["form"]["lags"] == list(range(1, 64))
    for side in ("generated", "reference"):
        form = document["form"][side]
        assert set(form) == {"pieces", "bars", "best", "at_lag", "recall", "recall_interval", "returns"}
        assert [value is not None for value in form["at_lag"]] == [True] * 3 + [False] * 60
        assert form["recall"] is None and form["bars"] == 4 * form["pieces"]
    assert (document["split"], document["window_steps"], document["seed"]) == ("test", 64, 0)
    assert document["windows"] == {"generated": 6, "reference": 8}
    assert document["pieces"] == {"generated": 6, "reference": 4}
    assert document["train_data"] == str(songs)
    low, high = document["mean_overlap_interval"]
    assert 0.4 < low < document["mean_overlap"] < high <= 1
    assert 0 < document["lowest_overlap"] < document["mean_overlap"]
    copies = document["copies"]["all_voices"]
    assert copies["generated"]["windows"] == 6 and copies["held_out"]["windows"] == 8
    assert copies["generated"]["steps"] < 30
    assert int(Path(copies["generated"]["found_in"]).stem) % 10 > 1
    assert document == run_json(*music(made, songs))


def test_lines_for_people(songs: Path, made: Path) -> None:
    result = run(*music(made, songs))
    assert result.exit_code == 0
    document = run_json(*music(made, songs))
    head, *lines = result.stdout.splitlines()
    assert head.split() == ["metric", "overlap", "95%", "real", "generated", "reference"]
    for metric in document["metrics"].values():
        (line,) = (line for line in lines if line.startswith(f"{metric['label']}  "))
        assert f"{metric['overlap']:.2f}" in line
    assert any(line.startswith("mean of the first 9") and f"{document['mean_overlap']:.2f}" in line for line in lines)
    assert any("6 generated, 8 of 4 real pieces" in line for line in lines)
    assert any(line.startswith("shared, top line") and " = " in line for line in lines)
    assert "metrics 19/19" in result.stderr


def test_a_classifier_of_ten_pieces_and_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_sample, "_TREES", 10)
    monkeypatch.setattr(two_sample, "_REPEATS", 1)
    songs, made = save(tmp_path / "songs", range(0, 120, 10)), save(tmp_path / "made", range(200, 212), 64)
    found = run_json(*music(made, songs))["two_sample"]
    assert found["pieces"] == {"generated": 12, "reference": 12}
    assert found["windows"]["generated"] == 12 < found["windows"]["reference"]
    assert list(found["families"]) == list(FAMILIES)
    for one in (found["forest"], found["logistic"], *found["families"].values()):
        assert one["interval"][0] < one["auc"] < one["interval"][1]
    told = [one["auc"] for one in found["features"].values()]
    assert told == sorted(told, reverse=True) and told[-1] >= 0.5
    assert {one["direction"] for one in found["features"].values()} == {"higher", "lower"}
    assert sum(one["features"] for one in found["families"].values()) == len(told) > 80
    result = run(*music(made, songs, "--samples", 10))
    assert "10 generated, 24 of 12 real pieces" in result.stdout
    lines = result.stdout.splitlines()
    assert sum(line.split(" ")[0].rstrip(":") in FAMILIES for line in lines) == 10
    assert "metrics 29/29" not in result.stderr  # no training pieces, so no copies
    page = tmp_path / "page.png"
    assert run(*music(made, songs, "--report", page)).exit_code == 0 and page.stat().st_size > 10_000
    few = run(*music(made, songs, "--samples", 9))
    assert few.exit_code == 0 and "too few pieces for a classifier: it takes ten of either side" in few.stdout
    assert run_json(*music(made, songs, "--samples", 9))["two_sample"] is None
    assert_refused(run(*music(made, songs, "--samples", 0)), 2, "--samples")


def test_splits_and_where_the_training_pieces_are(songs: Path, made: Path, tmp_path: Path) -> None:
    assert run_json(*music(made, songs, "--split", "valid"))["pieces"]["reference"] == 4
    everything = run_json(*music(made, songs, "--split", "all"))
    assert everything["pieces"]["reference"] == 40
    assert everything["copies"]["all_voices"]["held_out"]["windows"] == 16
    # A model that was trained on the very pieces that it is said to have made.
    copied = run_json(*music(made, songs, "--train-data", save(tmp_path / "train", range(103, 104), 64)))
    assert copied["train_data"] == str(tmp_path / "train")
    run_of_all = copied["copies"]["top_line"]["generated"]
    assert run_of_all["steps"] > 50 and run_of_all["piece"] == run_of_all["found_in"] == "103.mid"
    assert run_of_all["steps"] > 2 * copied["copies"]["top_line"]["held_out"]["steps"]


def test_a_single_file_and_a_velocity_grid(songs: Path, made: Path) -> None:
    document = run_json(*music(made / "100.mid", songs, "--velocity-bins", 4, "--seed", 3))
    assert document["windows"]["generated"] == 1
    assert (document["velocity_bins"], document["seed"]) == (4, 3)
    assert len(document["metrics"]["velocities"]["classes"]) == 4
    coarse = run_json(*music(made, songs, "--steps-per-beat", 2, "--beats-per-bar", 3, "--window-steps", 32))
    assert coarse["metrics"]["durations"]["classes"][-1] == 2 * 6 + 1
    assert coarse["metrics"]["note_density"]["reference"]["mean"] != pytest.approx(
        document["metrics"]["note_density"]["reference"]["mean"], rel=0.1
    )


def test_binary_arrays(tmp_path: Path, made: Path) -> None:
    rolls = {f"{split}_{n}": (melody(n)[21:109].T > 0) for n, split in enumerate(["test"] * 5 + ["train"] * 3)}
    path = tmp_path / "rolls.npz"
    np.savez(path, **rolls)  # pyright: ignore[reportArgumentType]
    document = run_json(*music(made, path))
    assert document["velocity_bins"] is None
    assert not any("velocit" in name for name in document["metrics"])
    assert document["pieces"]["reference"] == 5
    assert document["copies"]["all_voices"]["generated"]["steps"] > 0


def test_the_page(tmp_path: Path, songs: Path, made: Path) -> None:
    page = tmp_path / "pages" / "page.png"
    document = run_json(*music(made, songs, "--report", page))
    assert document["report"] == str(page)
    with Image.open(page) as dark:
        assert dark.format == "PNG"
        assert dark.getpixel((2, 2)) == (18, 20, 28)
    words = music(made, songs, "--report", page, "--background", "white")
    assert_refused(run(*words), 2, page, "exists", "--overwrite")
    assert run(*words, "--overwrite").exit_code == 0
    with Image.open(page) as light:
        assert light.getpixel((2, 2)) == (255, 255, 255)


def test_files_that_cannot_be_read_and_windows_that_are_short(tmp_path: Path, songs: Path, made: Path) -> None:
    folder = save(tmp_path / "made", range(100, 103), 32)
    (folder / "103.mid").write_bytes(b"MThd but no more")
    result = run(*music(folder, songs))
    assert result.exit_code == 0
    assert "warning: 103.mid is left out" in result.stderr
    assert "--window-steps 32" in result.stderr
    assert run_json(*music(folder, songs))["skipped"]["generated"][0][0] == "103.mid"
    assert "--window-steps" not in run(*music(made, songs)).stderr


def test_without_training_pieces_there_are_no_copies(tmp_path: Path, made: Path) -> None:
    tests = save(tmp_path / "tests", range(0, 50, 10))
    result = run(*music(made, tests))
    assert result.exit_code == 0 and "copies are not looked for" in result.stderr
    document = run_json(*music(made, tests))
    assert document["copies"] is None and document["train_data"] is None
    assert_refused(run(*music(made, tests, "--train-data", tests)), 2, "no pieces in the split 'train'")


def test_what_it_refuses(tmp_path: Path, songs: Path, made: Path) -> None:
    empty, text = tmp_path / "empty", tmp_path / "a.mid"
    empty.mkdir()
    text.write_bytes(b"not music")
    single = save_midi(tmp_path / "10.mid")
    none = tmp_path / "none"
    for paths in ((none, songs), (made, none), (made, songs, "--train-data", none)):
        assert_refused(run(*music(*paths)), 2, none)
    assert_refused(run(*music(empty, songs)), 1, empty, "no MIDI files")
    assert_refused(run(*music(made, empty)), 1, empty, "no MIDI files")
    assert_refused(run(*music(text, songs)), 1, text)
    assert_refused(run(*music(made, single)), 2, single, "not a corpus")
    assert_refused(run(*music(made, songs, "--window-steps", 512)), 2, "512")
    training_only = save(tmp_path / "training", range(2, 4))
    assert_refused(run(*music(made, training_only)), 2, "no pieces in the split 'test'")
    assert_refused(run(*music(made, songs, "--report", tmp_path / "page.pdf")), 2, "PNG")
    assert_refused(run(*music(made, songs, "--report", tmp_path / "p.png", "--background", "nocolour")), 2, "nocolour")
    assert_refused(run("evaluate", "music", made, songs, "--window-steps", 3), 2, "--window-steps")
    assert not (tmp_path / "p.png").exists()


def test_torch_is_not_needed(songs: Path, made: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from varcli.cli.app import main; main()"
    words = [str(word) for word in music(made, songs, "--json")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("{")
