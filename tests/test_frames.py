"""frames.npz: written and read back, from elsewhere, damaged, and thinned."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from animation_support import ar_events, mar_events, record, tune

from varcli.animation.frames import load_frames, save_frames, select_frames
from varcli.errors import UsageError, VarError

FRAMES = np.zeros((3, 8, 5), np.uint8)
CELLS = tune(48)


def write(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("events", [ar_events, mar_events])
def test_what_is_saved_comes_back(tmp_path: Path, events) -> None:
    recording = record(events(CELLS), title="tune · é")
    save_frames(tmp_path / "a.npz", recording)
    back = load_frames(tmp_path / "a.npz")
    for name in ("frames", "level", "iteration", "batch", "seconds"):
        assert np.array_equal(getattr(back, name), getattr(recording, name))
        assert getattr(back, name).dtype == getattr(recording, name).dtype
    assert (back.labels, back.meta) == (recording.labels, recording.meta)


def test_file_is_as_the_format_says(tmp_path: Path) -> None:
    save_frames(tmp_path / "a.npz", record(ar_events(CELLS)))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        kinds = {name: archive[name].dtype.kind + str(archive[name].ndim) for name in archive.files}
        assert archive["frames"].dtype == np.uint8 and archive["seconds"].dtype == np.float64
        assert all(archive[name].dtype == np.int32 for name in ("level", "iteration", "batch"))
        assert json.loads(archive["meta"].item())["kind"] == "roll"
    numbers = dict.fromkeys(("level", "iteration", "batch"), "i1")
    assert kinds == {"frames": "u3", "labels": "U1", "seconds": "f1", "meta": "U0", **numbers}


def test_equal_recordings_give_equal_bytes(tmp_path: Path) -> None:
    recording = record(ar_events(CELLS))
    for name in ("a.npz", "b.npz"):
        save_frames(tmp_path / name, recording)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(("rows", "kind"), [(128, "roll"), (40, "image")])
def test_only_frames_are_required(tmp_path: Path, rows: int, kind: str) -> None:
    recording = load_frames(write(tmp_path / "a.npz", frames=np.zeros((2, rows, 7), np.uint8)))
    assert recording.labels == ("Frame 1/2", "Frame 2/2")
    assert recording.level.tolist() == [0, 0]
    assert recording.meta.kind == kind
    assert recording.progress.tolist() == [0, 1]


def test_meta_from_elsewhere_may_hold_more_or_less(tmp_path: Path) -> None:
    meta = json.dumps({"kind": "image", "microscope": "mine"})
    recording = load_frames(write(tmp_path / "a.npz", frames=np.zeros((1, 128, 4), np.uint8), meta=meta))
    assert recording.meta.kind == "image"
    assert load_frames(write(tmp_path / "b.npz", frames=FRAMES, meta="{}")).meta.kind == "image"


BAD = {
    "no frames": {"labels": np.array(["a"])},
    "float frames": {"frames": FRAMES.astype(float)},
    "flat frames": {"frames": FRAMES[0]},
    "no frame at all": {"frames": FRAMES[:0]},
    "no width": {"frames": FRAMES[:, :, :0]},
    "object frames": {"frames": np.array([None, 1], object)},
    "object labels": {"frames": FRAMES, "labels": np.array(["a", None, 3], object)},
    "number labels": {"frames": FRAMES, "labels": np.arange(3)},
    "too few labels": {"frames": FRAMES, "labels": np.array(["a", "b"])},
    "too many levels": {"frames": FRAMES, "level": np.arange(4)},
    "text levels": {"frames": FRAMES, "level": np.array(["a", "b", "c"])},
    "table of seconds": {"frames": FRAMES, "seconds": np.zeros((3, 2))},
    "meta no text": {"frames": FRAMES, "meta": np.arange(3)},
    "meta no json": {"frames": FRAMES, "meta": "{"},
    "meta no object": {"frames": FRAMES, "meta": "[1]"},
    "meta unknown kind": {"frames": FRAMES, "meta": '{"kind": "film"}'},
    "meta no bars": {"frames": FRAMES, "meta": '{"steps_per_bar": 0}'},
    "meta too few bounds": {"frames": FRAMES, "meta": '{"bounds": [[]]}'},
    "meta bounds outside": {"frames": FRAMES, "meta": '{"bounds": [[], [], [[0, 9, 0, 5]]]}'},
    "meta bounds of three": {"frames": FRAMES, "meta": '{"bounds": [[], [], [[0, 8, 0]]]}'},
    "meta progress outside": {"frames": FRAMES, "meta": '{"progress": [0, 1, 2]}'},
    "meta progress shrinks": {"frames": FRAMES, "meta": '{"progress": [0, 1, 0.5]}'},
    "meta progress not finite": {"frames": FRAMES, "meta": '{"progress": [0, NaN, 1]}'},
}


@pytest.mark.parametrize("arrays", BAD.values(), ids=BAD.keys())
def test_what_does_not_fit_together_is_refused_in_a_line(tmp_path: Path, arrays: dict) -> None:
    path = write(tmp_path / "bad.npz", **arrays)
    with pytest.raises(VarError) as caught:
        load_frames(path)
    assert caught.value.exit_code == 1
    assert str(path) in caught.value.message and "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["empty", "text", "npy", "pickle", "cut", "flipped", "other zip", "bomb"])
def test_what_is_no_recording_is_refused_in_a_line(tmp_path: Path, kind: str) -> None:
    import io
    import pickle
    import zipfile

    path = tmp_path / "bad.npz"
    save_frames(path, record(ar_events(CELLS)))
    good = bytearray(path.read_bytes())
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("frames")
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, FRAMES)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"frames": 1}))
    elif kind == "cut":
        path.write_bytes(good[: len(good) // 2])
    elif kind == "flipped":
        good[200:260] = bytes(60)
        path.write_bytes(good)
    elif kind == "other zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("frames.npy", b"no array")
    else:
        header = io.BytesIO()
        claim = {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**6, 10**6)}
        np.lib.format.write_array_header_1_0(header, claim)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("frames.npy", header.getvalue())
    with pytest.raises(VarError) as caught:
        load_frames(path)
    assert caught.value.exit_code == 1
    assert str(path) in caught.value.message and "\n" not in caught.value.message


def test_missing_file_and_folder_are_usage_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "none.npz", tmp_path):
        with pytest.raises(UsageError, match=path.name):
            load_frames(path)


def test_thinning_keeps_both_ends_and_tells_every_patch() -> None:
    recording = record(ar_events(CELLS))
    thin = select_frames(recording, every=7)
    assert thin.labels == tuple(recording.labels[i] for i in (0, 7, 14, 21, 24))
    told = [patch for i in range(len(thin)) for patch in (*thin.meta.fresh[i], *thin.meta.bounds[i])]
    assert told == [patch for part in recording.meta.bounds for patch in part]
    assert thin.progress.tolist() == recording.progress[[0, 7, 14, 21, 24]].tolist()
    assert len(select_frames(recording, every=10**6)) == 2
    assert select_frames(recording).labels == recording.labels


def test_choosing_levels() -> None:
    from dataclasses import replace

    recording = record(ar_events(CELLS))
    mixed = replace(recording, level=np.where(np.arange(25) % 3 == 1, 1, recording.level))
    assert select_frames(mixed, levels={1}).level.tolist() == [-1, *[1] * 8, 0]  # the final state stays
    assert len(select_frames(mixed, levels={0, 1})) == 25
    with pytest.raises(UsageError) as caught:
        select_frames(mixed, levels={0, 2})
    assert "level 2" in caught.value.message and "0, 1" in str(caught.value.hint)
    with pytest.raises(UsageError):
        select_frames(mixed, every=0)
