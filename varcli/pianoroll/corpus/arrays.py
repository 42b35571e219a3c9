"""Binary canvases as files: the `.mat` benchmark sets and `.npz` archives of one array per piece."""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from varcli.errors import VarError
from varcli.pianoroll.roll import PITCHES

LOWEST_OF_88 = 21  # MIDI pitch of the first key of a piano
Split = Literal["train", "valid", "test"]
_SPLITS: tuple[Split, ...] = ("train", "valid", "test")
_MAT_SPLITS: dict[str, Split] = {"traindata": "train", "validdata": "valid", "testdata": "test"}


def read_mat(path: Path) -> Iterator[tuple[str, Split, np.ndarray]]:
    """(name, split, canvas u8 [128, T] of 0 and 1) of every piece of a `.mat` with traindata, validdata or testdata.

    Each of these holds one (T, 88) array per piece, key 0 = MIDI pitch 21. Raises VarError for anything else.
    """
    import scipy.io  # slow to import

    hint = "it should hold traindata, validdata and testdata, each a cell array of (T, 88) pieces"
    try:
        content = scipy.io.loadmat(path, variable_names=list(_MAT_SPLITS))
    except Exception as error:  # scipy raises whatever its decoders stumble over
        raise VarError(f"{path}: not a readable .mat file ({one_line(error)})", hint) from None
    found = [key for key in _MAT_SPLITS if key in content]
    if not found:
        raise VarError(f"{path}: no traindata, validdata or testdata", hint)
    for key in found:
        cells = content[key]
        if not isinstance(cells, np.ndarray) or cells.dtype != object:
            raise VarError(f"{path}: {key} is not a cell array", hint)
        for index, piece in enumerate(cells.ravel()):
            name = f"{_MAT_SPLITS[key]}_{index:03d}"
            yield name, _MAT_SPLITS[key], _canvas(piece, f"{path}: {key}[{index}]")


def read_npz(path: Path) -> Iterator[tuple[str, Split, np.ndarray]]:
    """(name, split, canvas u8 [128, T] of 0 and 1) of every array of an `.npz`, each (T, 88) or (T, 128).

    Arrays called train..., valid... or test... belong to these splits, all others to test. Raises VarError for an
    empty archive, object arrays, other shapes and values beside 0 and 1.
    """
    hint = "it should hold one binary (T, 88) or (T, 128) array per piece"
    try:
        archive = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise VarError(f"{path}: not a readable .npz file ({one_line(error)})", hint) from None
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise VarError(f"{path}: a single array, not an .npz archive", hint)
    with archive:
        if not archive.files:
            raise VarError(f"{path}: holds no arrays", hint)
        for name in archive.files:
            yield name, _split_of(name), _canvas(_load(archive, name, path), f"{path}: {name}")


READERS: dict[str, Callable[[Path], Iterator[tuple[str, Split, np.ndarray]]]] = {".mat": read_mat, ".npz": read_npz}
"""Where a kind of data set is registered by the ending of its files: what reads (name, split, canvas) of each piece."""


def _split_of(name: str) -> Split:
    for split in _SPLITS:
        if name.lower().startswith(split):
            return split
    return "test"


def _load(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> np.ndarray:
    try:
        return archive[name]
    except Exception as error:  # zipfile and numpy raise whatever their decoders stumble over
        if "allow_pickle" in str(error):
            hint = "save one array of numbers per piece; nothing is ever unpickled"
            raise VarError(f"{path}: {name} is an object array", hint) from None
        raise VarError(f"{path}: {name} cannot be read ({one_line(error)})", "save the file again") from None


def one_line(error: Exception) -> str:
    """The message of another library's error, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _canvas(piece: np.ndarray, where: str) -> np.ndarray:
    if (
        not isinstance(piece, np.ndarray)
        or piece.ndim != 2
        or piece.shape[1] not in (88, PITCHES)
        or not piece.shape[0]
    ):
        raise VarError(f"{where} has shape {np.shape(piece)}", "a piece is (T, 88) or (T, 128), with T at least 1")
    if piece.dtype.kind not in "buif" or not np.isin(piece, (0, 1)).all():
        raise VarError(f"{where} holds values beside 0 and 1", "a binary piece says of every key whether it is on")
    cells = np.zeros((PITCHES, piece.shape[0]), np.uint8)
    low = LOWEST_OF_88 if piece.shape[1] == 88 else 0
    cells[low : low + piece.shape[1]] = piece.T
    return cells
