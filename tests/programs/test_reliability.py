"""Small samples of what `python -m tests.programs.reliability` measures at length."""

import random

import pytest

from tests.programs.reliability import fault_loops, kill_loops, long_runs
from tests.programs.reliability.__main__ import together


def test_a_run_of_two_ranks_that_is_killed_resumes_to_identical_weights():
    found = kill_loops.kill_runs(2, 1, random.Random(0))
    assert (found["before_the_end"], found["bit_identical"], found["orphans"]) == (1, 1, 0)


@pytest.mark.slow
def test_a_stall_in_any_phase_of_any_rank_is_named_in_time_and_leaves_no_process():
    found = fault_loops.stalls(1, random.Random(0))
    assert (found["named_in_time"], found["orphans"]) == (12, 0), found["missed"]


@pytest.mark.slow
def test_a_signal_ends_a_run_cleanly_in_any_phase():
    found = fault_loops.signals(6, random.Random(0))
    assert (found["clean"], found["bit_identical_after_resuming"]) == (6, 6), found["not_clean_or_slow"]


@pytest.mark.slow
def test_half_a_minute_without_storage_quarantines_no_video_and_changes_no_weight():
    found = fault_loops.outages(2, random.Random(0))
    assert found == {"outages": 2, "noticed": 2, "survived_bit_identical": 2, "with_a_quarantine": 0}


@pytest.mark.slow
def test_memory_descriptors_and_threads_stay_as_they_were_after_the_first_evaluation():
    found = long_runs.memory(240, random.Random(0))
    assert (found["finished"], found["orphans"], found["steps"]) == (True, 0, 240)
    assert found["growth_percent"] < 1, found["resident_mib"]
    assert found["descriptors"][0] == found["descriptors"][1] and found["threads"][0] == found["threads"][1]


@pytest.mark.slow
def test_steps_are_timed_during_saves_and_without():
    found = long_runs.saves(2, random.Random(0))
    assert found["steps"] == 2 and found["seconds_of_a_step"] > 0
    assert len(found["step_during_a_save_over_one_without"]) == 3


def test_figures_of_several_runs_are_merged():
    some = {"kills": 3, "slowest_s": 1.5, "missed": ["a"]}
    assert together({}, some) == some
    assert together(some, {"kills": 2, "slowest_s": 0.5, "missed": ["b"]}) == {
        "kills": 5,
        "slowest_s": 1.5,
        "missed": ["a", "b"],
    }
