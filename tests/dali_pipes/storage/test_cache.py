"""The local cache of a store: whole videos, shared between processes, with a limit, and never half written."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dali_pipes.errors import DataError
from dali_pipes.storage.cache import VideoCache
from dali_pipes.storage.fetch import Fetched, RangeRequest
from tests.support.paths import ROOT

SIZE = 100


def wanted(number, stamp=7):
    return RangeRequest(f"s3://bucket/{number}.mp4", 512, SIZE, stamp, [(0, SIZE)])


def content(number):
    return Fetched([(512, SIZE)], [memoryview(bytes([number]) * SIZE)])


def cache(folder, most=10 * SIZE, root="s3://bucket"):
    return VideoCache(str(folder), most, root)


def test_a_video_is_found_once_it_is_kept_and_another_version_is_not(tmp_path):
    mine = cache(tmp_path)
    assert mine.find(wanted(1)) is None and mine.reserve(wanted(1))
    kept = mine.store(wanted(1), content(1))
    assert kept.path == mine.find(wanted(1)).path == cache(tmp_path).find(wanted(1)).path
    assert Path(kept.path).read_bytes() == bytes([1]) * SIZE
    assert mine.find(wanted(1, stamp=8)) is None


def test_a_cached_file_is_checked_once_until_it_is_lost(tmp_path, monkeypatch):
    cache(tmp_path).store(wanted(1), content(1))
    mine = cache(tmp_path)
    found = mine.find(wanted(1))
    Path(found.path).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", None)
        assert mine.find(wanted(1)).path == found.path
    found.lost()
    assert mine.find(wanted(1)) is None


def test_a_full_cache_accepts_no_more_and_keeps_its_files(tmp_path, caplog):
    mine, other_rank = cache(tmp_path, most=3 * SIZE), cache(tmp_path, most=3 * SIZE)
    for number in range(3):
        assert (mine, other_rank)[number % 2].reserve(wanted(number))
        mine.store(wanted(number), content(number))
    assert not mine.reserve(wanted(3)) and not other_rank.reserve(wanted(4)) and not mine.reserve(wanted(5))
    assert len([message for message in caplog.messages if "full" in message]) == 2  # once for each rank
    assert mine.find(wanted(0)) and not cache(tmp_path, most=3 * SIZE).reserve(wanted(3))


def test_unused_datasets_are_removed_for_space_and_used_ones_stay(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD.format(folder=str(tmp_path))],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    holder.stdout.readline()
    mine = cache(tmp_path, most=SIZE, root="s3://other")
    assert not mine.reserve(wanted(2))
    used = cache(tmp_path)  # another process that used it, too, ends
    holder.communicate()
    assert used.find(wanted(1))
    del used
    mine = cache(tmp_path, most=SIZE, root="s3://other")
    assert mine.reserve(wanted(2)) and mine.store(wanted(2), content(2))
    assert cache(tmp_path).find(wanted(1)) is None


def test_making_room_removes_only_files_that_the_cache_wrote(tmp_path):
    for name in ("mine/lock", "mine/a.mp4", "bytes", "a/.tsm-dali-bytes", "linked/b.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"a user's" * SIZE)
    old = cache(tmp_path, most=SIZE)
    assert old.reserve(wanted(1)), "a user's files are not counted"
    old.store(wanted(1), content(1))
    (the_set,) = tmp_path.glob("*/.tsm-dali-set")
    (the_set.parent / "notes.txt").write_text("a user's")
    (tmp_path / "link").symlink_to(the_set.parent)
    del old
    before = {
        path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "user" in str(path.read_bytes())
    }
    new = cache(tmp_path, most=SIZE, root="s3://other")
    assert new.reserve(wanted(2)) and new.store(wanted(2), content(2))
    assert len(before) == 6 and all(path.read_bytes() == kept for path, kept in before.items())
    assert not [*the_set.parent.glob("??/*")]


def test_a_set_that_is_removed_while_it_is_opened_is_made_again(tmp_path, monkeypatch):
    flock, removed = fcntl.flock, []

    def remove_first(lock, operation):
        if not removed:
            removed.append(Path(lock.name))
            removed[0].unlink()
            removed[0].parent.rmdir()
        return flock(lock, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    mine = cache(tmp_path)
    assert removed and removed[0].is_file()
    assert mine.reserve(wanted(1)) and mine.store(wanted(1), content(1))


_HOLD = """
from tests.dali_pipes.storage.test_cache import cache, content, wanted
mine = cache({folder!r})
mine.reserve(wanted(1)), mine.store(wanted(1), content(1))
print(flush=True)
input()
"""


def test_a_full_disk_is_logged_once_and_stops_caching(tmp_path, monkeypatch, caplog):
    mine = cache(tmp_path)
    monkeypatch.setattr(Fetched, "read", fail(errno.ENOSPC))
    assert mine.reserve(wanted(1)) and mine.store(wanted(1), content(1)) is None
    assert mine.store(wanted(2), content(2)) is None and not mine.reserve(wanted(3))
    assert len([message for message in caplog.messages if "No space left on device" in message]) == 1
    assert not list(tmp_path.glob("*/*/*"))


def fail(number):
    def read(*_):
        raise OSError(number, os.strerror(number))

    return read


def test_half_written_files_of_a_killed_process_are_removed(tmp_path):
    mine = cache(tmp_path)
    mine.store(wanted(1), content(1))
    (folder,) = tmp_path.glob("*/*/")
    (folder / ".tmp-0123456789abcdef").write_bytes(b"half")
    cache(tmp_path)  # another process may be writing it
    assert (folder / ".tmp-0123456789abcdef").exists()
    del mine
    assert cache(tmp_path).find(wanted(1))
    assert not (folder / ".tmp-0123456789abcdef").exists()


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"set data.cache_dir to a folder that can be written to"):
        cache(tmp_path / "file")
