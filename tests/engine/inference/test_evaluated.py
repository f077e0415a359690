"""A network is evaluated with the settings of its training, and differences are logged."""

import pytest
import torch

import configs
from configs import ConfigError
from engine.inference.evaluated import open_evaluated
from models import build_model
from tests.support import exporting, tiny

TRAINED = {"clip": {"mean": (0.9, 0.1, 0.1)}, "data": {"source": "video", "train": "unknown"}}


def saved(folder, **content):
    config = tiny.config(**TRAINED)
    file = {"model": build_model(config.model).state_dict(), "config": configs.flat(config), "class_names": ("a", "b")}
    torch.save(file | content, folder / "best.pt")
    return folder / "best.pt"


def test_the_files_settings_replace_those_of_the_recipe_with_a_log_line(tmp_path, caplog):
    recipe = tiny.config(data={"train": "other"}, clip={"flip": 0.0}, train={"batch": 2})
    network = open_evaluated(saved(tmp_path), recipe, [])
    assert network.config.clip == tiny.config(**TRAINED).clip
    assert (network.config.data, network.config.train.batch) == (recipe.data, 2)
    seen = "clip.flip=0.5 (recipe: 0.0), clip.mean=[0.9, 0.1, 0.1] (recipe: [0.485, 0.456, 0.406])"
    assert f"settings of {tmp_path / 'best.pt'} replace those of the recipe: {seen}" in caplog.text
    assert "differ from training" not in caplog.text


def test_the_command_line_overrides_and_differences_from_training_are_logged(tmp_path, caplog):
    overrides = ["clip.mean=[0.5,0.5,0.5]", "eval.clips=2", "train.batch=2"]
    recipe = configs.override(tiny.config(), overrides)
    network = open_evaluated(saved(tmp_path), recipe, overrides)
    assert (network.config.clip.mean, network.config.eval.clips) == ((0.5, 0.5, 0.5), 2)
    seen = "clip.mean=[0.5, 0.5, 0.5] (trained with [0.9, 0.1, 0.1]), eval.clips=2 (trained with 1)"
    assert f"settings that differ from training: {seen}" in caplog.text
    assert "of the recipe" not in caplog.text


def test_without_a_recipe_all_settings_but_machine_ones_come_from_the_file(tmp_path, caplog):
    path = saved(tmp_path)
    content = torch.load(path)
    content["config"] |= {"runtime.device": "cuda", "data.decoder": "nvdec", "runtime.threads": 64}
    torch.save(content, path)
    config = open_evaluated(path, None, ["runtime.device=cpu"]).config
    assert (config.model, config.data.train) == (tiny.config(**TRAINED).model, "unknown")
    assert (config.runtime.device, config.data.decoder) == ("cpu", "auto") and config.runtime.threads != 64
    assert "settings" not in caplog.text


def test_evaluation_keeps_the_jpeg_decoder_of_a_checkpoint(tmp_path):
    path = saved(tmp_path)
    content = torch.load(path)
    content["config"] |= {"data.decoder": "jpeg"}
    torch.save(content, path)
    assert open_evaluated(path, None, ["runtime.device=cpu"]).config.data.decoder == "jpeg"


def test_weights_without_settings_need_a_recipe_and_missing_names_are_logged(tmp_path, caplog):
    path, recipe = saved(tmp_path, config=None, class_names=()), tiny.config()
    with pytest.raises(ConfigError, match=r"best\.pt: contains no settings of its network; name its recipe"):
        open_evaluated(path, None, [])
    network = open_evaluated(path, recipe, [])
    assert (network.config, network.class_names) == (recipe, ())
    assert "contains no settings: using those of the recipe" in caplog.text
    assert "contains no class names, so classes cannot be compared with those of the list" in caplog.text


def test_another_list_does_not_use_the_root_of_the_training_list(tmp_path, caplog):
    path = saved(tmp_path)
    content = torch.load(path)
    content["config"] |= {
        "data.root": "videos",
        "data.suffix": ".mp4",
        "data.val": "val.list",
        "data.test": "test.list",
    }
    torch.save(content, path)
    cpu = "runtime.device=cpu"
    assert open_evaluated(path, None, [cpu]).config.data.root == "videos"
    for own in ("data.test=", "data.test=val.list", "data.test=./unknown", "data.val=other data.test=val.list"):
        assert open_evaluated(path, None, [cpu, *own.split()]).config.data.root == "videos"
    assert "trained lists" not in caplog.text
    data = open_evaluated(path, None, [cpu, "data.test=other"]).config.data
    assert (data.root, data.suffix, data.test) == ("", "", "other")
    assert "settings of the trained lists are not used for another list: data.root, data.suffix" in caplog.text
    data = open_evaluated(path, None, [cpu, "data.test=other", "data.root=elsewhere"]).config.data
    assert (data.root, data.suffix) == ("elsewhere", "")


def test_an_exported_network_is_evaluated_with_the_same_settings_as_its_weights(tmp_path, caplog):
    path, file = saved(tmp_path, class_names=("a", "b", "c")), tmp_path / "best.pt2"
    content = torch.load(path)
    content["config"] |= {"data.root": "videos", "data.decoder": "jpeg"}
    torch.save(content, path)
    assert exporting.run(path, "--format", "export", "--uint8", "--out", str(file)) == 0
    recipe = tiny.config(data={"root": "elsewhere"}, clip={"flip": 0.0}, train={"batch": 2}, runtime={"threads": 3})
    for given, overrides in ((None, ["data.test=other"]), (None, ["eval.clips=2"]), (recipe, [])):
        said = {}
        for network in (path, file):
            caplog.clear()
            config = open_evaluated(network, given, ["runtime.device=cpu", *overrides]).config
            lines = [line.replace(str(network), "it") for line in caplog.messages if "settings" in line]
            said[network] = lines, config.data, config.clip, config.eval, config.train.batch, config.runtime.threads
        assert said[path] == said[file] and said[path][0]


def test_settings_fixed_in_an_exported_network_cannot_be_overridden(tmp_path):
    path, file = saved(tmp_path, class_names=("a", "b", "c")), tmp_path / "best.pt2"
    assert exporting.run(path, "--format", "export", "--uint8", "--out", str(file)) == 0
    for override in ("model.shift_div=4", "clip.mean=[0.5,0.5,0.5]", "clip.std=[1,1,1]"):
        key = override.partition("=")[0]
        with pytest.raises(ConfigError, match=rf"{key}: .*best\.pt2 was exported with .* fixed in it; export it again"):
            open_evaluated(file, None, [override, "runtime.device=cpu"])
    assert open_evaluated(file, None, ["clip.mean=[0.9,0.1,0.1]", "model.pretrained=none"]).config.clip.mean[0] == 0.9
