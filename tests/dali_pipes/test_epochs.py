"""Consecutive epochs: the first batches of the next epoch are prepared early, and are correct."""

import itertools
import threading
from collections import Counter

import pytest

from dali_pipes.views.plans import EvalPlan, TrainPlan
from tests.support import loading
from tests.support.loading import arrays, assert_same, build_loader, read, with_section

STEPS = 3  # steps of an epoch: 13 videos in batches of 4


config, loader = loading.config, loading.loader


@pytest.fixture
def drawn(monkeypatch):
    """Return the count of draws of each place."""
    count = Counter()
    for plan in (TrainPlan, EvalPlan):

        def draw(self, epoch, step, plain=plan.draw):
            count[epoch, step] += 1
            return plain(self, epoch, step)

        monkeypatch.setattr(plan, "draw", draw)
    return count


def take(batches, count=None):
    """Return the next `count` batches, or all that are left, as arrays."""
    return list(map(arrays, itertools.islice(batches, count)))


def test_epochs_in_a_row_are_those_of_a_fresh_loader_whatever_is_evaluated_between(config, loader):
    evaluation = build_loader(config, "val")
    expected = read(config, "val")
    for epoch in range(3):
        assert_same(take(loader.epoch(epoch)), read(config, epoch=epoch))
        assert_same(take(evaluation.epoch(0)), expected)
    evaluation.close()


def test_the_next_epoch_is_prepared_early_and_once(loader, drawn):
    take(loader.epoch(0))
    assert drawn[1, 0] == 1
    take(loader.epoch(1))
    assert {drawn[epoch, step] for epoch in range(2) for step in range(STEPS)} == {1}


def test_an_interrupted_epoch_continues_at_the_same_step(config, loader, drawn):
    first = take(loader.epoch(0), 1)
    assert_same(first + take(loader.epoch(0, start=1)), read(config))
    assert drawn[0, 0] == 2  # here and in the loader that it is compared with


@pytest.mark.parametrize("place", [(5, 0), (0, 0), (1, 2)])
def test_an_epoch_out_of_order_discards_prepared_batches(config, loader, place):
    take(loader.epoch(0))
    assert_same(take(loader.epoch(*place)), read(config, epoch=place[0], start=place[1]))


def test_two_iterators_at_once_give_each_its_own_batches(config, loader):
    one, other = loader.epoch(0), loader.epoch(1)
    taken = [(take(one, 1), take(other, 1)) for _ in range(STEPS)]
    for epoch, mine in enumerate(zip(*taken, strict=True)):
        assert_same([batch for batches in mine for batch in batches], read(config, epoch=epoch))


@pytest.mark.parametrize("split", ["val", "train"])
def test_nothing_is_prepared_behind_an_evaluation_or_the_last_epoch(config, drawn, split):
    loader = build_loader(with_section(config, "train", epochs=1), split)
    count = len(take(loader.epoch(0)))
    loader.close()
    assert dict(drawn) == {(0, step): 1 for step in range(count)}


def test_an_unused_prepared_epoch_stops_and_leaves_no_thread(config, drawn):
    before = set(threading.enumerate())
    loader = build_loader(config, "train")
    take(loader.epoch(0))
    loader.close()
    assert set(threading.enumerate()) <= before
    ahead = config.runtime.prefetch + 1 + 2  # those of the threads, the one that they have ready, and DALI's
    assert sum(drawn.values()) <= STEPS + ahead


def test_a_paused_loader_prepares_nothing_and_gives_the_same_batches_when_asked_again(config, loader, drawn):
    take(loader.epoch(0))
    loader.pause()
    before, threads = drawn.copy(), loader._runner._feeder._pool
    threads.submit(int).result()  # behind cancelled work, which the threads have not removed yet
    assert threads._work_queue.empty()
    again = take(loader.epoch(1))
    assert drawn[1, 0] == before[1, 0] + 1, "what was prepared is dropped"
    assert_same(again, read(config, epoch=1))
