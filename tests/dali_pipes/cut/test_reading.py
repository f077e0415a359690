"""Taking turns: one at a time, but nobody waits for another's disk."""

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


def test_one_works_at_a_time():
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
def test_what_is_not_in_the_cache_is_read_out_of_turn(descriptor, monkeypatch, error):
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


def test_only_what_is_in_the_cache_is_asked_for_in_turn(descriptor, monkeypatch):
    preadv, flags = os.preadv, []

    def watched(*arguments):
        flags.append(arguments[3])
        return preadv(*arguments)

    monkeypatch.setattr(os, "preadv", watched)
    with holding_read_lock():
        read_cached(descriptor, 100, 10)
    assert flags == [os.RWF_NOWAIT]


def test_a_part_of_it_is_what_there_is_up_to_the_end(descriptor):
    with holding_read_lock():
        assert read_cached(descriptor, 100, len(CONTENT) - 7) == CONTENT[-7:]
        assert read_cached(descriptor, 100, len(CONTENT)) == b""
        assert read_cached(descriptor, 0, 3) == b""


def test_what_cannot_be_read_is_an_error(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with holding_read_lock(), pytest.raises(IsADirectoryError):
        read_cached(descriptor, 10, 0)
    os.close(descriptor)
