"""Binary sets: `.mat` and `.npz`, and what only pretends to be one."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from varcli.errors import UsageError, VarError
from varcli.pianoroll.corpus.corpus import Corpus, Piece, read_corpus
from varcli.pianoroll.roll import Vocabulary

BINARY = Vocabulary(binary=True)


def read(path: Path, vocabulary: Vocabulary = BINARY) -> Corpus:
    *_, found = read_corpus(path, vocabulary=vocabulary)
    assert isinstance(found, Corpus)
    return found


def pieces_of(width: int = 88, count: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(width)
    return [(rng.random((5 + i, width)) < 0.1).astype(np.uint8) for i in range(count)]


def cell_array(pieces: list[np.ndarray]) -> np.ndarray:
    array = np.empty((1, len(pieces)), object)
    array[0] = pieces
    return array


def by_name(found: Corpus) -> dict[str, Piece]:
    return {piece.name: piece for piece in found.pieces}


def test_a_mat_set_has_its_own_splits(tmp_path: Path) -> None:
    path = tmp_path / "set.mat"
    pieces = pieces_of()
    scipy.io.savemat(path, {key: cell_array(pieces) for key in ("traindata", "validdata", "testdata")})
    found = read(path)
    assert {split: len(found.split(split)) for split in ("train", "valid", "test")} == dict(train=3, valid=3, test=3)
    for index, expected in enumerate(pieces):
        piece = by_name(found)[f"valid_{index:03d}"]
        assert np.array_equal(piece.cells[21:109], expected.T)
        assert piece.cells.sum() == expected.sum()
        assert len(piece.downbeats) == 0


@pytest.mark.parametrize(("width", "low"), [(88, 21), (128, 0)])
def test_an_npz_holds_a_piece_per_array(tmp_path: Path, width: int, low: int) -> None:
    path = tmp_path / "set.npz"
    one, two, three = pieces_of(width)
    np.savez(path, train_000=one, valid_a=two.astype(bool), other=three.astype(np.float64))
    found = by_name(read(path))
    assert {name: piece.split for name, piece in found.items()} == {
        "train_000": "train",
        "valid_a": "valid",
        "other": "test",
    }
    for name, expected in (("train_000", one), ("valid_a", two), ("other", three)):
        assert np.array_equal(found[name].cells[low : low + width], expected.T)
        assert found[name].cells.sum() == expected.sum()


def test_a_binary_set_cannot_serve_a_vocabulary_of_notes(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, a=pieces_of()[0])
    with pytest.raises(UsageError, match="neither onsets nor velocities"):
        read(path, Vocabulary())


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "holds no arrays"),
        ({"a": np.array([None, {}], object)}, "a is an object array"),
        ({"a": np.zeros((4, 87), np.uint8)}, r"a has shape \(4, 87\)"),
        ({"a": np.zeros((0, 88), np.uint8)}, r"a has shape \(0, 88\)"),
        ({"a": np.zeros(88, np.uint8)}, r"a has shape \(88,\)"),
        ({"a": np.full((4, 88), 2, np.uint8)}, "a holds values beside 0 and 1"),
        ({"a": np.full((4, 88), 0.5)}, "a holds values beside 0 and 1"),
        ({"a": np.full((4, 88), np.nan)}, "a holds values beside 0 and 1"),
        ({"a": np.full((4, 88), "1")}, "a holds values beside 0 and 1"),
    ],
)
def test_bad_npz(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, **arrays)
    with pytest.raises(VarError, match=message) as caught:
        read(path)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\3\4 nothing", pickle.dumps({"a": 1})])
def test_files_that_only_pretend(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"set{suffix}"
    path.write_bytes(content)
    with pytest.raises(VarError, match=f"not a readable {suffix} file|single array") as caught:
        read(path)
    assert "\n" not in caught.value.message


def test_a_single_array_and_a_cut_archive_are_no_npz(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    with open(path, "wb") as handle:
        np.save(handle, pieces_of()[0])
    with pytest.raises(VarError, match="single array"):
        read(path)
    np.savez_compressed(path, a=pieces_of()[0])
    data = bytearray(path.read_bytes())
    data[60:70] = bytes(10)
    path.write_bytes(data)
    with pytest.raises(VarError, match="a cannot be read"):
        read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"other": np.zeros((3, 88))}, "no traindata, validdata or testdata"),
        ({"traindata": np.zeros((3, 88))}, "traindata is not a cell array"),
        ({"testdata": cell_array([np.zeros((3, 80))])}, r"testdata\[0\] has shape \(3, 80\)"),
        ({"testdata": cell_array([np.full((3, 88), 3)])}, r"testdata\[0\] holds values"),
    ],
)
def test_bad_mat(tmp_path: Path, content: dict, message: str) -> None:
    path = tmp_path / "set.mat"
    scipy.io.savemat(path, content)
    with pytest.raises(VarError, match=message):
        read(path)
