"""Settings: how recipes and overrides are read, what ships, and how a configuration is shown."""

import json
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest

import configs
from configs import ConfigError
from configs.read import KINDS, SHIPPED
from tests.support import recipes, tiny
from tests.support.paths import ROOT
from tests.support.recipes import COMPLETE, RECIPE

write = recipes.write


REQUIRED = {
    "model.num_classes": 4,
    "data.train": "a",
    "optim.lr": 1,
    "train.name": "a",
    "train.epochs": 9,
    "train.batch": 8,
}

READ_ALIKE = [
    ("optim.lr", "1e-3", 0.001),
    ("optim.lr", "1E-3", 0.001),
    ("optim.lr", "1.0e-3", 0.001),
    ("optim.lr", ".5", 0.5),
    ("optim.lr", "1", 1.0),
    ("clip.size", "064", 64),
    ("clip.size", "+64", 64),
    ("train.seed", "1_024", 1024),
    ("clip.antialias", "yes", True),
    ("clip.antialias", "True", True),
    ("clip.antialias", "off", False),
    ("clip.crop_positions", "5", 5),
    ("clip.mean", "[0, 1e-1, 2.5]", (0.0, 0.1, 2.5)),
    ("optim.milestones", "[]", ()),
    ("optim.milestones", "[3, 08]", (3, 8)),
    ("runtime.threads", "4", 4),
    ("runtime.threads", "auto", "auto"),
    ("train.name", "yes", "yes"),
    ("train.name", "12:30", "12:30"),
    ("train.name", "2024-01-02", "2024-01-02"),
    ("train.name", "1e3", "1e3"),
    ("train.name", "08", "08"),
    ("data.root", "/data/my videos", "/data/my videos"),
]
ONLY_IN_A_RECIPE = [
    ("optim.lr", '"0.1"', 0.1),
    ("train.name", '"null"', "null"),
    ("data.root", '""', ""),
    ("data.root", "a # comment", "a"),
    ("optim.milestones", "\n  - 3\n  - 4", (3, 4)),
]
ONLY_IN_AN_ARGUMENT = [
    ("data.root", "/data/a #1", "/data/a #1"),
    ("data.root", "[x]", "[x]"),
    ("data.root", "a=b", "a=b"),
    ("data.root", "", ""),
    ("optim.milestones", "3,4", (3, 4)),
    ("optim.milestones", "", ()),
]


@pytest.mark.parametrize("key, text, value", READ_ALIKE + ONLY_IN_A_RECIPE)
def test_a_value_in_a_recipe_is_read_as_its_setting_says(write, key, text, value):
    section, name = key.split(".")
    others = [f"{other}={given}" for other, given in REQUIRED.items() if other != key]
    read = configs.flat(configs.load(write(f"{section}:\n  {name}: {text}\n"), others))[key]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize("key, text, value", READ_ALIKE + ONLY_IN_AN_ARGUMENT)
def test_a_value_in_an_argument_is_read_as_its_setting_says(write, key, text, value):
    read = configs.flat(configs.load(write(RECIPE), [f"{key}={text}"]))[key]
    assert (read, type(read)) == (value, type(value))


def test_the_last_of_several_overrides_wins(write):
    assert configs.load(write(RECIPE), ["train.batch=8", "train.batch=16"]).train.batch == 16


def test_a_configuration_cannot_be_changed(write):
    config = configs.load(write(RECIPE))
    with pytest.raises(FrozenInstanceError):
        config.train.batch = 8


@pytest.mark.parametrize("name", COMPLETE)
def test_a_shipped_recipe_written_out_loads_back_equal(write, name):
    config = configs.load(name)
    assert configs.load(write(configs.to_yaml(config))) == config


def test_text_that_looks_like_another_yaml_type_survives_a_round_trip(write):
    config = configs.load("demo", ["train.name=null", "data.root=[a]: #b", "data.cache= yes ", "optim.lr=1e-5"])
    assert configs.load(write(configs.to_yaml(config))) == config


@pytest.mark.parametrize("name", COMPLETE)
def test_a_shipped_recipe_names_its_run_and_its_command(name):
    text = SHIPPED[name].read_text()
    assert configs.load(name).train.name == name
    assert re.search(rf"^#.*train.py --config {name}.yaml", text, re.MULTILINE)


def test_a_recipe_is_found_by_name_with_or_without_its_ending_and_by_path():
    assert configs.load("demo") == configs.load("demo.yaml") == configs.load(SHIPPED["demo"])


def test_the_fast_and_the_plain_tsm_recipe_differ_in_the_runtime_alone():
    fast, plain = (configs.flat(configs.load(name)) for name in ("tsm_k400_nhwc", "tsm_k400_videos"))
    changed = {key: (fast[key], plain[key]) for key in fast if fast[key] != plain[key]}
    del changed["train.name"]
    assert changed == {"runtime.precision": ("fp16", "fp32"), "runtime.channels_last": (True, False)}


def test_flat_holds_every_setting_once(write):
    assert list(configs.flat(configs.load(write(RECIPE)))) == list(KINDS)


def test_describe_marks_non_default_settings(write):
    lines = configs.describe(configs.load(write(RECIPE), ["clip.flip=0", "clip.antialias=true"])).splitlines()
    assert {"* clip.flip = 0.0", "* train.batch = 64", "  clip.antialias = true", '  data.root = ""'} <= set(lines)


def test_settings_of_a_run_that_are_moved_to_a_disk_leave_the_cache_of_their_store(write):
    config = configs.load(write(RECIPE), ["data.root=s3://a", "data.cache_dir=c"])
    assert configs.override(config, ["train.epochs=3"]).data.cache_dir == "c"
    assert configs.override(config, ["data.root=b"]).data.cache_dir == ""
    with pytest.raises(configs.ConfigError, match=r"cache_dir=d': keeps videos of a store"):
        configs.override(config, ["data.root=b", "data.cache_dir=d"])


def test_the_lines_of_describe_are_overrides(write):
    config = configs.load("tsn_k400_videos")
    lines = [line[2:].replace(" = ", "=", 1).replace('""', "") for line in configs.describe(config).splitlines()]
    assert configs.load(write(RECIPE), lines) == config


def test_a_fingerprint_stays_and_changes_with_every_setting():
    config = configs.load("demo")
    assert configs.fingerprint(config) == configs.fingerprint(configs.load("demo", ["optim.lr=5e-2"]))
    assert re.fullmatch("[0-9a-f]{12}", configs.fingerprint(config))
    others = [configs.load("demo", [change]) for change in ("optim.lr=5.1e-2", "train.seed=1", "data.cache=a")]
    assert len({configs.fingerprint(other) for other in [config, *others]}) == 4


@pytest.mark.parametrize(
    "overrides, frames",
    [
        ([], 8),
        (["eval.crops=ten"], 8),
        (["eval.ten_crop_frames=25"], 8),
        (["eval.crops=ten", "eval.ten_crop_frames=25"], 25),
        (["eval.crops=ten", "eval.ten_crop_frames=25", "eval.frames=5"], 5),
    ],
)
def test_ten_crops_use_their_own_number_of_frames_unless_one_is_given(write, overrides, frames):
    assert configs.load(write(RECIPE), ["model.name=tsn", *overrides]).eval_frames == frames


@pytest.mark.parametrize("batch, ranks, share", [(64, 1, 64), (64, 8, 8), (66, 6, 11)])
def test_a_batch_splits_evenly_over_the_ranks(batch, ranks, share):
    assert configs.batch_per_rank(batch, ranks) == share


@pytest.mark.parametrize(
    "batch, ranks, nearest",
    [(64, 6, "the nearest that do are 60 and 66"), (4, 8, "the nearest that does is 8")],
)
def test_a_batch_that_does_not_split_is_refused_with_batches_that_do(batch, ranks, nearest):
    with pytest.raises(configs.ConfigError) as error:
        configs.batch_per_rank(batch, ranks)
    assert str(error.value) == f"train.batch: {batch} clips do not split over {ranks} ranks; {nearest}"


@pytest.mark.parametrize(
    "batch, ranks, answer",
    [
        (48, 4, "12 clips on each of 4 ranks are not a whole number of videos with clip.repeats=8; try 32 or 64"),
        (4, 1, "4 clips are not a whole number of videos with clip.repeats=8; try 8"),
    ],
)
def test_a_share_without_whole_videos_is_refused_with_batches_that_fit(batch, ranks, answer):
    config = configs.load("demo", [f"train.batch={batch}", "clip.repeats=8"])
    with pytest.raises(configs.ConfigError) as error:
        configs.clips_at_once(config, ranks)
    assert str(error.value) == f"train.batch: {answer}"
    assert configs.videos_per_rank(64, repeats=4, ranks=2) == 8


@pytest.mark.parametrize("accumulate, at_once", [(1, 12), (2, 6), (12, 1)])
def test_a_ranks_clips_pass_the_network_in_equal_parts(accumulate, at_once):
    config = configs.load("demo", ["train.batch=48", f"train.accumulate={accumulate}"])
    assert configs.clips_at_once(config, ranks=4) == at_once


def test_unequal_parts_of_a_batch_are_refused_with_equal_ones():
    config = configs.load("demo", ["train.batch=48", "train.accumulate=5"])
    with pytest.raises(configs.ConfigError) as error:
        configs.clips_at_once(config, ranks=4)
    answer = "the 12 clips of a rank do not split into 5 equal parts; use one of 1, 2, 3, 4, 6, 12"
    assert str(error.value) == f"train.accumulate: {answer}"


TINY = ["model.name=tsn", "model.frames=1", "clip.size=32"]


@pytest.mark.parametrize(
    "ranks, settings, remedy",
    [
        (1, ["train.batch=1"], "train.batch=2, model.frames=2"),
        (4, ["train.batch=8", "train.accumulate=2"], "train.batch=16, fewer parts (train.accumulate), model.frames=2"),
        (1, ["train.batch=1", "train.freeze=layer3"], "train.batch=2, model.frames=2"),
    ],
)
def test_a_pass_of_one_frame_that_batch_norms_cannot_train_on_is_refused_with_remedies(ranks, settings, remedy):
    config = configs.load("demo", [*TINY, *settings])
    with pytest.raises(configs.ConfigError) as error:
        configs.clips_at_once(config, ranks)
    assert str(error.value) == (
        "train.batch: one clip of one frame of 32 px at a time leaves batch norms a single value per channel; use "
        f"{remedy}, or clip.size=33 or more"
    )


@pytest.mark.parametrize(
    "ranks, settings",
    [
        (1, ["train.batch=2"]),
        (2, ["train.batch=2", "train.sync_bn=true"]),
        (1, ["train.batch=1", "model.frames=2"]),
        (1, ["train.batch=1", "clip.size=33"]),
        (1, ["train.batch=1", "train.partial_bn=true"]),
        (1, ["train.batch=1", "train.freeze=layer4"]),
    ],
)
def test_a_pass_of_few_values_that_batch_norms_can_train_on_is_accepted(ranks, settings):
    config = configs.load("demo", [*TINY, "eval.short_side=64", *settings])
    assert configs.clips_at_once(config, ranks) == config.train.batch // ranks


def test_importing_the_settings_is_quick_and_imports_nothing_heavy():
    program = """
import sys, time
started = time.process_time()
import configs.cli
seconds = time.process_time() - started
print(json.dumps([seconds, [name for name in ("torch", "numpy", "nvidia") if name in sys.modules]]))
"""
    ran = subprocess.run(
        [sys.executable, "-c", "import json" + program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seconds, heavy = json.loads(ran.stdout)
    assert heavy == []
    assert seconds < 2  # a tenth of a second on an idle machine


@pytest.mark.parametrize("name", COMPLETE)
def test_a_flat_configuration_is_read_back_equal_also_from_json(name):
    config = configs.load(name)
    assert configs.from_flat(configs.flat(config)) == config
    assert configs.from_flat(json.loads(json.dumps(configs.flat(config)))) == config


def test_a_flat_configuration_of_another_version_is_completed_by_defaults():
    flat = configs.flat(configs.load("demo"))
    del flat["clip.flip"]
    assert configs.from_flat({**flat, "clip.gone": 1}) == configs.load("demo", ["clip.flip=0.5"])


def test_a_configuration_is_overridden_as_a_recipe_is():
    changed = configs.override(configs.load("demo"), ["optim.lr=1e-5", "eval.crops=three"])
    assert changed == configs.load("demo", ["optim.lr=1e-5", "eval.crops=three"])
    with pytest.raises(configs.ConfigError, match=r"did you mean eval\.crops"):
        configs.override(changed, ["eval.crop=three"])


@pytest.mark.parametrize("key", ["data.cpu_share", "model.dropout", "model.fc_std"])
def test_a_number_or_auto_is_read_from_the_command_line_and_from_a_recipe(key, tmp_path):
    section, name = key.split(".")
    for text, value in (("0.25", 0.25), ("auto", "auto"), ("0", 0)):
        config = configs.load("tsm_k400_nhwc", [f"{key}={text}"])
        assert getattr(getattr(config, section), name) == value
        (tmp_path / "again.yaml").write_text(configs.to_yaml(config))
        assert configs.load(str(tmp_path / "again.yaml")) == config


def test_lists_of_texts_are_read_with_and_without_quotes():
    for text in ("tensorboard,wandb", '["tensorboard", "wandb"]', "['tensorboard', 'wandb']"):
        assert configs.override(tiny.CONFIG, [f"train.trackers={text}"]).train.trackers == ("tensorboard", "wandb")
    assert configs.override(tiny.CONFIG, ["train.trackers=[]"]).train.trackers == ()
    with pytest.raises(ConfigError, match="comet: expected tensorboard, wandb or mlflow"):
        configs.override(tiny.CONFIG, ["train.trackers=[comet]"])
