"""Every rule on the values of settings: one value that breaks it, and the nearest one that does not."""

import ast
from collections import Counter

import pytest

from tests.support.paths import ROOT
from tests.support.recipes import RECIPE, errors, writer

BROKEN_AND_KEPT = {  # settings that break the rule of a key, and the nearest settings that keep it
    "model.num_classes": ["model.num_classes=1", "model.num_classes=2"],
    "model.num_classes 2": ["model.num_classes=32769", "model.num_classes=32768"],
    "model.causal": ["model.name=tsn model.causal=true", "model.name=tsm model.causal=true"],
    "model.shift_every": ["model.backbone=mobilenet_v2 model.shift_every=2", "model.backbone=mobilenet_v2"],
    "model.non_local": ["model.backbone=resnet34 model.non_local=true", "model.backbone=resnet50 model.non_local=true"],
    "model.non_local 2": ["model.causal=true model.non_local=true", "model.causal=true"],
    "model.width": [
        "model.backbone=mobilenet_v2 model.width=32 model.pretrained=none",
        "model.width=32 model.pretrained=none",
    ],
    "model.leaky_slope": ["model.backbone=mobilenet_v2 model.leaky_slope=0.1", "model.leaky_slope=0.1"],
    "model.pretrained": ["model.backbone=resnet50_vd", "model.backbone=resnet50_vd model.pretrained=none"],
    "model.pretrained 2": ["model.width=32 model.pretrained=imagenet", "model.pretrained=imagenet"],
    "data.frame_pattern": ["data.frame_pattern=img.jpg", "data.frame_pattern={}.jpg"],
    "data.held_out": ["data.held_out=1", "data.held_out=0.99"],
    "data.group_regex": ["data.group_regex=(", "data.group_regex=()"],
    "data.train": ["data.train=", "data.train= data.source=synthetic"],
    "data.root": ["data.root=ftp://a", "data.root=s3://a"],
    "data.root 2": ["data.root=s3://a?b", "data.root=a?b"],
    "data.root 3": ["data.root=https://me:secret@host", "data.root=https://host"],
    "data.train 2": ["data.train=s3://a/b?c", "data.train=s3://a/b"],
    "data.test": ["data.test=ftp://a/b", "data.test=gs://a/b"],
    "data.cache_dir 2": ["data.cache_dir=a", "data.cache_dir=a data.train=s3://a/b"],
    "data.cache_dir": ["data.cache_dir=a", "data.cache_dir=a data.root=s3://a"],
    "clip.color_jitter": ["clip.color_jitter=[0,0,0,0.6]", "clip.color_jitter=[0,0,0,0.5]"],
    "clip.multiscale_size": ["clip.multiscale_size=223", "clip.multiscale_size=224"],
    "clip.multiscale_size 2": ["clip.multiscale_size=256 clip.train_crop=resized", "clip.train_crop=resized"],
    "clip.randaugment_magnitude": ["clip.randaugment_magnitude=31", "clip.randaugment_magnitude=30"],
    "clip.crop_area": ["clip.crop_area=[0.5,0.4]", "clip.crop_area=[0.5,0.5]"],
    "clip.crop_area 2": ["clip.crop_area=[0,1]", "clip.crop_area=[0.01,1]"],
    "clip.crop_area 3": ["clip.crop_area=[0.5,1.1]", "clip.crop_area=[1,1]"],
    "clip.snap": ["clip.snap=1 clip.sampling=dense", "clip.snap=1"],
    "clip.snap 2": ["clip.snap=1 data.decoder=jpeg", "data.decoder=jpeg"],
    "clip.std": ["clip.std=[1,1,0]", "clip.std=[1,1,1]"],
    "clip.short_side": ["clip.short_side=223 clip.train_crop=center", "clip.short_side=224 clip.train_crop=center"],
    "clip.short_side 2": ["clip.short_side=15", "clip.short_side=16"],
    "clip.size": ["clip.size=31 model.non_local=true", "clip.size=32 model.non_local=true"],
    "optim.milestones": ["optim.milestones=[2,2]", "optim.milestones=[2,3]"],
    "optim.milestones 2": ["optim.schedule=cosine optim.milestones=[2]", "optim.schedule=cosine optim.milestones=[]"],
    "optim.nesterov": ["optim.nesterov=true optim.momentum=0", "optim.nesterov=true"],
    "train.trackers": ["train.trackers=[tensorflow]", "train.trackers=[wandb,mlflow]"],
    "train.sync_bn": ["train.sync_bn=true train.partial_bn=true", "train.sync_bn=true"],
    "train.sync_bn 2": ["train.sync_bn=true runtime.batchnorm=apex", "runtime.batchnorm=apex"],
    "train.precise_bn": ["train.precise_bn=2 runtime.batchnorm=apex", "train.precise_bn=2"],
    "train.partial_bn": ["train.partial_bn=true model.non_local=true", "train.partial_bn=true"],
    "train.partial_bn 2": ["train.partial_bn=true runtime.batchnorm=apex", "runtime.batchnorm=apex"],
    "train.freeze": ["train.freeze=stem model.backbone=mobilenet_v2", "train.freeze=stem"],
    "train.freeze 2": ["train.freeze=stem runtime.batchnorm=apex", "runtime.batchnorm=apex"],
    "train.ema": ["train.ema=1", "train.ema=0.9999"],
    "model.dropout": ["model.dropout=1", "model.dropout=0.99"],
    "optim.momentum": ["optim.momentum=1", "optim.momentum=0.99"],
    "train.seed": [f"train.seed={2**64}", f"train.seed={2**64 - 1}"],
    "train.trackers 2": ["train.trackers=[wandb,wandb]", "train.trackers=[wandb]"],
    "train.name 2": ["train.name=a\nb", "train.name=a_b"],
    "runtime.timeout": ["runtime.timeout=1.1e9", "runtime.timeout=1e9"],
    "clip.sampling": ["clip.sampling=dense model.frames=65", "clip.sampling=dense model.frames=64"],
    "eval.sampling": [
        "eval.sampling=dense model.name=tsn eval.frames=65",
        "eval.sampling=dense model.name=tsn eval.frames=64",
    ],
    "eval.size": ["eval.size=15", "eval.size=16"],
    "runtime.recompute": ["runtime.recompute=true runtime.compile=on", "runtime.recompute=true runtime.compile=off"],
    "train.name": ["train.name=a/b", "train.name=a-b"],
    "clip.flip_pairs": ["clip.flip_pairs=[0,1,1,2]", "clip.flip_pairs=[0,1]"],
    "clip.flip_pairs 2": ["clip.flip_pairs=[0,4]", "clip.flip_pairs=[0,3]"],
    "eval.crops": ["eval.crops=ten clip.flip_pairs=[0,1]", "eval.crops=three clip.flip_pairs=[0,1]"],
    "eval.short_side": ["eval.short_side=223", "eval.short_side=224"],
    "eval.frames": ["eval.frames=9", "eval.frames=8"],
    "eval.ten_crop_frames": ["eval.ten_crop_frames=9", "eval.ten_crop_frames=8"],
}


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    return writer(tmp_path, monkeypatch)(RECIPE)


@pytest.mark.parametrize(("rule", "settings"), BROKEN_AND_KEPT.items(), ids=BROKEN_AND_KEPT)
def test_each_rule_refuses_an_invalid_value_and_accepts_a_valid_one(recipe, rule, settings):
    broken, kept = settings
    key = rule.split()[0]
    (answer,) = errors(recipe, *broken.split(" "))
    assert f"{key}: " in answer or f"{key}=" in answer
    assert errors(recipe, *kept.split(" ")) == []


def test_every_rule_of_the_settings_is_tested():
    """Rules with the same key have a number; a rule whose key is computed has a row for each key."""
    written = Counter()
    for file in (ROOT / "configs/schema.py", *sorted((ROOT / "configs/sections").glob("*.py"))):
        for part in ast.parse(file.read_text()).body:
            if isinstance(part, ast.ClassDef):
                section = "" if part.name == "Config" else f"{part.name.lower()}."
                pairs = [node.value.elts[0] for node in ast.walk(part) if _is_pair(node)]
                written.update(section + name.value for name in pairs if isinstance(name, ast.Constant))
    rows = Counter(rule.split()[0] for rule in BROKEN_AND_KEPT)
    assert sum(written.values()) > 30
    assert not {key: number for key, number in written.items() if rows[key] < number}


def _is_pair(node):
    return isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple)
