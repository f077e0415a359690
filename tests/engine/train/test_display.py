"""The display of a training: the line of an epoch, the label of the bar, the remaining time."""

import re
from types import SimpleNamespace

import pytest

from engine.train import display
from engine.train.clock import Clock, Times
from tests.support import tiny


@pytest.fixture
def shown(monkeypatch):
    """Return the display at step 20 of 4 epochs of 10 steps, with 2 s a step and 30 s after each epoch."""
    training = SimpleNamespace(step=20, steps_per_epoch=10, total_steps=40, config=tiny.config(train={"epochs": 4}))
    clock = Clock(tiny.torch.device("cpu"), 4)
    clock.total, clock.paused = Times(data=5, step=35, steps=20, clips=80), 60.0
    shown = display.Display(training, clock)
    shown.epochs_ended = 2
    return shown


def test_the_time_that_is_left_counts_evaluations(shown):
    assert shown.seconds_left() == 20 * 2 + 2 * 30
    shown.training.step = 25
    assert shown.seconds_left() == 15 * 2 + 2 * 30
    shown.clock.total = Times()
    assert shown.seconds_left() is None


def test_the_bar_moves_at_every_step(shown, monkeypatch):
    moves = []
    monkeypatch.setattr(shown.bar, "update", lambda *position: moves.append(position))
    shown.newest = " loss 1.234 417 clips/s"
    shown.step()
    shown.training.step = 21
    shown.step()
    assert moves == [
        (20, 40, "ep 2/4 loss 1.234 417 clips/s", "1m40 left"),
        (21, 40, "ep 3/4 loss 1.234 417 clips/s", "1m38 left"),
    ]


def test_an_epoch_ends_in_a_line_of_its_means(shown):
    shown.tick(loss_sum=8.0, hits=3, clips=4)
    shown.tick(loss_sum=4.0, hits=0, clips=8)
    line = shown.end_epoch(" | val top1 50.00 * best")
    assert re.fullmatch(r"ep 2/4 trained loss 1\.000 top1 25\.0 in \d+s \| val top1 50\.00 \* best", line)
    assert shown.end_epoch("") == ""


def test_a_run_marks_its_best_epochs(tmp_path, caplog):
    settings = tiny.config(train={"runs": str(tmp_path), "epochs": 3})
    loaders = {"train": tiny.RowLoader(12, 4), "val": tiny.RowLoader(5, 4, train=False)}
    tiny.resume(settings, loaders)
    lines = [line for line in caplog.messages if " trained loss " in line]
    top1 = [float(re.search(r"val top1 ([\d.]+)", line)[1]) for line in lines]
    best = [max(top1[: place + 1]) > max(top1[:place], default=-1) for place in range(3)]
    assert [line.startswith(f"ep {epoch}/3 ") for epoch, line in enumerate(lines, start=1)] == [True] * 3
    assert [line.endswith(" * best") for line in lines] == best
