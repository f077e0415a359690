"""A rank that fails in any way and phase: the log and status of rank 0 have its reason, and no rank is left running."""

from functools import partial

import pytest

from engine import distributed
from engine.distributed import joining
from tests.support import tiny
from tests.support.ranks import faults, forked
from tests.support.ranks.faults import fail_at

MADE = "rank 1: RuntimeError: a fault that a test has made"
DIED = "rank 1 died without a message: rank 1 was "
CASES = [  # phase, how rank 1 fails, what rank 0 waits in meanwhile
    ("training", "raise", MADE),  # DDP's backward
    ("training", "kill", DIED),
    ("evaluation", "raise", MADE),  # sums over the ranks
    ("evaluation", "kill", DIED),
    ("buffers", "raise", MADE),  # the broadcast of buffers
    ("buffers", "kill", DIED),
    ("start-up", "raise", MADE),  # a collective of all ranks
    ("start-up", "kill", DIED),
    ("save", "raise", MADE),
    ("joining", "raise", MADE),  # the second group
]


def arm(phase, how):
    """Let rank 1 fail in a phase, after three steps where it trains."""
    if phase in ("buffers", "joining"):
        owner, name = {"buffers": (distributed, "share_buffers"), "joining": (joining.dist, "new_group")}[phase]
        faults.PLACES[phase] = [(owner, name)]
    fail_at(1, 0 if phase in ("start-up", "joining") else 3, phase, how)


@pytest.mark.slow
@pytest.mark.parametrize(("phase", "how", "reason"), CASES, ids=lambda value: value if " " not in value else "")
def test_the_reason_of_a_rank_that_fails_is_in_the_status_and_in_the_log(tmp_path, phase, how, reason):
    config = tiny.config(train={"runs": str(tmp_path), "batch": 12, "epochs": 1, "log_every": 1})
    processes = forked.start(config, 2, partial(arm, phase, how))
    assert forked.finish(processes, patience=200) == 0
    assert all(process.exitcode for process in processes)
    said = forked.stderr(config, 0)
    assert reason in said and "Traceback" not in said
    if phase != "joining":  # before there is a folder
        status = forked.status(config)
        assert status["state"] == "failed" and reason in status["reason"]
        assert reason in (config.train.folder / "log.txt").read_text()


def test_the_functions_that_faults_precede_exist():
    assert all(callable(getattr(owner, name)) for places in faults.PLACES.values() for owner, name in places)
