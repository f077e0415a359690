"""Batch norms that stay as they are while the network around them is trained: all but the first."""

import pytest
import torch
from torch import nn

from configs import ConfigError, load
from engine.train import training
from tests.support import tiny


def run(folder, *, epochs=2, **train):
    """What is under way at the end of a run, which evaluates after each epoch."""
    settings = tiny.config(train={"runs": str(folder), "epochs": epochs, "partial_bn": True, **train})
    loaders = {"train": tiny.RowLoader(14, 4), "val": tiny.RowLoader(5, 4, train=False)}
    finished, under_way = tiny.go_on(settings, loaders)
    assert finished
    return under_way


def moved(model, others):
    """Names of the batch norms' tensors that are not as in `others`, counts of batches included."""
    norms = {name for name, part in model.named_modules() if isinstance(part, nn.BatchNorm2d)}
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name.rpartition(".")[0] in norms}
    return {name for name, tensor in tensors.items() if not torch.equal(tensor, others[name])}


FIRST = {f"bn1.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}


@pytest.fixture
def start():
    """The weights that a run starts from."""
    settings = tiny.config()
    torch.manual_seed(settings.train.seed)
    return training.build_network(settings, None).state_dict()


def test_only_the_first_batch_norm_moves_also_after_evaluations(start, tmp_path):
    under_way = run(tmp_path, ema=0.5)
    assert moved(under_way.model, start) == FIRST
    assert moved(under_way.eval_model, start) == FIRST - {"bn1.num_batches_tracked"}
    assert not torch.equal(under_way.model.layer4[1].conv2.weight, start["layer4.1.conv2.weight"])


def test_without_it_all_of_them_move(start, tmp_path):
    under_way = run(tmp_path, partial_bn=False)
    assert len(moved(under_way.model, start)) == 20 * len(FIRST)


def test_a_network_is_evaluated_as_ever_and_goes_back_to_training_with_its_norms_kept(start, tmp_path):
    model = run(tmp_path).model
    assert model.training and model.bn1.training
    assert not any(norm.training for norm in model.frozen_norms) and len(model.frozen_norms) == 19
    assert not any(part.training for part in model.eval().modules())


def test_it_may_be_switched_on_and_off_again_in_one_run(tmp_path, caplog):
    before = run(tmp_path, epochs=1, partial_bn=False).model.state_dict()
    caplog.clear()
    between = run(tmp_path, epochs=2).model
    assert moved(between, before) == FIRST
    assert "train.partial_bn: False -> True" in caplog.text
    assert "19 batch norms, all but the first, stay as they are (train.partial_bn)" in caplog.messages
    assert any(line.strip().startswith("norm:   2 tensors,") for line in caplog.messages)
    after = run(tmp_path, epochs=3, partial_bn=False).model
    assert len(moved(after, between.state_dict())) == 20 * len(FIRST)


@pytest.mark.parametrize("setting", ["model.non_local=true", "runtime.batchnorm=apex"])
def test_what_it_cannot_go_with_is_named(setting):
    with pytest.raises(ConfigError, match=r"train\.partial_bn"):
        load("tsm_k400_nhwc", ["train.partial_bn=true", setting])
