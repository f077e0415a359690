"""Values that are not finite: detected at a log line, never saved, named with videos and module; stop or skip."""

import json
import math
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from engine.runs import checkpoint, checkpoint_files
from engine.train import nonfinite, norms, training
from tests.support import tiny

STEPS = 3  # an epoch: 14 rows in batches of 4


class Trainer:
    """The tiny run in a folder, with settings of the section `train`."""

    def __init__(self, folder, **train):
        self.run = folder / "tiny"
        self.settings = tiny.config(train={"runs": str(folder), **train})

    def __call__(self, poisoned=(), row=slice(None)):
        """Train to the end with NaN clips in some steps; return the training."""
        loaders = {"train": tiny.RowLoader(14, 4), "val": tiny.RowLoader(5, 4, train=False)}
        for step in poisoned:
            tiny.before_step(loaders["train"], step, lambda batch: batch.clips_BVTCHW[row].fill_(math.nan))
        return tiny.resume(self.settings, loaders)[1]

    def metrics(self, name):
        lines = map(json.loads, (self.run / "metrics.jsonl").read_text().splitlines())
        return [line[name] for line in lines if line["_type"] == "train"]

    def saved(self):
        return [path.name for path in checkpoint_files.steps(self.run / "checkpoints")]


def test_a_loss_that_is_no_number_stops_the_run_and_is_never_saved(tmp_path):
    trainer = Trainer(tmp_path)
    with pytest.raises(FloatingPointError) as error:
        trainer(poisoned=[4], row=2)
    row = tiny.RowLoader(14, 4)._order(1)[4 + 2]
    for part in (
        "the loss is not finite, first in step 5, of ",
        f"clips are not finite: {row}.mp4; last good checkpoint: ",
        "step-00000003.pt; look at these videos",
    ):
        assert part in str(error.value)
    status = json.loads((trainer.run / "status.json").read_text())
    assert (status["state"], status["step"], status["reason"]) == ("failed", 5, str(error.value))
    assert trainer.saved() == ["step-00000003.pt"]


def test_the_first_module_is_named_where_the_clips_are_finite(tmp_path, monkeypatch):
    def broken(self, batch, tally):
        if self.step == 1:
            self.model.layer2[0].conv2.register_forward_hook(lambda *_: torch.full_like(_[2], math.inf))
        return take(self, batch, tally)

    take = training.Training.take_step
    monkeypatch.setattr(training.Training, "take_step", broken)
    with pytest.raises(FloatingPointError) as error:
        Trainer(tmp_path)()
    text = str(error.value)
    assert "first in step 2, of " in text and "there is no checkpoint yet" in text
    assert "the first module whose output is not finite: layer2.0.conv2 (" in text
    assert "what may help: a lower optim.lr" in text


@pytest.mark.parametrize("where", ["running_var", "momentum", "average"])
def test_a_tensor_that_is_no_number_stops_the_run_at_the_next_log_line_though_the_loss_is_one(tmp_path, where):
    """The next step does not read running statistics, momenta and the average."""
    trainer, seen = Trainer(tmp_path, ema=0.5), []
    take = training.Training.take_step

    def damaging(self, batch, tally):
        norm = take(self, batch, tally)
        if self.step == 4:
            momenta = [entry["momentum_buffer"] for entry in self.optimizer.state.values()]
            tensors = {"running_var": self.model.bn1.running_var, "momentum": momenta[-1]}
            tensors.get(where, self.average.model.fc.bias).data.fill_(math.nan)
            seen.append(where)
        return norm

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Training, "take_step", damaging)
        with pytest.raises(FloatingPointError, match="the first tensor that is not finite: "):
            trainer()
    assert seen and trainer.saved() == ["step-00000003.pt"]


def test_precise_statistics_that_are_no_numbers_stop_the_run_before_they_are_saved(tmp_path, monkeypatch):
    trainer = Trainer(tmp_path, precise_bn=2, precise_bn_every=1)
    make = norms.make_precise

    def breaking(model, *how):
        number = make(model, *how)
        model.bn1.running_mean.fill_(math.nan)
        return number

    monkeypatch.setattr(norms, "make_precise", breaking)
    with pytest.raises(FloatingPointError, match=r"first tensor that is not finite: model\.bn1\.running_mean"):
        trainer()
    assert trainer.saved() == [] and not (trainer.run / "best.pt").exists()


def test_a_skipped_step_changes_nothing_but_its_number(tmp_path, caplog):
    trainer = Trainer(tmp_path, on_nonfinite="skip", max_nonfinite=2, ema=0.5, log_every=1, epochs=1)
    seen = {}
    take = training.Training.take_step

    def watching(self, batch, tally):
        before = [
            tensor.clone() for _, tensor in checkpoint.named_tensors(self.learned()) if tensor.is_floating_point()
        ]
        norm = take(self, batch, tally)
        after = [tensor for _, tensor in checkpoint.named_tensors(self.learned()) if tensor.is_floating_point()]
        seen[self.step] = [torch.equal(one, other) for one, other in zip(before, after, strict=True)]
        assert all(tensor.isfinite().all() for tensor in after)
        return norm

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Training, "take_step", watching)
        under_way = trainer(poisoned=[1])
    network = len(under_way.model.state_dict()) - sum("num_batches" in name for name in under_way.model.state_dict())
    assert all(seen[2][:network]) and not any(seen[3][:network])
    assert (under_way.step, under_way.skipped) == (STEPS, 1)
    assert trainer.metrics("left_out") == [0, 1]  # no line for a step without a readable clip
    assert all(loss is not None for loss in trainer.metrics("loss"))
    assert any("skipped, 1 of at most 2" in line for line in caplog.messages)


def test_a_run_ends_after_the_most_steps_that_it_may_leave_out_counted_over_all_its_starts(tmp_path):
    trainer = Trainer(tmp_path, on_nonfinite="skip", max_nonfinite=2, log_every=1, epochs=1)
    trainer(poisoned=[0, 2])
    trainer.settings = Trainer(tmp_path, on_nonfinite="skip", max_nonfinite=2, log_every=1).settings
    with pytest.raises(FloatingPointError, match=r"3 steps were skipped, more than train\.max_nonfinite=2"):
        trainer(poisoned=[4])


@pytest.mark.parametrize(("scale", "stops"), [(2**-11, True), (2**-9, False)])
def test_a_run_whose_every_gradient_overflows_in_fp16_is_stopped(scale, stops):
    under_way = SimpleNamespace(
        device=torch.device("cpu"), config=tiny.config(), step=5, scaler=torch.amp.GradScaler("cpu", init_scale=scale)
    )
    under_way.scaler.scale(torch.ones(()))  # earlier it has no scale
    expected = pytest.raises(FloatingPointError, match="fp16 gradients overflow at every step up to 5")
    with expected if stops else nullcontext():
        nonfinite.check(under_way, nonfinite.Found(3, 0, None), [], None)
