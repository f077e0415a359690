"""A step never makes the host wait for the device: by an audit of the profile on a CPU, by torch on a GPU."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from engine import loaders, runtime
from engine.train import training
from engine.train.fit import Trainer
from engine.train.interrupt import Interrupt
from engine.train.step import Tally
from tests.support import tiny

# Operations that read numbers of a tensor on the host, or whose result's shape depends on them: on a GPU each waits.
WAITS = {
    "aten::item", "aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero", "aten::equal", "aten::unique",
    "aten::masked_select", "aten::bincount", "aten::repeat_interleave",
}  # fmt: skip


def run_of(steps, monkeypatch, device="cpu", **sections):
    """Return a tiny run of one epoch of `steps` steps with one log line at its end and a scaled loss, as on a GPU."""
    train = sections.pop("train", {})
    config = tiny.config(train={"log_every": steps, "epochs": 1, "eval_every": 0, **train}, **sections)
    loader = tiny.RowLoader(4 * steps, 4)
    monkeypatch.setattr(loaders, "has_val", lambda _: False)
    monkeypatch.setattr(runtime, "grad_scaler", lambda _: torch.amp.GradScaler(device, enabled=True))
    return training.build(config, open_loader=lambda *_, **__: tiny.on_device(loader, device))


def waits(run):
    """Count the waits of a whole run, by operation."""
    with Interrupt() as interrupt, profile(activities=[ProfilerActivity.CPU]) as profiled:
        Trainer(run, None).fit(interrupt)
    return {event.key: event.count for event in profiled.key_averages() if event.key in WAITS}


RULES = [{}, {"clip_norm": 0.0}, {"label_smoothing": 0.1}, {"nesterov": True}, {"ema": 0.9}, {"accumulate": 2}]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_more_steps_between_log_lines_wait_no_more_often(monkeypatch, rule):
    few = waits(run_of(2, monkeypatch, **sections(rule)))
    many = waits(run_of(5, monkeypatch, **sections(rule)))
    assert few and few == many


def sections(settings):
    """Return settings of training and of the optimizer by their sections."""
    training = {name: value for name, value in settings.items() if hasattr(tiny.CONFIG.train, name)}
    return {"train": training, "optim": {name: settings[name] for name in settings.keys() - training.keys()}}


ON_GPU = [({}, 1), ({"ema": 0.9, "accumulate": 2}, 1), ({"mixup": 0.2}, 1), ({"cutmix": 1.0}, 2)]


@pytest.mark.gpu
@pytest.mark.parametrize("train, repeats", ON_GPU, ids=str)
def test_torch_finds_no_wait_in_a_run_on_a_gpu(monkeypatch, train, repeats):
    """Mixing draws on the host: the audit above takes its numbers for numbers of the device, torch does not."""
    sections = {"model": {"backbone": "resnet50"}, "runtime": {"device": "cuda", "precision": "fp16"}, "train": train}
    sections["clip"] = {"size": 16, "repeats": repeats}
    run = run_of(6, monkeypatch, device="cuda", **sections)
    steps = iter(run.train_loader.epoch(0))
    tally = Tally(run.device)
    run.take_step(next(steps), tally)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in steps:
            run.take_step(batch, tally)
    finally:
        torch.cuda.set_sync_debug_mode("default")
