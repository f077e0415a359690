"""Measurements in rounds, in a process that may crash."""

import ctypes
import os
import sys
from types import SimpleNamespace

from benchmarks.harness.measure import GpuLost, alternate, isolated, spread
from dali_pipes.scan.processes import Call, Failure


def act(word: str):
    """Do what the word says; the measuring process runs it."""
    if word == "die":
        os.abort()
    if word.startswith("hang "):
        with open(word.removeprefix("hang "), "a") as file:
            file.write("called\n")
        ctypes.CDLL(None).sleep(600)
    if word == "fail":
        raise ValueError("no")
    if word == "lose":  # as after a GPU error: nothing works in this process any more
        sys.modules["torch"] = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True, synchronize=broken))
        broken()
    if word == "fresh":
        return "torch" not in sys.modules
    return word


def broken():
    raise RuntimeError("lost")


def test_a_case_that_crashes_or_fails_affects_no_other():
    words = ["a", "die", "b", "fail", "c"]
    answers = dict(isolated([Call(place, (act, word), 60) for place, word in enumerate(words)]))
    assert [answers[place] for place in (0, 2, 4)] == ["a", "b", "c"]
    assert answers[1] == Failure("crashed the scanner (SIGABRT)")
    assert answers[3] == Failure("no")


def test_a_case_that_has_had_its_time_is_not_repeated(tmp_path):
    calls = tmp_path / "calls"
    assert dict(isolated([Call(0, (act, f"hang {calls}"), 1)])) == {0: Failure("no progress for 1 s")}
    assert calls.read_text() == "called\n"


def test_after_a_lost_gpu_the_other_cases_run_in_a_new_process():
    words = ["a", "lose", "fresh", "b"]
    answers = dict(isolated([Call(place, (act, word), 60) for place, word in enumerate(words)]))
    assert answers == {0: "a", 1: GpuLost("lost"), 2: True, 3: "b"}


def test_groups_run_in_order_with_each_case_in_every_round_until_it_fails():
    wanted = [{"x": (act, "a"), "y": (act, "fail")}, {"z": (act, "b")}]
    answers = list(alternate(wanted, seconds=60, most=3, patience=lambda: 60))
    assert answers == [{"x": ["a"] * 3, "y": Failure("no")}, {"z": ["b"] * 3}]


def test_without_time_no_case_is_called():
    assert list(alternate([{"x": (act, "a")}], seconds=0, most=3, patience=lambda: 60)) == [{"x": []}]


def test_spread_is_the_median_and_the_quartiles_between_the_extremes():
    assert spread([5.0, 1.0, 2.0, 4.0, 3.0]) == (3.0, [2.0, 4.0])
