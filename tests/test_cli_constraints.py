"""`var sample` from prompts and under constraints: what is kept, what is said, and what is refused."""

from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
from cli_support import assert_refused, run, run_json, save_midi, save_tiny, tiny_config
from PIL import Image

from varcli.animation.frames import load_frames
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.roll import Roll, Vocabulary
from varcli.pianoroll.sampling.prompt import fit
from varcli.pianoroll.score.midi import read_midi, write_midi

BINS = 2  # of the tiny models


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    found = {"plain": save_tiny(folder / "plain.safetensors")}
    for kind in ("ar", "mar"):
        config = tiny_config(kind)
        config = config.model_copy(update={"model": config.model.model_copy(update={"conditioning": True})})
        found[kind] = save_tiny(folder / f"{kind}.safetensors", FractalModel(config))
    return found


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scale in eighth notes, 32 steps long, on a track called Piano, at 96 bpm, with a bass below it."""
    folder = tmp_path_factory.mktemp("songs")
    scale = read_midi(save_midi(folder / "scale.mid")).roll
    cells = scale.cells.copy()
    cells[48, 0], cells[48, 1:24] = 10, 1
    bass = np.zeros(cells.shape, bool)
    bass[48] = True
    roll = Roll(cells, Vocabulary(), tempo_bpm=96)
    write_midi(roll, folder / "song.mid", tracks={"Melody": ~bass, "Bass": bass})
    return folder / "song.mid"


def sample(model: Path, folder: Path, mode: str, *args: object) -> tuple[object, ...]:
    """The words of a `var sample` on the CPU."""
    return ("sample", "--mode", mode, "--checkpoint", model, "--device", "cpu", "--output-dir", folder, *args)


def cells_of(path: str | Path, steps: int) -> np.ndarray:
    """A MIDI file on the grid of the tiny models, u8 [128, steps]."""
    return fit(read_midi(Path(path), vocabulary=Vocabulary(BINS)).roll.cells, steps)


def kept_in(document: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """What the recording of the first sample says was kept, bool [P, T], and the cells it ended with, u8 [P, T]."""
    recording = load_frames(document["samples"][0]["frames"])
    assert recording.kept is not None
    return recording.kept, recording.frames[-1]


@pytest.mark.parametrize("kind", ["ar", "mar"])
def test_a_continuation_begins_with_the_prompt(tmp_path: Path, models: dict[str, Path], song: Path, kind: str) -> None:
    words = ("--prompt", song, "--prompt-steps", 12, "--target-width", 24, "--save-frames", "--num-samples", 2)
    document = run_json(*sample(models[kind], tmp_path, "continuation", *words))
    assert (document["mode"], document["prompt"]) == ("continuation", str(song))
    assert (document["kept_cells"], document["written_cells"]) == (128 * 12, 128 * 12)
    assert document["tempo"] == pytest.approx(96, abs=0.01)
    for said in document["samples"]:
        written = cells_of(said["midi"], 24)
        assert np.array_equal(written[:, :12], cells_of(song, 32)[:, :12])
        assert said["steps"] == 24
        assert read_midi(Path(said["midi"])).roll.tempo_bpm == pytest.approx(96, abs=0.01)
        names = [track.name for track in mido.MidiFile(said["midi"]).tracks]
        assert names[1:] == ["Melody", "Bass", "New voices"]
    kept, _ = kept_in(document)
    assert kept[:, :12].all() and not kept[:, 12:].any()
    assert cells_of(document["samples"][0]["midi"], 24)[:, 12:].any()


@pytest.mark.parametrize("kind", ["ar", "mar"])
def test_inpainting_changes_the_regions_only(tmp_path: Path, models: dict[str, Path], song: Path, kind: str) -> None:
    words = ("--prompt", song, "--region", "8:12", "--region", "20:24,60:127", "--save-frames", "--tempo", 80)
    document = run_json(*sample(models[kind], tmp_path, "inpainting", *words))
    free = np.zeros((128, 32), bool)
    free[:, 8:12] = free[60:, 20:24] = True
    kept, last = kept_in(document)
    assert np.array_equal(kept, ~free)
    assert document["tempo"] == 80
    before, after = cells_of(song, 32), cells_of(document["samples"][0]["midi"], 32)
    assert np.array_equal((last > 0)[kept], (before > 0)[kept])
    assert np.array_equal(after[~free], before[~free])
    longer = run_json(*sample(models[kind], tmp_path, "inpainting", *words[:4], "--target-width", 40, "--overwrite"))
    assert longer["samples"][0]["steps"] == 40
    assert not cells_of(longer["samples"][0]["midi"], 40)[:, 32:].any()


@pytest.mark.parametrize("kind", ["ar", "mar"])
@pytest.mark.parametrize(("words", "name"), [(("--keep-track", "melody"), "melody"), ((), "Top voice")])
def test_harmonising_keeps_the_voice_on_a_track_of_its_own(
    tmp_path: Path, models: dict[str, Path], song: Path, kind: str, words: tuple[str, ...], name: str
) -> None:
    document = run_json(*sample(models[kind], tmp_path, "harmonise", "--prompt", song, *words))
    (said,) = document["samples"]
    assert said["steps"] == 32
    tracks = {track.name: track for track in mido.MidiFile(said["midi"]).tracks}
    assert list(tracks)[1:] == [name, "New voices"]
    melody = mido.MidiFile(song).tracks[1]
    assert [m.note for m in tracks[name] if m.type == "note_on"] == [m.note for m in melody if m.type == "note_on"]
    times = [[m.time for m in track if m.type.startswith("note")] for track in (tracks[name], melody)]
    assert times[0] == times[1]
    assert any(m.type == "note_on" for m in tracks["New voices"])


@pytest.mark.parametrize("kind", ["ar", "mar"])
def test_constraints_hold_and_are_said(tmp_path: Path, models: dict[str, Path], song: Path, kind: str) -> None:
    words = ("--scale", "D:minor_pentatonic", "--pitch-range", "C3:84", "--max-polyphony", 3, "--target-width", 32)
    document = run_json(*sample(models[kind], tmp_path, "unconditional", *words))
    wanted = {"scale": "D:minor_pentatonic", "pitch_range": "C3:84", "max_polyphony": 3}
    assert document["constraints"] == wanted
    assert (document["prompt"], document["kept_cells"]) == (None, 0)
    cells = cells_of(document["samples"][0]["midi"], 32)
    used = np.flatnonzero(cells.any(1))
    assert len(used) and set((used % 12).tolist()) <= {2, 5, 7, 9, 0} and used.min() >= 48 and used.max() <= 84
    assert (cells > 0).sum(0).max() <= 3
    document = run_json(*sample(models[kind], tmp_path, "harmonise", "--prompt", song, *words, "--overwrite"))
    # What is kept may leave the scale, and counts as polyphony.
    cells, voice = cells_of(document["samples"][0]["midi"], 32), cells_of(song, 32)
    assert set((np.flatnonzero((cells > 0)[:, :].any(1)) % 12).tolist()) >= {11, 4}
    new = (cells > 0) & ~(voice > 0)
    assert set((np.flatnonzero(new.any(1)) % 12).tolist()) <= {2, 5, 7, 9, 0}
    assert (cells > 0).sum(0).max() <= 3


def test_plain_models_take_constraints(tmp_path: Path, models: dict[str, Path]) -> None:
    words = ("--pitch-range", "60:61", "--target-width", 16)
    cells = cells_of(run_json(*sample(models["plain"], tmp_path, "unconditional", *words))["samples"][0]["midi"], 16)
    assert set(np.flatnonzero(cells.any(1)).tolist()) <= {60, 61}


def test_pictures_and_animations_tell_what_was_kept(tmp_path: Path, models: dict[str, Path], song: Path) -> None:
    words = ("--prompt", song, "--prompt-steps", 16, "--target-width", 24, "--gif", "--save-frames")
    said = run_json(*sample(models["ar"], tmp_path, "continuation", *words))["samples"][0]
    assert Image.open(said["picture"]).format == "PNG"
    one = run_json("gif", said["frames"], "--output", tmp_path / "one.gif", "--fps", 2)
    assert one["frames"] == Image.open(said["gif"]).n_frames  # pyright: ignore[reportAttributeAccessIssue]
    assert (tmp_path / "one.gif").read_bytes() == Path(said["gif"]).read_bytes()
    # A file of an earlier version has no such array, and is drawn as ever.
    arrays = dict(np.load(said["frames"], allow_pickle=False))
    arrays.pop("kept")
    np.savez(tmp_path / "old.npz", **arrays)
    run_json("gif", tmp_path / "old.npz", "--fps", 2)
    assert (tmp_path / "old.gif").read_bytes() != (tmp_path / "one.gif").read_bytes()
    np.savez(tmp_path / "bad.npz", **arrays, kept=np.zeros((3, 3), bool))
    assert_refused(run("gif", tmp_path / "bad.npz"), 1, "`kept`")


REFUSED: list[tuple[str, tuple[object, ...], str]] = [
    ("continuation", (), "needs a --prompt"),
    ("unconditional", ("--prompt", "SONG"), "--mode unconditional"),
    ("continuation", ("--prompt", "SONG", "--region", "0:4"), "--region is for --mode inpainting"),
    ("harmonise", ("--prompt", "SONG", "--prompt-steps", 4), "--prompt-steps is for --mode continuation"),
    ("inpainting", ("--prompt", "SONG", "--region", "0:4", "--keep-track", "x"), "--keep-track is for"),
    ("inpainting", ("--prompt", "SONG"), "needs a --region"),
    ("inpainting", ("--prompt", "SONG", "--region", "8:8"), "--region 8:8: holds no step"),
    ("inpainting", ("--prompt", "SONG", "--region", "30:40"), "which has 32 steps"),
    ("inpainting", ("--prompt", "SONG", "--region", "0:4,60:200"), "no pitch 200"),
    ("continuation", ("--prompt", "SONG", "--target-width", 32), "--target-width 32"),
    ("continuation", ("--prompt", "SONG", "--prompt-steps", 33), "the prompt has 32 steps"),
    ("harmonise", ("--prompt", "SONG", "--keep-track", "Flute"), "tracks with notes: Melody, Bass"),
    ("unconditional", ("--scale", "C:mayor"), "did you mean major"),
    ("unconditional", ("--scale", "C:major", "--pitch-range", "61:61"), "no pitch of --scale C:major"),
    ("unconditional", ("--pitch-range", "84:36"), "holds no pitch"),
    ("unconditional", ("--max-polyphony", 0), "--max-polyphony"),
    ("continuation", ("--prompt", "SONG", "--prompt-steps", 8, "--max-polyphony", 1), "2 kept notes sound at step 0"),
    ("inpainting", ("--prompt", "SONG", "--region", "0:4", "--scale", "D:major"), "pitch 48 must sound at step 3"),
    ("inpainting", ("--prompt", "SONG", "--region", "30:32,60:60", "--scale", "D:major"), "nothing may sound"),
    ("continuation", ("--prompt", "none.mid"), "none.mid: no such file"),
]


@pytest.mark.parametrize(("mode", "words", "said"), REFUSED)
def test_what_cannot_be(
    tmp_path: Path, models: dict[str, Path], song: Path, mode: str, words: tuple[object, ...], said: str
) -> None:
    words = tuple(song if word == "SONG" else word for word in words)
    assert_refused(run(*sample(models["ar"], tmp_path / "out", mode, *words)), 2, said)
    assert not (tmp_path / "out").exists()


def test_a_model_that_was_not_conditioned_is_refused(tmp_path: Path, models: dict[str, Path], song: Path) -> None:
    words = ("--prompt", song, "--target-width", 64)
    assert_refused(run(*sample(models["plain"], tmp_path, "continuation", *words)), 2, "not trained to take a prompt")


@pytest.mark.parametrize("content", [b"", b"not music", b"MThd\x00\x00\x00\x06\x00\x01"])
def test_an_unreadable_prompt(tmp_path: Path, models: dict[str, Path], content: bytes) -> None:
    path = tmp_path / "bad.mid"
    path.write_bytes(content)
    assert_refused(run(*sample(models["ar"], tmp_path / "out", "continuation", "--prompt", path)), 1, path)
    assert not (tmp_path / "out").exists()


def test_a_prompt_off_the_grid_is_warned_of(tmp_path: Path, models: dict[str, Path]) -> None:
    file = mido.MidiFile(ticks_per_beat=480)
    track = file.add_track("late")
    track.append(mido.MetaMessage("time_signature", numerator=3, denominator=4))
    for number in range(4):
        track.append(mido.Message("note_on", note=60 + number, velocity=70, time=40 if number == 0 else 120))
        track.append(mido.Message("note_off", note=60 + number, velocity=0, time=240))
    file.save(tmp_path / "late.mid")
    words = ("--prompt", tmp_path / "late.mid", "--target-width", 24)
    result = run(*sample(models["ar"], tmp_path / "out", "continuation", *words))
    assert result.exit_code == 0, result.stderr
    assert "0.33 of a step off the grid" in result.stderr
    assert (
        "bars are not those of 16 steps" not in result.stderr
    )  # two bars of 12 steps begin in 12 of them: one differs
