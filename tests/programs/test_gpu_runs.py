"""Whole runs on a GPU resume from their checkpoints."""

import os
import signal

import pytest
import torch

from engine.runs import checkpoint, checkpoint_files
from tests.support import tiny

pytestmark = pytest.mark.gpu

HOW = {"device": "cuda", "precision": "fp16"}


def run_in(folder, stop_before=None, **runtime):
    """Start or resume a run of two epochs of three steps; return whether it finished, and the training."""
    settings = tiny.config(train={"runs": str(folder), "ema": 0.9, "mixup": 0.2}, runtime={**HOW, **runtime})
    loaders = {"train": tiny.RowLoader(14, 4), "val": tiny.RowLoader(5, 4, train=False)}
    tiny.before_step(loaders["train"], stop_before, lambda batch: os.kill(os.getpid(), signal.SIGTERM))
    return tiny.resume(settings, {name: tiny.on_device(loader, HOW["device"]) for name, loader in loaders.items()})


def test_a_run_resumes_from_its_checkpoint_also_in_another_memory_format(tmp_path):
    _, stopped = run_in(tmp_path, stop_before=3)
    saved = checkpoint.load(checkpoint_files.latest(tmp_path / "tiny" / "checkpoints"))
    for part, module in (("model", stopped.model), ("ema", stopped.average.model)):
        for name, tensor in module.state_dict().items():
            assert tensor.is_cuda and torch.equal(saved[part][name], tensor.cpu())
    finished, training = run_in(tmp_path, channels_last=False)
    assert finished and training.step == 6
    assert all(tensor.isfinite().all() for tensor in tiny.weights_of(training).values())
    momenta = [entry["momentum_buffer"] for entry in training.optimizer.state.values()]
    assert all(momentum.is_cuda and momentum.any() for momentum in momenta)
    assert (tmp_path / "tiny" / "best.pt").exists()
