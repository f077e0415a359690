"""The clock of a training, with a time that the tests set."""

import pytest
import torch

from engine.train import clock
from engine.train.clock import Clock, Times


class Hands:
    """A stand-in for the module `time`."""

    now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def hands(monkeypatch):
    moved = Hands()
    monkeypatch.setattr(clock, "time", moved)
    return moved


def batches(hands, waits):
    for wait in waits:
        hands.now += wait
        yield wait


def test_waiting_counts_as_data_and_the_rest_as_step(hands):
    watch = Clock(torch.device("cpu"), clips_per_step=10, warmup=0)
    for _ in watch.fetch(batches(hands, [1, 2, 3])):
        hands.now += 4
    times = watch.read()
    assert times == Times(data=6, step=12, steps=3, clips=30)
    assert times.clips_per_second == pytest.approx(30 / 18)
    assert times.data_fraction == pytest.approx(6 / 18)
    assert times.seconds_per_step == pytest.approx(6)


def test_warm_up_is_not_counted(hands):
    watch = Clock(torch.device("cpu"), clips_per_step=1, warmup=2)
    for wait in watch.fetch(batches(hands, [50, 60, 1])):
        hands.now += wait
    assert watch.read() == Times(data=1, step=1, steps=1, clips=1)


def test_before_anything_is_counted_there_are_no_rates(hands):
    times = Clock(torch.device("cpu"), clips_per_step=1).read()
    assert (times.clips_per_second, times.data_fraction, times.seconds_per_step) == (None, None, None)


def test_pauses_are_neither_data_nor_step(hands):
    watch = Clock(torch.device("cpu"), clips_per_step=1, warmup=0)
    for _ in watch.fetch(batches(hands, [1, 1])):
        hands.now += 2
        with watch.pause():
            hands.now += 1000
    assert watch.read() == Times(data=2, step=4, steps=2, clips=2)
    assert watch.paused == 2000


def test_time_between_epochs_is_not_counted(hands):
    watch = Clock(torch.device("cpu"), clips_per_step=1, warmup=0)
    for _ in range(2):
        for _ in watch.fetch(batches(hands, [1])):
            hands.now += 2
        hands.now += 500
    assert watch.read() == Times(data=2, step=4, steps=2, clips=2)


def test_an_epoch_left_early_counts_its_last_step(hands):
    watch = Clock(torch.device("cpu"), clips_per_step=1, warmup=0)
    for _ in watch.fetch(batches(hands, [1, 1, 1])):
        hands.now += 2
        break
    assert watch.read() == Times(data=1, step=2, steps=1, clips=1)


def test_reading_restarts_the_interval_but_not_the_total(hands):
    watch = Clock(torch.device("cpu"), clips_per_step=1, warmup=0)
    reads = []
    for _ in watch.fetch(batches(hands, [1, 1])):
        reads.append(watch.read())  # in the middle of a step: it belongs to the next read
        hands.now += 2
    reads.append(watch.read())
    assert [times.steps for times in reads] == [0, 1, 1]
    assert watch.total == Times(data=2, step=4, steps=2, clips=2)


@pytest.mark.gpu
def test_waiting_while_the_gpu_is_busy_does_not_count_as_data():
    """The host waits 20 ms for each batch, but the GPU has work for longer than that."""
    import time

    device = torch.device("cuda")
    x = torch.randn(8192, 8192, device=device)
    (x @ x).sum().item()

    def slow_batches():
        for _ in range(5):
            time.sleep(0.02)
            yield None

    watch = Clock(device, clips_per_step=1, warmup=1)
    for _ in watch.fetch(slow_batches()):
        for _ in range(20):
            x @ x
    assert watch.read().data_fraction < 0.1
