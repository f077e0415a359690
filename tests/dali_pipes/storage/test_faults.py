"""Storage that fails temporarily, permanently, for one file and for many."""

import errno
import os
from contextlib import nullcontext

import pytest

from dali_pipes.cut import reading
from dali_pipes.errors import DataError
from dali_pipes.storage import faults
from dali_pipes.storage.faults import StorageFault, with_retries


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """Return the list of pauses between retries, which take no time."""
    made = []
    monkeypatch.setattr(faults.program_ends, "wait", made.append)
    monkeypatch.setattr(faults, "_failing", set())
    monkeypatch.setattr(faults, "_given_up", {})
    return made


def failing(times, number=errno.EIO):
    """Return a function that fails so many times, then returns 7."""
    left = iter(range(times))

    def call():
        if next(left, None) is not None:
            raise OSError(number, os.strerror(number))
        return 7

    return call


@pytest.mark.parametrize("number", faults.FAULTS)
def test_a_temporary_fault_is_retried_and_logged_once(pauses, caplog, number):
    assert with_retries("a.mp4", nullcontext, failing(3, number)) == 7
    assert pauses == [0.5, 1.0, 2.0]
    assert caplog.messages == [f"a.mp4: {os.strerror(number)}; trying again for 60 s"]


def test_other_errors_are_not_waited_for(pauses):
    with pytest.raises(OSError, match="Permission denied"):
        with_retries("a.mp4", nullcontext, failing(1, errno.EACCES))
    assert pauses == []


def test_a_few_failing_files_are_given_up_and_many_at_once_are_a_storage_fault(pauses, monkeypatch):
    for path in ("a.mp4", "b.mp4", "c.mp4"):
        with pytest.raises(OSError) as one:
            with_retries(path, nullcontext, failing(99))
        assert not isinstance(one.value, StorageFault)
    assert sum(pauses) == 3 * 60.5
    with pytest.raises(StorageFault, match="and so for 3 other files: storage fails"):
        with_retries("d.mp4", nullcontext, failing(99))
    later = faults.time.monotonic() + 3600
    monkeypatch.setattr(faults.time, "monotonic", lambda: later)
    with pytest.raises(OSError) as alone:
        with_retries("e.mp4", nullcontext, failing(99))
    assert not isinstance(alone.value, StorageFault)


def test_a_range_is_read_once_the_storage_answers_and_is_unreadable_if_it_never_does(tmp_path, monkeypatch):
    from types import SimpleNamespace

    video = SimpleNamespace(path=str(tmp_path / "a.mp4"), start_byte=0)
    blip = failing(2)

    def read(descriptor, size, offset):
        blip()
        return b"x" * size

    assert reading.read_range(video, -1, 0, 5, read) == b"xxxxx"
    with pytest.raises(DataError, match=r"cannot be read at byte 0 \(Input/output error\)"):
        reading.read_range(video, -1, 0, 5, lambda *_: failing(99)())


def test_the_read_lock_is_free_while_a_thread_waits_for_the_storage(pauses, monkeypatch):
    from types import SimpleNamespace

    free = []
    monkeypatch.setattr(faults.program_ends, "wait", lambda pause: free.append(not reading._read_lock.locked()))
    monkeypatch.setattr(os, "preadv", lambda *how: 0)
    blip = failing(1)
    monkeypatch.setattr(os, "pread", lambda descriptor, size, offset: blip() and b"x" * size)
    with reading.holding_read_lock():
        assert reading.read_range(SimpleNamespace(path="a.mp4", start_byte=0), -1, 0, 3, reading.read_cached) == b"xxx"
    assert free == [True]
