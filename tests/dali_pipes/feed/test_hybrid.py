"""Two decode heads at once: each batch is one head's, bit for bit, and all are in their order."""

import itertools
import threading

import numpy as np
import pytest

from dali_pipes import build_loader
from dali_pipes.feed.runners import HybridRunner
from tests.support.loading import arrays, assert_same, make_config, read, with_section, write_set


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = make_config(write_set(tmp_path_factory.mktemp("videos"), "libvpx-vp9"))
    return with_section(config, "train", batch=2)  # six steps an epoch


def decoded_by(config, decoder, share="auto"):
    return with_section(config, "data", decoder=decoder, cpu_share=share)


@pytest.mark.parametrize(
    ("share", "cpus"), [(0.0, set()), (0.5, {1, 3, 5, 7, 9, 11}), (0.3, {3, 6, 9}), (1.0, set(range(12)))]
)
def test_each_batch_is_that_of_the_head_whose_turn_it_is(config, share, cpus):
    for epoch in range(2):
        of_head = {head: read(decoded_by(config, head), epoch=epoch) for head in ("pyav", "dali_cpu")}
        heads = ["pyav" if 6 * epoch + step in cpus else "dali_cpu" for step in range(6)]
        expected = [of_head[head][step] for step, head in enumerate(heads)]
        assert_same(read(decoded_by(config, "hybrid", share), epoch=epoch), expected)


def test_an_epoch_can_start_at_any_step(config):
    config = decoded_by(config, "hybrid", 0.4)
    whole = read(config, epoch=1)
    for start in range(6):
        assert_same(whole[start:], read(config, epoch=1, start=start))


def test_epochs_follow_one_another(config):
    config = decoded_by(config, "hybrid", 0.4)
    loader = build_loader(config, "train")
    for epoch in range(3):
        assert_same(list(map(arrays, loader.epoch(epoch))), read(config, epoch=epoch))
    loader.close()


def test_the_share_is_measured_where_none_is_asked_for(config):
    loader = build_loader(decoded_by(config, "hybrid"), "train")
    rows = [batch.index_B.tolist() for batch in loader.epoch(0)]
    share = loader._runner.cpu_share
    assert 0 < share < 1
    assert rows == [row_B.tolist() for *_, row_B in read(config)]
    list(loader.epoch(3))
    assert loader._runner.cpu_share == share
    loader.close()


def test_a_pause_measures_no_share_and_changes_no_batch(config):
    loader = build_loader(decoded_by(config, "hybrid"), "train")
    loader.pause()
    assert loader._runner.cpu_share is None
    loader.close()
    loader = build_loader(decoded_by(config, "hybrid", 0.4), "train")
    next(iter(loader.epoch(0)))
    loader.pause()
    assert_same(list(map(arrays, loader.epoch(0, 1))), read(decoded_by(config, "hybrid", 0.4), start=1))
    loader.close()


def test_the_faster_head_gets_the_larger_part(config, monkeypatch):
    clock = iter([0.0, 3.0, 3.0, 4.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    loader = build_loader(decoded_by(config, "hybrid"), "train")
    assert isinstance(loader._runner, HybridRunner)
    loader._runner.begin(iter([(0, 0)]))
    assert loader._runner.cpu_share == 0.25
    loader.close()


def test_what_a_head_does_once_to_begin_with_is_no_part_of_its_share(monkeypatch):
    clock = [0.0]

    class Runner:
        """Takes so many seconds for its first batch, and so many for each that follows."""

        plan = None

        def __init__(self, *seconds):
            self.seconds = itertools.chain(seconds, itertools.repeat(seconds[-1]))

        def begin(self, places):
            self.coming = places

        def next(self):
            place = next(self.coming, None)
            clock[0] += next(self.seconds) if place else 0
            return place

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    hybrid = HybridRunner(Runner(3), Runner(100, 1), None)
    assert hybrid._measure([(0, 0), (0, 1)]) == 0.25


def test_what_either_head_cannot_read_is_named(config, tmp_path):
    config = make_config(write_set(tmp_path, "libvpx-vp9"))
    for row in (5, 9):  # of the second batch, which is the CPU's, and of the third, which is not
        (tmp_path / f"{row}.mp4").unlink()
    loader = build_loader(decoded_by(config, "hybrid", 0.5), "val")
    rows = np.concatenate([batch.index_B.numpy() for batch in loader.epoch(0)])
    assert sorted(set(rows.tolist())) == [-1, *(row for row in range(13) if row not in (5, 9))]
    assert sorted(bad.row for bad in loader.unreadable) == [5, 9]
    loader.close()


def test_a_closed_loader_leaves_no_thread_of_either_head(config):
    before = set(threading.enumerate())
    loader = build_loader(decoded_by(config, "hybrid", 0.5), "train")
    list(loader.epoch(0))
    assert set(threading.enumerate()) > before
    loader.close()
    assert set(threading.enumerate()) <= before


def test_a_share_is_a_fraction(config):
    assert [name for name, _ in decoded_by(config, "hybrid", 1.5).problems()] == ["data.cpu_share"]
