"""The read lock: one thread works at a time, and none waits for the disk of another."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dali_pipes.cut import reading
from dali_pipes.cut.reading import holding_read_lock, read_cached, releasing_read_lock

CONTENT = bytes(range(256)) * 64


@pytest.fixture
def descriptor(tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_the_read_lock_is_held_by_one_thread_at_a_time():
    working, most = [], []

    def work(_) -> None:
        with holding_read_lock():
            working.append(1)
            most.append(len(working))
            threading.Event().wait(0.01)
            working.pop()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
    assert max(most) == 1


def test_a_waiting_thread_releases_the_read_lock():
    other_worked = threading.Event()

    def other() -> None:
        with holding_read_lock():
            other_worked.set()

    with ThreadPoolExecutor(1) as pool, holding_read_lock():
        pool.submit(other)
        assert not other_worked.wait(0.05)
        with releasing_read_lock():
            assert other_worked.wait(120)


@pytest.mark.parametrize("error", [BlockingIOError(), OSError(95, "not supported")])
def test_reads_outside_the_page_cache_release_the_read_lock(descriptor, monkeypatch, error):
    def refuse(*_):
        raise error

    read, taken = os.pread, []

    def watched(*arguments):
        taken.append(reading._read_lock.locked())
        return read(*arguments)

    monkeypatch.setattr(os, "preadv", refuse)
    monkeypatch.setattr(os, "pread", watched)
    with holding_read_lock():
        assert read_cached(descriptor, 100, 10) == CONTENT[10:110]
    assert taken == [False]


def test_reads_under_the_read_lock_use_nowait(descriptor, monkeypatch):
    preadv, flags = os.preadv, []

    def watched(*arguments):
        flags.append(arguments[3])
        return preadv(*arguments)

    monkeypatch.setattr(os, "preadv", watched)
    with holding_read_lock():
        read_cached(descriptor, 100, 10)
    assert flags == [os.RWF_NOWAIT]


def test_a_read_beyond_the_end_returns_the_bytes_up_to_the_end(descriptor):
    with holding_read_lock():
        assert read_cached(descriptor, 100, len(CONTENT) - 7) == CONTENT[-7:]
        assert read_cached(descriptor, 100, len(CONTENT)) == b""
        assert read_cached(descriptor, 0, 3) == b""


def test_a_read_error_is_raised(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with holding_read_lock(), pytest.raises(IsADirectoryError):
        read_cached(descriptor, 10, 0)
    os.close(descriptor)
