"""Checkpoints written while training continues."""

import threading

import pytest
import torch

from engine.runs import checkpoint, checkpoint_files
from engine.runs.saver import Saver, on_host
from models import CheckpointError


def state(value):
    return {"model": {"weight": torch.full((4,), float(value))}, "step": value}


def test_a_checkpoint_holds_the_state_at_the_start_of_its_saving(tmp_path, monkeypatch):
    go, save = threading.Event(), checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda *given, **how: go.wait() and save(*given, **how))
    saver, content = Saver(tmp_path, keep=2), state(1)
    saver.start(1, content)
    assert saver.busy
    content["model"]["weight"] += 7  # the next step
    go.set()
    assert saver.finish() == 1 and not saver.busy
    assert checkpoint.load(checkpoint_files.latest(tmp_path))["model"]["weight"].tolist() == [1.0] * 4


def test_only_the_newest_are_kept(tmp_path):
    saver = Saver(tmp_path, keep=2)
    for step in (1, 2, 3):
        saver.start(step, state(step))
    assert saver.finish() == 3
    assert [path.name for path in checkpoint_files.steps(tmp_path)] == ["step-00000003.pt", "step-00000002.pt"]


def test_a_failed_save_is_a_warning_and_the_next_one_succeeds(tmp_path, monkeypatch, caplog):
    saver, save = Saver(tmp_path, keep=2), checkpoint.save
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", lambda *given, **how: (_ for _ in ()).throw(CheckpointError("disk full")))
        saver.start(1, state(1))
        assert saver.finish() is None
    assert "disk full; training continues and tries again" in caplog.messages
    saver.start(2, state(2))
    assert saver.finish() == 2
    assert checkpoint.save is save


@pytest.mark.parametrize("content", [{"a": [torch.ones(2), (1, "x")], "b": None}])
def test_everything_but_tensors_is_kept_as_it_is(content):
    copied = on_host(content)
    assert copied["a"][1] == (1, "x") and copied["b"] is None
    assert copied["a"][0] is not content["a"][0] and torch.equal(copied["a"][0], content["a"][0])
