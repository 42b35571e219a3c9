"""Files appear whole or not at all, and a place that cannot be written is one line."""

import errno
import os
from pathlib import Path

import pytest

from varcli.errors import UsageError, VarError
from varcli.files import atomic_write, ensure_output_dir, refuse_existing, write_text


def test_a_file_appears_whole_and_nothing_else_does(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        assert not (tmp_path / "a.txt").exists()
        assert temporary.suffix == ".txt"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_failure_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_write(target) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "may not be written"), (errno.EIO, "cannot be")]
)
def test_trouble_with_the_disk_names_the_file(tmp_path: Path, number: int, said: str) -> None:
    with pytest.raises(VarError, match=said) as raised, atomic_write(tmp_path / "a.txt"):
        raise OSError(number, os.strerror(number))
    assert str(tmp_path / "a.txt") in raised.value.message
    assert raised.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_really_full_disk_is_said(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(VarError, match="disk is full"), atomic_write(tmp_path / "a.txt"):
        Path("/dev/full").write_text("x")


def test_an_error_about_another_file_passes_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a.txt"):
        (tmp_path / "other.txt").read_text()


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(VarError, match=r"No such file"):
        write_text(tmp_path / "nowhere" / "a.txt", "x")


def test_existing_outputs_are_refused_unless_asked(tmp_path: Path) -> None:
    there = tmp_path / "a.txt"
    there.write_text("x")
    with pytest.raises(UsageError, match="exists") as raised:
        refuse_existing([tmp_path / "b.txt", there], overwrite=False)
    assert "--overwrite" in str(raised.value.hint)
    refuse_existing([there], overwrite=True)
    with pytest.raises(UsageError, match="is a folder"):
        refuse_existing([tmp_path], overwrite=True)


def test_an_output_folder_is_made_and_proven(tmp_path: Path) -> None:
    assert ensure_output_dir(tmp_path / "a" / "b").is_dir()
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("x")
    for bad in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError) as raised:
            ensure_output_dir(bad)
        assert str(bad) in raised.value.message
