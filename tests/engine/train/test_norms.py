"""Batch norms in training: precise statistics before an evaluation, and frozen norms (train.partial_bn).

For several ranks see test_distributed.py.
"""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from configs import ConfigError, load
from engine.train.norms import count_together, make_precise
from models import Recognizer
from tests.support import tiny


def test_precise_statistics_are_the_mean_over_the_batches():
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    nn.init.constant_(model[0].running_mean, 7)
    batches = [torch.randn(4, 2, 5, 5) * number for number in (1, 2, 3)]
    seen = [model[0](batch) for batch in batches]  # changes the running averages
    counted = model[0].num_batches_tracked.clone()
    assert make_precise(model, iter(batches), nullcontext) == 3
    for norm, inputs in ((model[0], batches), (model[2], [model[1](x) for x in seen])):
        means = torch.stack([x.mean((0, 2, 3)) for x in inputs]).mean(0)
        variances = torch.stack([x.var((0, 2, 3)) for x in inputs]).mean(0)
        torch.testing.assert_close(norm.running_mean, means, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(norm.running_var, variances, atol=1e-5, rtol=1e-5)
        assert norm.momentum == 0.1
    assert model[0].num_batches_tracked == counted


def test_precise_statistics_take_a_batch_in_as_many_parts_as_a_step(tmp_path, monkeypatch):
    """So they need no more memory than a step."""
    sizes, forward = [], Recognizer.forward

    def seen(model, clips):
        if model.training and not torch.is_grad_enabled():
            sizes.append(len(clips))
        return forward(model, clips)

    monkeypatch.setattr(Recognizer, "forward", seen)
    run(tmp_path, epochs=1, accumulate=2)
    assert sizes == [2, 2, 2, 2]  # two batches of 4 clips


def test_norms_that_do_not_count_are_torchs_in_everything_else():
    torch.manual_seed(0)
    x_NCHW = torch.randn(4, 2, 5, 5)
    plain, uncounted = (nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2).eval()) for _ in range(2))
    counts = count_together(uncounted)
    assert torch.equal(plain(x_NCHW), uncounted(x_NCHW)) and [int(count) for count in counts] == [0]
    torch._foreach_add_(counts, 1)
    torch.testing.assert_close(uncounted.state_dict(), plain.state_dict(), rtol=0, atol=0)


def run(folder, **train):
    """Train a run with precise statistics at each second epoch and at the end; return it at its end."""
    return tiny.finished_run(folder, **{"precise_bn": 2, "precise_bn_every": 2, **train})


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_a_run_computes_precise_statistics_before_each_evaluation(tmp_path, ema, caplog):
    under_way = run(tmp_path, epochs=3, ema=ema)
    epochs = under_way.train_loader.epochs
    assert epochs == [(0, 0), (1, 0), (1, 0), (2, 0), (2, 0)]
    assert sum("computed over 2 batches per rank" in line for line in caplog.messages) == 2
    plain = run(tmp_path / "plain", epochs=3, ema=ema, precise_bn=0)
    evaluated, without = under_way.eval_model, plain.eval_model
    assert not torch.allclose(evaluated.bn1.running_mean, without.bn1.running_mean)
    assert torch.equal(under_way.model.fc.weight, plain.model.fc.weight)  # training reads no statistics
    assert plain.model.bn1.num_batches_tracked == under_way.model.bn1.num_batches_tracked == plain.step


def test_a_resumed_run_has_the_same_statistics(tmp_path):
    whole = run(tmp_path / "whole", epochs=4)
    run(tmp_path / "parts", epochs=2)
    resumed = run(tmp_path / "parts", epochs=4)
    expected, found = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "settings",
    [
        ["train.sync_bn=true", "train.partial_bn=true"],
        ["train.sync_bn=true", "runtime.batchnorm=apex"],
        ["train.precise_bn=200", "runtime.batchnorm=apex"],
        ["runtime.recompute=true", "runtime.compile=on"],
    ],
)
def test_conflicting_norm_settings_are_named(settings):
    with pytest.raises(ConfigError, match=settings[0].partition("=")[0].replace(".", r"\.")):
        load("tsm_k400_nhwc", settings)


def run_frozen(folder, **train):
    """Train a run with train.partial_bn; return it at its end."""
    return tiny.finished_run(folder, **{"partial_bn": True, **train})


def moved(model, others):
    """Return the names of the batch norms' tensors that differ from `others`, counts of batches included."""
    norms = {name for name, part in model.named_modules() if isinstance(part, nn.BatchNorm2d)}
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name.rpartition(".")[0] in norms}
    return {name for name, tensor in tensors.items() if not torch.equal(tensor, others[name])}


FIRST = {f"bn1.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}


@pytest.fixture
def start():
    return tiny.initial_weights()


def test_only_the_first_batch_norm_moves_also_after_evaluations(start, tmp_path):
    under_way = run_frozen(tmp_path, ema=0.5)
    assert moved(under_way.model, start) == FIRST
    assert moved(under_way.eval_model, start) == FIRST - {"bn1.num_batches_tracked"}
    assert not torch.equal(under_way.model.layer4[1].conv2.weight, start["layer4.1.conv2.weight"])


def test_without_partial_bn_all_batch_norms_move(start, tmp_path):
    under_way = run_frozen(tmp_path, partial_bn=False)
    assert len(moved(under_way.model, start)) == 20 * len(FIRST)


def test_a_network_with_frozen_norms_returns_to_training_after_an_evaluation(start, tmp_path):
    model = run_frozen(tmp_path).model
    assert model.training and model.bn1.training
    assert not any(norm.training for norm in model.frozen_norms) and len(model.frozen_norms) == 19
    assert not any(part.training for part in model.eval().modules())


def test_partial_bn_can_be_switched_on_and_off_in_one_run(tmp_path, caplog):
    before = run_frozen(tmp_path, epochs=1, partial_bn=False).model.state_dict()
    caplog.clear()
    between = run_frozen(tmp_path, epochs=2).model
    assert moved(between, before) == FIRST
    assert "train.partial_bn: False -> True" in caplog.text
    assert "19 batch norms, all but the first, stay as they are (train.partial_bn)" in caplog.messages
    assert any(line.strip().startswith("norm:   2 tensors,") for line in caplog.messages)
    after = run_frozen(tmp_path, epochs=3, partial_bn=False).model
    assert len(moved(after, between.state_dict())) == 20 * len(FIRST)


@pytest.mark.parametrize("setting", ["model.non_local=true", "runtime.batchnorm=apex"])
def test_settings_that_conflict_with_partial_bn_are_named(setting):
    with pytest.raises(ConfigError, match=r"train\.partial_bn"):
        load("tsm_k400_nhwc", ["train.partial_bn=true", setting])
