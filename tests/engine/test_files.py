"""Temporary files, files of lines that are read after a kill, and JSON files that other programs may have written."""

import errno
import fcntl
import os
import signal
import stat
from pathlib import Path
from unittest import mock

import pytest

from engine import files
from engine.files import (
    SMALL_JSON,
    parse_json,
    read_json,
    read_lines,
    remove_leftovers,
    temporary_folder,
    temporary_path,
)
from tests.support.files.kills import call_killed_at


def test_lines_end_only_at_newlines_and_a_truncated_one_is_skipped(tmp_path):
    (tmp_path / "lines").write_text('{"name": "a\u2028b"}\n{"name": "c"}\n{"na', encoding="utf-8")
    assert list(read_lines(tmp_path / "lines")) == [{"name": "a\u2028b"}, {"name": "c"}]


def test_a_missing_file_has_no_lines(tmp_path):
    assert list(read_lines(tmp_path / "lines")) == []


def test_brackets_without_an_end_are_no_json(tmp_path):
    (tmp_path / "deep").write_text("[" * 100_000)
    for read in (read_json, lambda path: parse_json(path.read_text())):
        with pytest.raises(ValueError, match=r"nested too deeply|Expecting"):
            read(tmp_path / "deep")
    (tmp_path / "lines").write_text("[" * 100_000 + '\n{"a": 1}\n')
    assert list(read_lines(tmp_path / "lines")) == [{"a": 1}]


def test_a_json_file_over_the_size_limit_is_not_read(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)  # a sparse file
    with pytest.raises(ValueError, match=f"more than {SMALL_JSON} bytes"):
        read_json(tmp_path / "large")


def leave_behind(folder: Path) -> None:
    with temporary_path(folder, ".onnx"), temporary_folder(folder) as inner:
        (inner / "half").write_text("half")
        (folder / "never").touch()


def left_behind(folder: Path) -> list[Path]:
    assert call_killed_at(4, folder, leave_behind, folder) == -signal.SIGKILL
    names = sorted(folder.iterdir())
    assert len(names) == 2
    return names


@pytest.mark.parametrize("temporary", [temporary_path, temporary_folder])
def test_a_folder_that_cannot_be_written_is_named_and_not_what_it_would_have_held(tmp_path, temporary):
    with pytest.raises(OSError) as refusal, temporary(tmp_path / "gone"):
        pass
    assert refusal.value.filename == str(tmp_path / "gone")


def test_leftovers_of_a_killed_process_are_removed_by_the_next_writer(tmp_path):
    left = left_behind(tmp_path)
    with temporary_path(tmp_path) as path:
        assert list(tmp_path.iterdir()) == [path]
    assert not any(map(os.path.lexists, left))


def test_temporary_files_of_living_processes_and_foreign_files_are_kept(tmp_path):
    names = [".tmp-0123456789abcdef", ".tmp-" + "0" * 24, ".tmp-notes", "notes.txt"]
    for name in names:
        (tmp_path / name).write_text("mine")
    with temporary_path(tmp_path) as file, temporary_folder(tmp_path) as folder:
        (tmp_path / f"{file.name[:-1]}x").symlink_to("notes.txt")
        before = sorted(tmp_path.iterdir())
        remove_leftovers(tmp_path)
        assert sorted(tmp_path.iterdir()) == before and folder.is_dir()
    assert all((tmp_path / name).read_text() == "mine" for name in names)


def test_without_locks_only_leftovers_older_than_a_day_are_removed(tmp_path):
    new, old = left_behind(tmp_path)
    os.utime(old, (1e9, 1e9))
    with mock.patch("fcntl.flock", side_effect=OSError(errno.ENOSYS, "Function not implemented")):
        remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [new]


@pytest.mark.parametrize("moment", ["while it is opened", "before it is opened", "before it is locked"])
@pytest.mark.parametrize("temporary", [temporary_path, temporary_folder])
def test_a_temporary_file_removed_before_it_is_locked_is_created_again(tmp_path, monkeypatch, temporary, moment):
    open_descriptor, left = os.open, [moment]

    def open_late(path, *how, **more):
        if str(path).startswith(str(tmp_path)) and left:
            left.clear()
            if moment == "before it is opened":
                remove_leftovers(tmp_path)
            descriptor = open_descriptor(path, *how, **more)
            if moment == "before it is locked":
                remove_leftovers(tmp_path)
            elif moment == "while it is opened":
                fcntl.flock(held.append(open_descriptor(path, os.O_RDONLY)) or held[0], fcntl.LOCK_EX)
            return descriptor
        return open_descriptor(path, *how, **more)

    held = []
    remove_leftovers(tmp_path)
    monkeypatch.setattr("engine.files.os.open", open_late)
    with temporary(tmp_path) as path:
        assert path.exists() and not left
        remove_leftovers(tmp_path)
        assert path.exists()
    for descriptor in held:
        os.close(descriptor)
    assert not path.exists()


def test_a_file_larger_than_the_limit_of_files_is_refused_with_the_limit(monkeypatch, tmp_path):
    """torch's message for a file over `ulimit -f` is about its archives."""
    assert files.lack_of_room(tmp_path, 3 << 20, "a checkpoint") is None
    monkeypatch.setattr(files.resource, "getrlimit", lambda which: (2 << 20, -1))
    limits = "files may have at most 2.0 MiB (ulimit -f), but a checkpoint needs 3.0 MiB; raise that limit"
    assert files.lack_of_room(tmp_path, 3 << 20, "a checkpoint") == f"{tmp_path}: {limits}"
    assert files.lack_of_room(tmp_path, 1 << 20, "a checkpoint") is None


def test_files_are_written_where_locks_need_an_open_for_writing(tmp_path, monkeypatch):
    """NFS 4 refuses an exclusive lock of a file that is open for reading (EBADF); folders can be locked."""

    def flock(file, how):
        number = file if isinstance(file, int) else file.fileno()
        reads_only = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        if reads_only and not stat.S_ISDIR(os.fstat(number).st_mode):
            raise OSError(errno.EBADF, "Bad file descriptor")
        real(file, how)

    real = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", flock)
    leftover = files._new_name("")
    (tmp_path / leftover).touch()
    with files.temporary_file(tmp_path, "w") as (made, file):
        file.write("x")
        files.remove_leftovers(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [made.name], "its own is locked, the leftover is not"
