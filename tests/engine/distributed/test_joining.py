"""Ranks join through a store that may contain entries of an earlier start."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from engine.distributed import joining
from engine.distributed.joining import PeerLost


def start(store, ranks, limit=60.0, dead=()):
    """Return the number of the start that each living rank learns, or its error."""

    def run(rank):
        try:
            if rank == 0:
                return joining._welcome_all(store, ranks, limit)
            return joining._be_welcomed(store, rank, limit)
        except PeerLost as error:
            return str(error)

    living = [rank for rank in range(ranks) if rank not in dead]
    with ThreadPoolExecutor(ranks) as pool:
        return dict(zip(living, pool.map(run, living), strict=True))


def test_every_start_in_one_store_has_its_own_number():
    store = dist.HashStore()
    assert start(store, 3) == {0: 1, 1: 1, 2: 1}
    assert start(store, 2) == {0: 2, 1: 2}
    assert start(store, 3) == {0: 3, 1: 3, 2: 3}


def test_a_rank_waits_for_the_living_rank_0_and_not_for_what_a_dead_one_has_left():
    store = dist.HashStore()
    start(store, 2)
    assert start(store, 2, limit=0.5, dead=[0]) == {1: "rank 0 did not start within 0.5 s (twice runtime.timeout)"}


def test_rank_0_names_the_ranks_that_do_not_start():
    found = start(dist.HashStore(), 4, limit=0.5, dead=[1, 3])
    assert found[0] == "rank 1, 3 did not start within 0.5 s (twice runtime.timeout)"


def test_a_store_without_a_server_is_a_lost_rank(monkeypatch):
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setitem(os.environ, name, value)
    with pytest.raises(PeerLost, match=r"not all ranks started within 0\.2 s"):
        joining._connect(0.2)
