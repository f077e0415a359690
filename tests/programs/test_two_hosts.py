"""Two hosts with separate addresses, one of which is cut off during a run: both runs end."""

import os
import time
from functools import partial

import pytest

from tests.support import tiny
from tests.support.ranks import forked, hosts
from tests.support.ranks.faults import fail_at

LIMIT = 10.0


@pytest.fixture
def two_hosts():
    try:
        with hosts.two_hosts() as pair:
            yield pair
    except OSError as error:
        pytest.skip(f"network namespaces are not allowed here: {error}")


def move_and_mark(pair):
    pair.enter(int(os.environ["RANK"]))
    fail_at(0, 4, "training", "nothing")


@pytest.mark.slow
def test_each_of_two_hosts_ends_by_itself_when_it_is_cut_off_from_the_other(two_hosts, tmp_path):
    train = {"runs": str(tmp_path), "batch": 12, "epochs": 400}
    config = tiny.config(train=train, runtime={"timeout": LIMIT})
    ranks = forked.start(config, 2, partial(move_and_mark, two_hosts), address=hosts.ADDRESSES[0])
    forked.wait_for_fault(config, 0)
    two_hosts.pull_the_cable()
    began = time.monotonic()
    assert forked.finish(ranks) == 0
    print(f"both had ended after {time.monotonic() - began:.1f} s, with a limit of {LIMIT:g} s")
    assert [rank.exitcode for rank in ranks] == [75, 75]
    assert "rank 1 does not answer" in forked.status(config)["reason"]
    assert "rank 0, or torchrun on its host, does not answer" in forked.stderr(config, 1)
