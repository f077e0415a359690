"""Stages with frozen weights, while those after them are trained (train.freeze)."""

import pytest
import torch

from configs import ConfigError, load
from tests.support import tiny


def moved(model, others):
    """Return the names of the parts of the network with a tensor that differs from `others`."""
    return {name.split(".")[0] for name, tensor in model.state_dict().items() if not torch.equal(tensor, others[name])}


@pytest.fixture
def start():
    return tiny.initial_weights()


@pytest.mark.parametrize(
    ("last", "trained"),
    [
        ("none", {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"}),
        ("stem", {"layer1", "layer2", "layer3", "layer4", "fc"}),
        ("layer2", {"layer3", "layer4", "fc"}),
        ("layer4", {"fc"}),
    ],
)
def test_only_stages_after_the_frozen_one_change(start, tmp_path, last, trained):
    under_way = tiny.finished_run(tmp_path, freeze=last, ema=0.5)
    assert moved(under_way.model, start) == trained == moved(under_way.eval_model, start)


def test_frozen_stages_have_no_momentum_and_stay_in_evaluation_mode(tmp_path):
    under_way = tiny.finished_run(tmp_path, freeze="layer3")
    model, state = under_way.model, under_way.optimizer.state
    assert {name.split(".")[0] for name, weight in model.named_parameters() if weight in state} == {"layer4", "fc"}
    assert model.training and model.layer4.training and not model.layer3.training and not model.bn1.training


def test_frozen_stages_can_be_unfrozen_by_a_resumed_run(tmp_path, caplog):
    before = tiny.finished_run(tmp_path, epochs=1, freeze="layer4").model.state_dict()
    caplog.clear()
    after = tiny.finished_run(tmp_path, epochs=2, freeze="layer1").model
    assert moved(after, before) == {"layer2", "layer3", "layer4", "fc"}
    assert "train.freeze: layer4 -> layer1" in caplog.text
    assert "conv1, bn1, relu, maxpool, layer1 stay as they are (train.freeze)" in caplog.messages


def test_recomputing_activations_changes_nothing(tmp_path):
    """Frozen stages need no activations, so they recompute none."""
    plain = tiny.finished_run(tmp_path / "plain", freeze="layer2").model.state_dict()
    settings = {"runtime": {"recompute": True}}
    config = tiny.config(train={"runs": str(tmp_path / "again"), "epochs": 2, "freeze": "layer2"}, **settings)
    loaders = {"train": tiny.RowLoader(14, 4), "val": tiny.RowLoader(5, 4, train=False)}
    _, under_way = tiny.resume(config, loaders)
    assert all(torch.equal(tensor, plain[name]) for name, tensor in under_way.model.state_dict().items())


@pytest.mark.parametrize("setting", ["model.backbone=mobilenet_v2", "runtime.batchnorm=apex"])
def test_settings_that_conflict_with_freeze_are_named(setting):
    with pytest.raises(ConfigError, match=r"train\.freeze"):
        load("tsm_k400_nhwc", ["train.freeze=layer1", setting])
