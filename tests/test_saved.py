"""A saved network comes back as it was, and says what is missing where it cannot."""

import pytest
import tiny
import torch

import configs
from configs import ConfigError
from engine.saved import open_saved
from models import build_model


def saved_file(folder, **content):
    config = tiny.config()
    model = build_model(config.model).eval()
    torch.save({"model": model.state_dict(), "config": configs.flat(config), **content}, folder / "best.pt")
    return model, config, folder / "best.pt"


def test_a_checkpoint_brings_its_own_settings_and_class_names(tmp_path):
    model, config, path = saved_file(tmp_path, class_names=("up", "down", "left"))
    saved = open_saved(path)
    clips = torch.randn(2, 2, 3, 16, 16)
    assert (saved.config, saved.name(1), saved.model.training) == (config, "down", False)
    torch.testing.assert_close(saved.model(clips), model(clips), rtol=0, atol=0)


def test_a_class_without_a_name_is_called_by_its_number(tmp_path):
    assert open_saved(saved_file(tmp_path)[2]).name(2) == "2"


def test_settings_of_a_checkpoint_can_be_overridden(tmp_path):
    assert open_saved(saved_file(tmp_path)[2], overrides=["eval.clips=3"]).config.eval.clips == 3


def test_bare_weights_need_a_recipe(tmp_path):
    model, _, _ = saved_file(tmp_path)
    torch.save(model.state_dict(), tmp_path / "bare.pt")
    with pytest.raises(ConfigError, match="name its recipe with --config"):
        open_saved(tmp_path / "bare.pt")
    changes = ["model.backbone=resnet18", "model.width=8", "model.num_classes=3", "model.frames=2"]
    assert open_saved(tmp_path / "bare.pt", "demo", changes).config.model.frames == 2
