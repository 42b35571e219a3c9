"""Corpora: folders and zips of MIDI with their cache, `.mat` and `.npz` sets."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from roll_support import notes_to_cells

from varcli.errors import UsageError, VarError
from varcli.events import FilesRead
from varcli.pianoroll.corpus import corpus as corpus_module
from varcli.pianoroll.corpus.corpus import Corpus, read_corpus, split_of
from varcli.pianoroll.roll import Note, Roll, Vocabulary, cells_to_notes, merge
from varcli.pianoroll.score.midi import write_midi
from varcli.pianoroll.score.voices import TrackRule

BINARY = Vocabulary(binary=True)


def song(seed: int, steps_per_beat: int = 4) -> bytes:
    rng = np.random.default_rng(seed)
    notes = [Note(*row) for row in rng.integers([40, 0, 1, 1], [80, 60, 8, 128], (30, 4)).tolist()]
    return write_midi(Roll(notes_to_cells(notes, 64, Vocabulary())[0], steps_per_beat=steps_per_beat), None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five songs in two folders, one that is none, and files that do not matter."""
    root = tmp_path / "songs"
    (root / "more").mkdir(parents=True)
    for number in (10, 11, 12):
        (root / f"{number}.mid").write_bytes(song(number))
    for number in (13, 14):
        (root / "more" / f"{number}.MIDI").write_bytes(song(number))
    (root / "more" / "broken 15.mid").write_bytes(song(15)[:60])
    (root / "._10.mid").write_bytes(b"fork")
    (root / "LICENSE").write_text("free")
    return root


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def read(path: Path, cache: Path | None = None, vocabulary: Vocabulary | None = None, **options) -> Corpus:
    *_, found = read_corpus(path, vocabulary=vocabulary, cache_dir=cache, **{"workers": 1, **options})
    assert isinstance(found, Corpus)
    return found


def events(path: Path, cache: Path, **options) -> list[FilesRead]:
    return [e for e in read_corpus(path, cache_dir=cache, **{"workers": 1, **options}) if isinstance(e, FilesRead)]


def same(one: Corpus, other: Corpus) -> bool:
    pairs = list(zip(one.pieces, other.pieces, strict=True))
    pieces = all(
        (a.name, a.split, a.off_grid) == (b.name, b.split, b.off_grid)
        and np.array_equal(a.cells, b.cells)
        and np.array_equal(a.downbeats, b.downbeats)
        and a.downbeats.dtype == b.downbeats.dtype == np.int32
        for a, b in pairs
    )
    return pieces and one.skipped == other.skipped and one.losses == other.losses


# --- folders and zips


def test_a_folder_of_zips_is_read_as_one_corpus(tmp_path: Path, cache: Path) -> None:
    for name in ("a", "b"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr(f"in/{name} 21.mid", song(21))
            archive.writestr("LICENSE", "free")
    (tmp_path / "SOURCE.txt").write_text("from elsewhere")
    found = read(tmp_path, cache)
    assert [piece.name for piece in found.pieces] == ["a.zip/in/a 21.mid", "b.zip/in/b 21.mid"]
    assert {piece.split for piece in found.pieces} == {"valid"}
    (tmp_path / "10.mid").write_bytes(song(10))
    assert [piece.name for piece in read(tmp_path, cache).pieces] == ["10.mid"]


def test_a_folder_is_read_with_its_subfolders_and_what_is_broken_is_reported(folder: Path, cache: Path) -> None:
    found = read(folder, cache)
    assert [piece.name for piece in found.pieces] == ["10.mid", "11.mid", "12.mid", "more/13.MIDI", "more/14.MIDI"]
    assert found.skipped == (("more/broken 15.mid", "truncated MIDI file"),)
    assert [piece.split for piece in found.pieces] == ["test", "valid", "train", "train", "train"]
    assert [piece.name for piece in found.split("valid")] == ["11.mid"]
    assert all(
        loss.notes_written == len(cells_to_notes(p.cells, found.vocabulary))
        for p, loss in zip(found.pieces, found.losses, strict=True)
    )


def test_pieces_hold_no_padding_and_know_their_bars(folder: Path, cache: Path) -> None:
    for piece in read(folder, cache).pieces:
        assert piece.cells.dtype == np.uint8
        assert piece.cells.shape[0] == 128
        assert piece.cells[:, -1].any()
        assert piece.downbeats.tolist() == list(range(0, piece.cells.shape[1], 16))


def test_every_file_has_its_event(folder: Path, cache: Path) -> None:
    assert [(e.done, e.total) for e in events(folder, cache)] == [(i, 6) for i in range(1, 7)]


def test_a_zip_reads_like_its_folder(folder: Path, cache: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "songs"), "zip", folder))
    assert same(read(archive, cache), read(folder, tmp_path / "other"))
    assert read(archive, cache).digest == read(folder, cache).digest


def test_several_processes_give_the_same_pieces_in_the_same_order(folder: Path, cache: Path, tmp_path: Path) -> None:
    assert same(read(folder, cache, workers=2), read(folder, tmp_path / "other"))


def test_a_damaged_member_of_a_zip_is_skipped(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "songs.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.mid", song(1))
        archive.writestr("2.mid", song(2))
        offset = archive.getinfo("2.mid").header_offset
    data = bytearray(path.read_bytes())
    data[offset + 60] ^= 255
    path.write_bytes(data)
    found = read(path, cache)
    assert [piece.name for piece in found.pieces] == ["1.mid"]
    assert found.skipped[0][0] == "2.mid"
    assert "cannot be read from the zip" in found.skipped[0][1]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("POP909/120/120.mid", "test"),
        ("POP909/001/001.mid", "valid"),
        ("a/909.mid", "train"),
        ("take 10 of song 21.mid", "valid"),
        ("7 - prelude.mid", "train"),
        ("prelude.mid", "valid"),
        ("fugue.mid", "train"),
    ],
)
def test_splits_go_by_song_number_once_and_for_all(name: str, split: str) -> None:
    assert split_of(name) == split


def test_names_without_numbers_are_split_80_10_10() -> None:
    words = ["".join(chr(97 + int(d)) for d in str(i)) for i in range(1000)]
    counts = {split: sum(split_of(f"{w}.mid") == split for w in words) for split in ("train", "valid", "test")}
    assert 760 < counts["train"] < 840
    assert min(counts["valid"], counts["test"]) > 70


def test_vocabulary_drums_and_grid_are_honoured(folder: Path, cache: Path) -> None:
    notes, binary = read(folder, cache), read(folder, cache, BINARY)
    assert all(np.array_equal(a.cells > 0, b.cells > 0) for a, b in zip(notes.pieces, binary.pieces, strict=True))
    assert {int(piece.cells.max()) for piece in binary.pieces} == {1}
    assert binary.vocabulary == BINARY
    fine = read(folder, cache, steps_per_beat=8)
    assert [p.cells.shape[1] for p in fine.pieces] == [2 * p.cells.shape[1] for p in notes.pieces]


def test_files_off_the_grid_are_left_out_on_request_only(folder: Path, cache: Path) -> None:
    (folder / "triplets 16.mid").write_bytes(song(16, steps_per_beat=3))
    assert not [name for name, _ in read(folder, cache).skipped if "triplets" in name]
    found = read(folder, cache, max_off_grid=0.1)
    assert [reason for name, reason in found.skipped if "triplets" in name] == [
        "onsets lie 0.24 of a step off the grid on average, more than 0.1"
    ]
    assert len(found.pieces) == 5


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("none", None, UsageError, "no such file or folder"),
        ("song.mid", song(1), UsageError, "a single MIDI file"),
        ("songs.zip", b"PK\3\4 and then nothing", VarError, "not a readable zip"),
        ("notes.txt", b"c d e", VarError, "not a readable zip"),
    ],
)
def test_what_is_no_corpus(
    tmp_path: Path, cache: Path, name: str, content: bytes | None, error: type[VarError], message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(VarError, match=message) as caught:
        read(tmp_path / name, cache)
    assert type(caught.value) is error
    assert name in caught.value.message


def test_a_folder_without_midi_and_one_of_broken_files_only(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(VarError, match="holds no MIDI files"):
        read(tmp_path, cache)
    (tmp_path / "1.mid").write_bytes(b"no")
    with pytest.raises(VarError, match=r"none of 1 MIDI files can be used; 1\.mid: not a MIDI file"):
        read(tmp_path, cache)


# --- beat annotations beside the files

BEATS = "".join(f"{0.25 + 0.75 * beat} {int(beat % 4 == 1)}\n" for beat in range(30))


def annotated(folder: Path, annotation: str) -> None:
    """A song whose ticks say 120 bpm while its beats, from bar to bar, run at 80, with its first bar at 1 s."""
    folder.mkdir(parents=True)
    notes = [Note(60, 192 + 36 * step, 36, 64) for step in (0, 3, 16, 18)]  # 192 steps a second, 36 a 16th
    fine = Roll(notes_to_cells(notes, 1000, Vocabulary())[0], steps_per_beat=96)
    write_midi(fine, folder / "1.mid")
    (folder / "beat_midi.txt").write_text(annotation)


def test_an_annotation_beside_a_file_is_its_grid(tmp_path: Path, cache: Path) -> None:
    annotated(tmp_path / "set" / "a", BEATS)
    annotated(tmp_path / "set" / "b", BEATS)
    (tmp_path / "set" / "b" / "beat_midi.txt").unlink()
    with_beats, without = read(tmp_path / "set", cache).pieces
    starts = [note.start_step for note in cells_to_notes(with_beats.cells, Vocabulary())]
    assert starts == [0, 3, 16, 18]
    assert with_beats.downbeats.tolist() == [0, 16]
    assert with_beats.off_grid < 1e-9
    assert without.off_grid > 0.1


def test_an_annotation_among_several_files_belongs_to_the_one_called_like_the_folder(
    tmp_path: Path, cache: Path
) -> None:
    annotated(tmp_path / "set" / "1", BEATS)
    shutil.copy(tmp_path / "set" / "1" / "1.mid", tmp_path / "set" / "1" / "2.mid")
    annotated(tmp_path / "set" / "x", BEATS)
    shutil.copy(tmp_path / "set" / "x" / "1.mid", tmp_path / "set" / "x" / "2.mid")
    off_grid = {piece.name: piece.off_grid for piece in read(tmp_path / "set", cache).pieces}
    assert [name for name, distance in off_grid.items() if distance < 1e-9] == ["1/1.mid"]


def test_a_broken_annotation_is_reported(tmp_path: Path, cache: Path) -> None:
    annotated(tmp_path / "set" / "a", "c d e")
    annotated(tmp_path / "set" / "b", BEATS)
    assert read(tmp_path / "set", cache).skipped == (("a/1.mid", "its beat annotation: not lines of numbers"),)


# --- the cache


def test_the_second_reading_comes_from_the_cache(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(folder, cache)
    monkeypatch.setattr(corpus_module, "parse_all", None)
    assert same(read(folder, cache), first)
    assert [(e.done, e.total) for e in events(folder, cache)] == [(6, 6)]
    assert same(read(folder.rename(folder.with_name("moved")), cache), first)


@pytest.mark.parametrize("change", ["content", "name", "settings", "annotation"])
def test_another_content_or_setting_is_parsed_anew(folder: Path, cache: Path, change: str) -> None:
    read(folder, cache)
    options = {}
    if change == "content":
        (folder / "12.mid").write_bytes(song(99))
    elif change == "name":
        (folder / "12.mid").rename(folder / "22.mid")
    elif change == "settings":
        options["steps_per_beat"] = 8
    else:
        (folder / "more" / "more.mid").write_bytes(song(1))
        read(folder, cache)
        (folder / "more" / "beat_midi.txt").write_text("0 1\n0.5 0\n1 0\n1.5 0\n2 1\n")
    assert len(events(folder, cache, **options)) > 1


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "other version", "not the arrays", "wrong table"])
def test_a_damaged_cache_is_rebuilt(folder: Path, cache: Path, damage: str) -> None:
    first = read(folder, cache)
    (file,) = cache.iterdir()
    data = file.read_bytes()
    arrays = dict(np.load(file))
    if damage == "empty":
        file.write_bytes(b"")
    elif damage == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "garbage":
        file.write_bytes(bytes(len(data)))
    elif damage == "other version":
        np.savez_compressed(
            file, **{**arrays, "meta": np.array(str(arrays["meta"]).replace('"version": ', '"version": 9'))}
        )
    elif damage == "not the arrays":
        np.savez_compressed(file, cells=arrays["cells"])
    else:
        np.savez_compressed(file, **{**arrays, "cells": arrays["cells"][:, 1:]})
    assert same(read(folder, cache), first)
    assert len(events(folder, cache)) == 1
    assert [path.name for path in cache.iterdir()] == [file.name]


def test_flipped_bytes_in_the_cache_never_change_a_piece(folder: Path, cache: Path) -> None:
    first = read(folder, cache)
    (file,) = cache.iterdir()
    data = file.read_bytes()
    for position in range(0, len(data), max(1, len(data) // 40)):
        damaged = bytearray(data)
        damaged[position] ^= 255
        file.write_bytes(damaged)
        assert same(read(folder, cache), first)


def test_a_cache_that_cannot_be_written_does_no_harm(folder: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    assert len(read(folder, blocked).pieces) == 5


def test_the_cache_lies_in_the_users_cache_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    read(folder)
    assert len(list((tmp_path / "xdg" / "varcli").iterdir())) == 1


# --- voices and metre

VOICES = TrackRule.from_names({"melody": "melody", "piano": "*"})


def song_in_voices(seed: int, names: tuple[str, ...] = ("melody", "piano"), steps_per_bar: int = 16) -> bytes:
    rng = np.random.default_rng(seed)
    voices = {}
    for name in names:
        notes = [Note(*row) for row in rng.integers([40, 0, 1, 1], [80, 60, 8, 128], (12, 4)).tolist()]
        voices[name] = notes_to_cells(notes, 64, Vocabulary())[0]
    cells = merge(voices.values(), Vocabulary())
    return write_midi(Roll(cells, steps_per_bar=steps_per_bar, voices=voices), None)


@pytest.fixture
def songs_in_voices(tmp_path: Path) -> Path:
    """Three songs in two voices, one of them in three quarters, and one of a single track."""
    root = tmp_path / "voices"
    root.mkdir()
    for number in (10, 11):
        (root / f"{number}.mid").write_bytes(song_in_voices(number))
    (root / "12.mid").write_bytes(song_in_voices(12, steps_per_bar=12))
    (root / "13.mid").write_bytes(song_in_voices(13, ("piano",)))
    return root


def test_pieces_keep_their_voices_and_the_same_cells(songs_in_voices: Path, cache: Path) -> None:
    found, plain = read(songs_in_voices, cache, voices=VOICES), read(songs_in_voices, cache)
    assert same(found, plain) and all(piece.voices is None for piece in plain.pieces)
    for piece in found.pieces:
        assert piece.voices is not None and list(piece.voices) == ["melody", "piano"]
        assert all(cells.any() for cells in piece.voices.values())
        assert np.array_equal(merge(piece.voices.values(), found.vocabulary), piece.cells)
    ((name, note),) = found.notes
    assert name == "13.mid" and "the top line is read as melody" in note and plain.notes == ()


def test_voices_come_back_from_the_cache(songs_in_voices: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(songs_in_voices, cache, voices=VOICES)
    monkeypatch.setattr(corpus_module, "parse_all", None)
    second = read(songs_in_voices, cache, voices=VOICES)
    assert same(first, second) and first.notes == second.notes
    for one, other in zip(first.pieces, second.pieces, strict=True):
        assert one.voices is not None and other.voices is not None and one.steps_per_bar == other.steps_per_bar
        assert all(np.array_equal(cells, other.voices[name]) for name, cells in one.voices.items())
    with pytest.raises(TypeError):  # other voices are parsed anew
        read(songs_in_voices, cache, voices=TrackRule.from_names({"all": "*"}))


def test_pieces_in_another_metre_can_be_left_out(songs_in_voices: Path, cache: Path) -> None:
    found = read(songs_in_voices, cache)
    assert [piece.steps_per_bar for piece in found.pieces] == [16, 16, 12, 16]
    kept = found.in_metre(16)
    assert [piece.name for piece in kept.pieces] == ["10.mid", "11.mid", "13.mid"]
    assert kept.skipped == (("12.mid", "its bars are of 12 steps, not 16"),)
    assert kept.losses == (*found.losses[:2], found.losses[3])
