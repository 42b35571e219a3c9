"""Where the files of a corpus come from: a folder or a zip, read alike."""

import hashlib
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from varcli.errors import VarError
from varcli.pianoroll.score.beats import BeatGrid, parse_beats
from varcli.pianoroll.score.midi_events import MAX_BYTES

ANNOTATION_NAME = "beat_midi.txt"
_MIDI_SUFFIXES = {".mid", ".midi", ".kar"}


@dataclass(frozen=True)
class Sources:
    """MIDI files of a corpus by their POSIX names, sorted, with the beat annotations that lie beside them."""

    names: tuple[str, ...]
    annotations: dict[str, str]
    read: Callable[[str], bytes]
    """Content of a file; raises VarError if that cannot be had."""

    def files(self) -> Iterator[str]:
        """Names of all files that matter, each MIDI file before its annotation."""
        for name in self.names:
            yield name
            if name in self.annotations:
                yield self.annotations[name]

    def digest(self) -> str:
        """Sha256 over names and content; a file that cannot be read counts by its name and error."""
        total = hashlib.sha256()
        for name in self.files():
            try:
                content = hashlib.sha256(self.read(name)).hexdigest()
            except VarError as error:
                content = error.message
            total.update(f"{name}\0{content}\n".encode())
        return total.hexdigest()


@contextmanager
def open_sources(path: Path) -> Iterator[Sources]:
    """Open a folder (searched with its subfolders) or a zip of MIDI files, or a folder of such zips.

    Zips in a folder count where no MIDI files lie beside them. Raises VarError if it is none of these or holds no MIDI
    file.
    """
    with ExitStack() as opened:
        if not path.is_dir():
            archive = opened.enter_context(_open_zip(path))
            yield _sources(path, _members(archive), lambda name: _from_zip(archive, name))
            return
        names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
        zips = [] if any(map(is_midi, names)) else [name for name in names if name.lower().endswith(".zip")]
        archives = {name: opened.enter_context(_open_zip(path / name)) for name in zips}
        inside = {f"{name}/{each}": (archive, each) for name, archive in archives.items() for each in _members(archive)}
        if inside:
            yield _sources(path, list(inside), lambda name: _from_zip(*inside[name]))
        else:
            yield _sources(path, names, lambda name: _from_folder(path, name))


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise VarError(
            f"{path}: not a readable zip ({error})", "give a folder or zip of MIDI, a .mat or an .npz"
        ) from None


def _members(archive: zipfile.ZipFile) -> list[str]:
    return [each.filename for each in archive.infolist() if not each.is_dir()]


def _sources(path: Path, names: list[str], read: Callable[[str], bytes]) -> Sources:
    midi = tuple(sorted({name for name in names if is_midi(name)}))
    if not midi:
        raise VarError(f"{path}: holds no MIDI files", "files called .mid, .midi or .kar are read, in subfolders too")
    return Sources(midi, _annotations(midi, set(names)), read)


def is_midi(name: str) -> bool:
    """Whether a POSIX path is called like a MIDI file and is no macOS resource fork."""
    path = PurePosixPath(name)
    fork = path.name.startswith("._") or "__MACOSX" in path.parts
    return path.suffix.lower() in _MIDI_SUFFIXES and not fork


def _annotations(midi: tuple[str, ...], names: set[str]) -> dict[str, str]:
    """The annotation of a folder belongs to its only MIDI file, or to the one that is called like the folder."""
    folders: dict[PurePosixPath, list[str]] = defaultdict(list)
    for name in midi:
        folders[PurePosixPath(name).parent].append(name)
    found = {}
    for folder, members in folders.items():
        annotation = str(folder / ANNOTATION_NAME)
        owners = members if len(members) == 1 else [m for m in members if PurePosixPath(m).stem == folder.name]
        if annotation in names and len(owners) == 1:
            found[owners[0]] = annotation
    return found


def beats_beside(path: Path) -> BeatGrid | None:
    """The beat annotation that belongs to a single MIDI file, by the rule for corpora; None if there is none.

    Raises VarError if it cannot be read.
    """
    file = path.parent / ANNOTATION_NAME
    if not path.is_file() or not file.is_file():
        return None
    names = [each.name for each in path.resolve().parent.iterdir() if each.is_file()]
    folder = path.resolve().parent.name
    midi = tuple(f"{folder}/{name}" for name in names if is_midi(name))
    if f"{folder}/{path.name}" not in _annotations(midi, {f"{folder}/{ANNOTATION_NAME}"}):
        return None
    return parse_beats(_from_folder(path.parent, ANNOTATION_NAME).decode("utf-8", "replace"), str(file))


def _from_folder(folder: Path, name: str) -> bytes:
    try:
        if (folder / name).stat().st_size > MAX_BYTES:
            raise VarError(f"{name}: larger than {MAX_BYTES >> 20} MiB")
        return (folder / name).read_bytes()
    except OSError as error:
        raise VarError(f"{name}: cannot be read ({error.strerror})") from None


def _from_zip(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        if archive.getinfo(name).file_size > MAX_BYTES:
            raise VarError(f"{name}: larger than {MAX_BYTES >> 20} MiB")
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError) as error:
        raise VarError(f"{name}: cannot be read from the zip ({error})") from None
