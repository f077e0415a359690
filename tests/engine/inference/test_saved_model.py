"""A saved network is opened as it was saved, or the error names what is missing."""

from dataclasses import replace

import pytest
import torch

import configs
from configs import ConfigError
from engine.inference.saved_model import load_saved_model
from models import CheckpointError, build_model, load_pretrained, load_weights, read_file
from tests.support import tiny


def saved_file(folder, **content):
    config = tiny.config()
    model = build_model(config.model).eval()
    torch.save({"model": model.state_dict(), "config": configs.flat(config), **content}, folder / "best.pt")
    return model, config, folder / "best.pt"


def test_settings_and_class_names_are_read_from_a_checkpoint(tmp_path):
    model, config, path = saved_file(tmp_path, class_names=("up", "down", "left"))
    saved = load_saved_model(path)
    clips = torch.randn(2, 2, 3, 16, 16)
    assert (saved.info.config, saved.info.name(1), saved.model.training) == (config, "down", False)
    torch.testing.assert_close(saved.model(clips), model(clips), rtol=0, atol=0)


def test_a_class_without_a_name_is_called_by_its_number(tmp_path):
    assert load_saved_model(saved_file(tmp_path)[2]).info.name(2) == "2"


def test_settings_of_a_checkpoint_can_be_overridden(tmp_path):
    assert load_saved_model(saved_file(tmp_path)[2], overrides=["eval.clips=3"]).info.config.eval.clips == 3


def test_settings_of_a_checkpoint_replace_those_of_a_recipe_with_a_log_line(tmp_path, caplog):
    _, config, path = saved_file(tmp_path, class_names=("up", "down", "left"))
    saved = load_saved_model(path, "demo", ["eval.clips=3"])
    assert (saved.info.config.clip, saved.info.config.model.width) == (config.clip, config.model.width)
    assert saved.info.config.eval == replace(config.eval, clips=3) and saved.info.config.train.name == "demo"
    assert f"settings of {path} replace those of the recipe: " in caplog.text
    assert "clip.size=16 (recipe: " in caplog.text
    assert "settings that differ from training: eval.clips=3 (trained with 1)" in caplog.text


@pytest.mark.parametrize("foreign", [{"lr": 0.1, "model": {"depth": 50}}, {}, {1: 2}, {"args": None}])
def test_settings_of_another_project_are_not_read(tmp_path, caplog, foreign):
    _, config, path = saved_file(tmp_path)
    saved_file(tmp_path, config=foreign)
    with pytest.raises(ConfigError, match=r"best\.pt: contains no settings of its network; name its recipe"):
        load_saved_model(path)
    (tmp_path / "recipe.yaml").write_text(configs.to_yaml(config))
    assert load_saved_model(path, str(tmp_path / "recipe.yaml")).info.config.model == config.model
    assert load_weights(build_model(config.model), path).format == "torchvision"


def test_a_recipe_stands_in_for_settings_that_cannot_be_used(tmp_path, caplog):
    _, config, path = saved_file(tmp_path)
    saved_file(tmp_path, config=configs.flat(config) | {"model.width": "x"})
    (tmp_path / "recipe.yaml").write_text(configs.to_yaml(config))
    assert load_saved_model(path, str(tmp_path / "recipe.yaml")).info.config.model == config.model
    assert "its settings cannot be used: " in caplog.text and "those of the recipe are used" in caplog.text
    assert "--config" not in caplog.text


def test_bare_weights_need_a_recipe(tmp_path):
    model, _, _ = saved_file(tmp_path)
    torch.save(model.state_dict(), tmp_path / "bare.pt")
    with pytest.raises(ConfigError, match="name its recipe with --config"):
        load_saved_model(tmp_path / "bare.pt")
    (tmp_path / "names.txt").write_text("up\ndown\nleft\n")
    names = f"data.class_names={tmp_path / 'names.txt'}"
    changes = ["model.backbone=resnet18", "model.width=8", "model.num_classes=3", "model.frames=2", names]
    saved = load_saved_model(tmp_path / "bare.pt", "demo", changes)
    assert saved.info.config.model.frames == 2
    assert saved.info.name(2) == "left"


@pytest.mark.parametrize(
    "change, seen",
    [
        (
            {"model.width": "x"},
            "its settings cannot be used: Value 'x' of type 'str' could not be converted to Integer",
        ),
        (
            {"model.backbone": ["a"]},
            r"its settings cannot be used: Invalid value '\('a',\)', expected one of \['resnet18'",
        ),
        ({"model.num_classes": 1}, "its settings cannot be used: model.num_classes: 1 is below 2; name a recipe"),
        ({"model.width": 6400}, "its settings describe a network of [0-9,]+ bytes, far more than the file has"),
        ({"model.num_classes": 2**15}, "its settings describe a network of [0-9,]+ bytes, far more than the file has"),
    ],
)
def test_invalid_settings_in_a_checkpoint_are_refused(tmp_path, change, seen):
    _, config, path = saved_file(tmp_path)
    saved_file(tmp_path, config=configs.flat(config) | change)
    with pytest.raises(CheckpointError, match=seen):
        load_saved_model(path)


@pytest.mark.parametrize("names", [5, "abc", [1, 2], {"a": 1}])
def test_class_names_that_are_no_list_of_texts_are_refused(tmp_path, names):
    with pytest.raises(CheckpointError, match=r"best\.pt: its class_names are not a list of texts; write it again"):
        load_saved_model(saved_file(tmp_path, class_names=names)[2])


def test_a_class_beyond_the_names_is_called_by_its_number(tmp_path):
    saved = load_saved_model(saved_file(tmp_path, class_names=("up", "down"))[2])
    assert [saved.info.name(label) for label in range(3)] == ["up", "down", "2"]


def test_weights_trained_otherwise_where_no_tensor_shows_it_are_refused_and_may_start_a_training(tmp_path):
    _, config, path = saved_file(tmp_path)
    changed = build_model(replace(config.model, shift_div=4, name="tsm", causal=True))
    seen = "trained with model.shift_div=8 model.causal=false"
    with pytest.raises(CheckpointError, match=f"{seen}; set that; or start a training from it with model.pretrained="):
        load_weights(changed, path)
    assert load_pretrained(changed, str(path)).converted == [seen]
    assert load_weights(build_model(config.model), path).converted == []
    _, _, path = saved_file(tmp_path, config={"model.shift_div": [8], "model.name": 5})
    assert load_weights(build_model(config.model), path).converted == []


def test_a_file_is_read_once(tmp_path, monkeypatch):
    _, _, path = saved_file(tmp_path)
    reads = []
    for module in ("engine.inference.saved_model", "models.weights.load"):
        monkeypatch.setattr(f"{module}.read_file", lambda path: reads.append(path) or read_file(path))
    load_saved_model(path)
    assert reads == [path]
