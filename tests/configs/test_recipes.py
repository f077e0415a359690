"""Every shipped recipe trains and evaluates in a small version, and the commands in its header are valid."""

import re
import shlex
import sys

import pytest

import configs
import eval as evaluation
import train as training
from configs.read import SHIPPED
from dali_pipes.views import draw
from engine import runtime
from engine.train import dry_run, optim
from tests.support.paths import ROOT
from tests.support.recipes import COMPLETE, RECIPES

SMALL = [
    "data.source=synthetic",
    "model.pretrained=none",
    "model.width=8",
    "clip.size=32",
    "clip.short_side=0",
    "eval.short_side=32",
    "train.batch=2",
    "runtime.device=cpu",
]
DOCUMENT = (ROOT / "docs" / "recipes.md").read_text()
COMMANDS = DOCUMENT.replace("\\\n", "")
ARGUMENTS = {"train.py": training.arguments, "eval.py": evaluation.arguments}


def small(name):
    """Return overrides that make a recipe small. MobileNetV2 has one width only."""
    fixed = configs.load(name).model.backbone == "mobilenet_v2"
    return [change for change in SMALL if not (fixed and change.startswith("model.width"))]


@pytest.mark.parametrize("name", RECIPES)
def test_a_shipped_recipe_trains_and_evaluates_in_small(name, tmp_path, caplog):
    config = runtime.resolve(configs.load(name, [*small(name), f"train.runs={tmp_path}"]))
    dry_run.dry_run(config, None)
    assert "everything works" in caplog.text


def asked_for(name, program, monkeypatch):
    """Yield the configuration of each command for `program` in the header of a recipe."""
    header = SHIPPED[name].read_text().partition("\n\n")[0]
    commands = [line.partition(program)[2].partition("  (")[0] for line in header.splitlines() if program in line]
    for command in commands:
        monkeypatch.setattr(sys, "argv", [program, *shlex.split(command)])
        args = ARGUMENTS[program]()
        assert args.config == f"{name}.yaml"
        yield configs.load(args.config, args.overrides)


@pytest.mark.parametrize("name", COMPLETE)
def test_the_first_command_of_a_header_trains_the_unchanged_recipe(name, monkeypatch):
    first, *others = asked_for(name, "train.py", monkeypatch)
    assert first == configs.load(name)
    assert all(other.train.name != name for other in others)


@pytest.mark.parametrize("name", [name for name in COMPLETE if name not in ("demo", "pan4")])
def test_the_last_command_of_a_header_is_the_test_that_results_are_published_for(name, monkeypatch):
    (tested,) = asked_for(name, "eval.py", monkeypatch)
    published = {
        "tsn": ("uniform", 25, 10),
        "pptsn_k400": ("uniform", 25, 10),
        "tsn_sthv1": ("uniform", 8, 10),
        "tsn_ucf101": ("uniform", 25, 3),
        "tsm_k400_nl_dense": ("dense", 8, 30),
        "tsm_k400_mobilenet": ("uniform", 8, 3),
        "tsm_hmdb51_16f": ("uniform", 16, 1),
        "tsm_sthv1": ("uniform", 8, 6),
        "tsm_sthv1_16f": ("uniform", 16, 6),
        "tsm_sthv1_r101": ("uniform", 8, 6),
        "tsm_sthv1_randaugment": ("uniform", 8, 6),
        "tsm_sthv2_16f": ("uniform", 16, 6),
        "tsm_sthv2_r101": ("uniform", 8, 6),
        "pptsm_k400_dense": ("dense", 8, 30),
        "tsm_k400_dense": ("dense", 8, 30),
        "tsm_k400_16f": ("uniform", 16, 1),
        "tsm_sthv2": ("uniform", 8, 6),
        "tsm_jester": ("uniform", 8, 6),
    }
    protocol = tested.eval.sampling, tested.eval_frames, draw.num_views(tested)
    assert protocol == published.get(name, published.get(name[:3], ("uniform", 8, 1)))


@pytest.mark.parametrize("name", COMPLETE)
def test_validation_during_training_uses_one_clip_sampled_as_in_training(name):
    config = configs.load(name)
    assert (config.eval_frames, draw.num_views(config)) == (config.model.frames, 1)


def test_the_documented_table_has_every_recipe_with_its_settings():
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in DOCUMENT.splitlines() if line.startswith("| `")]
    described = {row[0].strip("`"): row[2:6] for row in rows if row[0].strip("`") in COMPLETE}
    assert described == {name: list(map(str, numbers_of(configs.load(name)))) for name in COMPLETE}


def numbers_of(config):
    rate = optim.for_batch(config.optim, config.train.batch).lr
    return config.model.frames, config.train.batch, f"{rate:g}", config.train.epochs


@pytest.mark.parametrize("command", re.findall(r"^(?:python|torchrun .*?) train.py (.*?)(?:  +#.*)?$", COMMANDS, re.M))
def test_a_documented_command_is_understood(command, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", *shlex.split(command.replace("[section.key=value ...]", ""))])
    args = training.arguments()
    configs.load(args.config, args.overrides)
