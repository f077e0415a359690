"""The threads that prepare batches: the division of work, the memory they keep, and how they end."""

import itertools
import threading
import time

import pytest
import torch

from dali_pipes.feed import feeder as feed
from dali_pipes.feed.decoders import BLANK
from tests.support import loading
from tests.support.loading import build_loader, with_section

config, loader = loading.config, loading.loader


@pytest.mark.parametrize(
    ("batch", "threads", "most", "sizes"),
    [(13, 1, 16, [13]), (13, 2, 16, [6, 7]), (13, 4, 16, [1, 4, 4, 4]), (13, 1, 5, [3, 5, 5]), (2, 4, 16, [1, 1])],
)
def test_threads_share_a_batch_in_parts_that_are_not_too_large(config, monkeypatch, batch, threads, most, sizes):
    seen, prepare = [], feed.prepare
    monkeypatch.setattr(feed, "PART", most)
    monkeypatch.setattr(feed, "prepare", lambda videos, *rest: seen.append(len(videos)) or prepare(videos, *rest))
    config = with_section(with_section(config, "train", batch=batch), "runtime", threads=threads)
    loader = build_loader(config, "train")
    loader._runner.begin(iter([(0, 0)]))
    assert len(loader._runner.next()[0].samples) == batch
    loader.close()
    assert sorted(seen) == sizes


def test_samples_release_their_frames_after_the_clip_is_made(loader):
    loader._runner.begin(loader.plan.places(0, 0))
    prepared, clips_BVTHWC = loader._runner.next()
    assert prepared.clips_BVTHWC is clips_BVTHWC
    assert all(sample.content is BLANK for sample in prepared.samples)


def test_clip_threads_use_one_torch_thread_whatever_training_uses(loader):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        next(loader.epoch(0))
        assert loader._runner._feeder._pool.submit(torch.get_num_threads).result() == 1
    finally:
        torch.set_num_threads(before)


def test_preparation_of_dropped_batches_stops_early(config, monkeypatch):
    calls, dropped = [], threading.Event()
    ahead = 10
    loader = build_loader(with_section(config, "runtime", prefetch=ahead), "train")
    wanted = loader.plan.draw(0, 0).row_B
    unpatched_prepare, unpatched_wait = feed.prepare, feed.wait

    def prepare(videos, decoders, views, *more):
        calls.append(views)
        if not set(views.row_B) <= set(wanted):
            dropped.wait()
        return unpatched_prepare(videos, decoders, views, *more)

    def wait(running):
        dropped.set()  # all waiting work is cancelled
        unpatched_wait(running)

    monkeypatch.setattr(feed, "prepare", prepare)
    monkeypatch.setattr(feed, "wait", wait)
    next(loader.epoch(0))
    loader.close()
    assert len(calls) < ahead, "of two parts for each batch"


def test_an_error_in_one_thread_is_raised_after_the_other_threads_have_finished(loader, monkeypatch):
    *_, last_row = loader.plan.draw(0, 0).row_B
    begun, ended = threading.Event(), threading.Event()

    def prepare(videos, decoders, views, *more):
        if last_row in views.row_B:
            begun.set()
            time.sleep(0.3)
            ended.set()
        assert begun.wait(120), "work that has not begun is cancelled"
        raise ZeroDivisionError("nobody expected this")

    monkeypatch.setattr(feed, "prepare", prepare)
    with pytest.raises(ZeroDivisionError):
        next(loader.epoch(0))
    assert ended.is_set()


def test_an_iterator_that_outlives_the_threads_ends_at_once(loader):
    """An iterator may be deleted only when the interpreter exits; it must not wait for cancelled work."""
    feeder = loader._runner._feeder
    batches = feeder.batches(itertools.islice(loader.plan.places(0, 0), 12), 8)
    next(batches)
    feeder.close()
    closing = threading.Thread(target=batches.close, daemon=True)
    closing.start()
    closing.join(120)
    assert not closing.is_alive()
