"""Worker processes: crashes, hangs, errors and signals in what they run."""

import errno
import os
import signal
from pathlib import Path
from unittest.mock import Mock

import pytest

from dali_pipes.errors import DataError, Inaccessible
from dali_pipes.scan import processes
from dali_pipes.scan.processes import Call, Failure, call_all
from dali_pipes.storage.faults import StorageFault


def echo_or_die(word: str, number: int) -> str | int:
    """Do what the arguments say; worker processes import it from this module."""
    if word == "fail":
        raise (DataError("a.mp4", "no 0"), OSError("no 1"), MemoryError("no 2"), Inaccessible("b.mp4", "no 3"))[number]
    if word == "storage":
        raise StorageFault(errno.EIO, "storage fails", "a.mp4")
    if word == "mistake":
        raise TypeError("echo_or_die() got an unexpected keyword argument")
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "exit":
        os._exit(number)
    if word == "group":
        return os.getpgid(0)
    while word == "loop":
        pass
    return word * number


def answers(*arguments, count=2, seconds=60.0):
    calls = [Call(key, pair, seconds) for key, pair in enumerate(arguments)]
    return dict(call_all(echo_or_die, calls, count))


def test_every_call_has_one_result():
    assert answers(*[("ab", number) for number in range(200)]) == {number: "ab" * number for number in range(200)}


def test_results_larger_than_a_pipe_buffer_are_complete():
    assert answers(("x", 10_000_000))[0] == "x" * 10_000_000


def test_a_crash_fails_only_its_own_call():
    found = answers(("a", 1), ("die", 0), ("b", 1), ("exit", 3), ("c", 1), ("die", 0))
    assert [found[key] for key in (0, 2, 4)] == ["a", "b", "c"]
    assert [found[key] for key in (1, 3, 5)] == [
        Failure("crashed the scanner (SIGKILL)"),
        Failure("crashed the scanner (exit status 3)"),
        Failure("crashed the scanner (SIGKILL)"),
    ]


def test_an_endless_loop_is_ended_after_its_time():
    assert answers(("loop", 0), ("a", 1), count=1, seconds=1.0) == {0: Failure("no progress for 1 s"), 1: "a"}


def die_at_first(marker: str, number: int) -> int:
    """Get a signal in the first call with this marker, not in the second."""
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), number)
    return number


def test_a_call_is_made_once_more_if_its_process_was_paused_or_ended_from_outside(tmp_path):
    """A paused process reaches its time limit; the kernel sends SIGKILL if memory is short."""
    numbers = [signal.SIGALRM, signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV]
    calls = [Call(number, (str(tmp_path / str(number)), int(number)), 60.0) for number in numbers]
    found = dict(call_all(die_at_first, calls, 2))
    assert found.pop(signal.SIGSEGV) == Failure("crashed the scanner (SIGSEGV)")
    assert found == {number: number for number in numbers[:-1]}


def test_time_is_counted_while_a_call_is_worked_on_and_not_while_its_answer_waits():
    def seconds_left() -> float:
        return signal.getitimer(signal.ITIMER_REAL)[0]

    assert 0 < processes._guarded(seconds_left, (), 600.0) <= 600
    assert seconds_left() == 0


def test_progress_restarts_the_time_limit_of_a_call():
    def seconds_left_after_progress() -> float:
        signal.setitimer(signal.ITIMER_REAL, 300)  # as if as much time had passed
        processes.restart_time_limit()
        return signal.getitimer(signal.ITIMER_REAL)[0]

    assert 300 < processes._guarded(seconds_left_after_progress, (), 600.0) <= 600
    processes.restart_time_limit()
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0, "a program has no limit"


def test_an_error_that_an_input_can_cause_becomes_the_failure_of_its_call():
    assert answers(*(("fail", number) for number in range(4))) == {
        0: Failure("no 0", "a.mp4"),
        1: Failure("no 1", may_pass=True),
        2: Failure("no 2"),
        3: Failure("no 3", "b.mp4", may_pass=True),
    }


@pytest.mark.parametrize("kind", [TypeError, AttributeError, NameError, KeyError, ValueError, RuntimeError])
def test_errors_that_only_a_bug_causes_are_raised_and_are_no_failure(kind):
    with pytest.raises(kind, match="ours") as raised:
        processes.outcome(Mock(side_effect=kind("ours")), ("a.mp4",))
    assert raised.value.__notes__ == ["asked for ('a.mp4',)"]


def test_a_bug_in_the_function_is_a_traceback_and_no_result(capfd):
    with pytest.raises(RuntimeError, match="failed with a bug; its message is above"):
        answers(("a", 1), ("mistake", 0), ("b", 1), count=1)
    said = capfd.readouterr().err
    assert "TypeError: echo_or_die() got an unexpected keyword argument" in said
    assert "asked for ('mistake', 0)" in said


def test_ctrl_c_reaches_no_process_not_even_one_that_has_just_been_started():
    """A process that is still importing would print a traceback."""
    assert answers(("group", 0))[0] != os.getpgid(0)


def test_no_calls_start_no_process():
    assert answers(count=0) == {}


def test_processes_that_cannot_start_are_an_error_not_an_answer(monkeypatch):
    monkeypatch.setattr("sys.path", ["/nowhere"])
    with pytest.raises(RuntimeError, match="did not start"):
        answers(("a", 1))


def test_stopping_early_leaves_no_process():
    calls = (Call(key, ("a", 1), 60.0) for key in range(1000))
    before = child_processes()  # of other tests, such as the process that forks workers
    results = call_all(echo_or_die, calls, 2)
    next(results)
    assert len(child_processes() - before) == 2
    results.close()
    assert not child_processes() - before


def child_processes() -> set[str]:
    with open(f"/proc/self/task/{os.getpid()}/children") as children:
        return set(children.read().split())


def test_a_storage_fault_is_raised_and_is_not_the_failure_of_an_input():
    with pytest.raises(StorageFault, match="storage fails") as raised:
        answers(("a", 1), ("storage", 0))
    assert (raised.value.errno, raised.value.filename) == (errno.EIO, "a.mp4")
