"""Settings: what a recipe or an override may say, how it is read, and what a person is told who writes it wrong."""

import argparse
import json
import re
import subprocess
import sys
import time
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import configs
from configs import cli
from configs.keys import KINDS, SECTIONS
from configs.read import SHIPPED

ROOT = Path(__file__).parents[1]

RECIPE = """\
model:
  num_classes: 4
data:
  train: train.list
optim:
  lr: 1e-4
train:
  name: trial
  epochs: 10
  batch: 64
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes `recipe.yaml` into the current folder, where errors name it in one word."""
    monkeypatch.chdir(tmp_path)

    def write_recipe(content: str | bytes) -> str:
        Path("recipe.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
        return "recipe.yaml"

    return write_recipe


def errors(recipe: str, *overrides: str) -> list[str]:
    """The lines of the ConfigError that loading raises; none where it loads."""
    try:
        configs.load(recipe, overrides)
    except configs.ConfigError as error:
        return str(error).splitlines()
    return []


# --- mistakes, and the whole answer -----------------------------------------------------------------------------------

# Line 11, added to RECIPE, whose last section is `train`; and the error, after `recipe.yaml:11: `.
MISTAKES_IN_A_RECIPE = [
    ("  log_evry: 5", "train.log_evry: no such key; did you mean train.log_every?"),
    ("  momentum: 0", "train.momentum: no such key; did you mean optim.momentum?"),
    ("  size: 64", "train.size: no such key; did you mean clip.size or eval.size?"),
    (
        "runtime: {zzz: 1}",
        "runtime.zzz: no such key; runtime has device, precision, channels_last, compile, threads, prefetch",
    ),
    ("  batch: 32", "train.batch: already written in line 10; keep one"),
    ("  keep: 1", "train.keep: 1 is too small; the smallest allowed is 2"),
    ("  runs:", "train.runs: expected text, got null"),
    (
        "runtime: {[a]: 1}",
        "runtime.?: no such key; runtime has device, precision, channels_last, compile, threads, prefetch",
    ),
    ("clip: {size: &a 64, flip: *a}", "clip.flip: 64 is not between 0 and 1"),
    (
        "runtime: {<<: {threads: 4}}",
        "runtime.<<: no such key; runtime has device, precision, channels_last, compile, threads, prefetch",
    ),
    ("evla: {clips: 2}", "evla: no such section; did you mean eval?"),
    ("zzz: {a: 1}", "zzz: no such section; there are model, data, clip, eval, optim, train, runtime"),
    ("warmup_epochs: 3", "warmup_epochs: no such key; did you mean optim.warmup_epochs?"),
    ("clip: 3", "clip: expected settings, such as clip.sampling, got '3'"),
    ("clip:", "clip: expected settings, such as clip.sampling, got null"),
    ("model: {frames: 4}", "model: already written in line 1; keep one"),
    ("clip: {size: large}", "clip.size: expected a whole number, got 'large'"),
    ("clip: {size: 64.0}", "clip.size: expected a whole number, got '64.0'"),
    ("clip: {size: true}", "clip.size: expected a whole number, got 'true'"),
    ("clip: {size: ~}", "clip.size: expected a whole number, got null"),
    ("clip: {size: 12:30}", "clip.size: expected a whole number, got '12:30'"),
    ("clip: {flip: {p: 1}}", "clip.flip: expected a number, got a mapping"),
    ("clip: {flip: often}", "clip.flip: expected a number, got 'often'"),
    ("clip: {flip: 1.5}", "clip.flip: 1.5 is not between 0 and 1"),
    ("clip: {flip: inf}", "clip.flip: inf is not a finite number"),
    ("clip: {flip: nan}", "clip.flip: nan is not a finite number"),
    ("clip: {antialias: 2}", "clip.antialias: expected true or false, got '2'"),
    ("clip: {sampling: Dense}", "clip.sampling: expected one of uniform, dense, got 'Dense'"),
    ("clip: {sampling: [dense]}", "clip.sampling: expected one of uniform, dense, got ['dense']"),
    ("clip: {crop_positions: 7}", "clip.crop_positions: expected one of 5, 13, got '7'"),
    ("clip: {mean: 0.5}", "clip.mean: expected a list of 3 numbers, got '0.5'"),
    ("clip: {mean: [1, 2]}", "clip.mean: expected a list of 3 numbers, got ['1', '2']"),
    ("clip: {mean: [1, 2, [3]]}", "clip.mean: expected a list of 3 numbers, got ['1', '2', '...']"),
    ("clip: {std: [1, 0, 1]}", "clip.std: [1.0, 0.0, 1.0] has a value that is not positive"),
    ("clip: {train_crop: random, short_side: 200}", "clip.short_side: a crop of 224 px does not fit in 200 px"),
    ("runtime: {threads: many}", "runtime.threads: expected a whole number or auto, got 'many'"),
    ("runtime: {threads: 0}", "runtime.threads: 0 is too small; the smallest allowed is 1"),
    ("data: {root: ''}", "data: already written in line 3; keep one"),
]


@pytest.mark.parametrize("addition, answer", MISTAKES_IN_A_RECIPE)
def test_a_mistake_in_a_recipe_is_answered_with_its_line(write, addition, answer):
    assert errors(write(RECIPE + addition)) == [f"recipe.yaml:11: {answer}"]


MISTAKEN_ARGUMENTS = [
    ("train.batch=abc", "expected a whole number, got 'abc'"),
    ("train.batch=", "expected a whole number, got ''"),
    ("train.batch", "expected section.key=value"),
    ("train.lr=0.1", "no such key; did you mean optim.lr?"),
    ("lr=0.1", "no such key; did you mean optim.lr?"),
    ("batch_size=8", "no such key; did you mean train.batch?"),
    ("modle.name=tsn", "no such key; did you mean model.name?"),
    ("model=tsn", "expected settings, such as model.name, got 'tsn'"),
    ("model.name.x=tsn", "no such key; did you mean model.name?"),
    ("=3", "no such key; there are model, data, clip, eval, optim, train, runtime"),
    ("data.decoder=tpu", "expected one of auto, nvdec, dali_cpu, pyav, jpeg, got 'tpu'"),
    ("optim.lr=null", "expected a number, got 'null'"),
    ("optim.lr=-1", "-1.0 is too small; the smallest allowed is 0"),
    ("optim.milestones=[a]", "expected a list of whole numbers, got ['a']"),
    ("optim.milestones=[20,10]", "[20, 10] does not rise; write each epoch once, in order"),
    ("optim.milestones=[0,10]", "(0, 10) is too small; the smallest allowed is 1"),
    ("optim.fc_lr_mult=[5]", "expected a list of 2 numbers, got ['5']"),
    ("optim.momentum=1.5", "1.5 is not between 0 and 1"),
    ("train.name=a/b", "'a/b' cannot name a folder; write a word, and set train.runs to move it elsewhere"),
    ("train.name=???", "??? stands for a value still to be given; write the value itself"),
    ("data.train=", "required: a list file or a folder with one sub-folder a class (or data.source=synthetic)"),
    ("data.root=${oc.env:HOME}", "interpolation with ${...} is not supported; write the value itself"),
    ("eval.frames=25", "a TSM shifts over clips of model.frames=8; leave eval.frames at 0"),
]


@pytest.mark.parametrize("argument, answer", MISTAKEN_ARGUMENTS)
def test_a_mistaken_argument_is_answered_in_its_own_words(write, argument, answer):
    assert errors(write(RECIPE), argument) == [f"argument {argument!r}: {answer}"]


def test_a_check_across_settings_names_the_place_of_the_one_to_change(write):
    recipe = write(RECIPE + "eval: {short_side: 128}\n")
    answer = "a crop of 224 px does not fit in a short side of 128 px; raise eval.short_side to at least 224"
    assert errors(recipe) == [f"recipe.yaml:11: eval.short_side: {answer}"]
    assert errors(recipe, "clip.size=128") == []


def test_a_check_of_a_default_names_the_setting_alone(write):
    assert errors(write(RECIPE), "model.width=16") == [
        "model.pretrained: ImageNet weights do not fit model.width=16; take `none`, or a width of 64"
    ]


def test_required_settings_are_asked_for(write):
    assert errors(write("data: {train: train.list}\n")) == [
        f"{key}: required, and the recipe does not set it"
        for key in ("model.num_classes", "optim.lr", "train.name", "train.epochs", "train.batch")
    ]


def test_every_mistake_is_named_at_once(write):
    recipe = write("model: {num_classes: 4, fraems: 8}\ndata: {train: a}\nclip: {flip: 2}\noptim: {lr: x}\ntrain: 3\n")
    assert errors(recipe, "train.keep=1", "train.batch=abc") == [
        "recipe.yaml:1: model.fraems: no such key; did you mean model.frames?",
        "recipe.yaml:4: optim.lr: expected a number, got 'x'",
        "recipe.yaml:5: train: expected settings, such as train.name, got '3'",
        "argument 'train.batch=abc': expected a whole number, got 'abc'",
        "recipe.yaml:3: clip.flip: 2 is not between 0 and 1",
    ]


# --- typing errors ----------------------------------------------------------------------------------------------------


def typing_errors(word: str) -> set[str]:
    """`word` with two letters swapped, one dropped, or one doubled, in every way."""
    halves = [(word[:place], word[place:]) for place in range(len(word))]
    swapped = {start + end[1:2] + end[0] + end[2:] for start, end in halves}
    dropped = {start + end[1:] for start, end in halves}
    doubled = {start + end[0] + end for start, end in halves}
    return (swapped | dropped | doubled) - {word}


def test_every_typing_error_is_refused_and_nearly_all_are_understood(write):
    recipe = write(RECIPE)
    corpus = [(key, f"{key.split('.')[0]}.{name}") for key in KINDS for name in typing_errors(key.split(".")[1])]
    lines = errors(recipe, *(f"{typed}=1" for _, typed in corpus))
    assert all("no such key" in line for line in lines) and len(lines) == len(corpus)
    understood = [f"did you mean {key}?" in line for (key, _), line in zip(corpus, lines, strict=True)]
    assert sum(understood) >= 0.95 * len(corpus)


def test_every_typing_error_in_a_section_is_refused_and_nearly_all_are_understood(write):
    corpus = [(section, typed) for section in SECTIONS for typed in typing_errors(section)]
    lines = errors(write(RECIPE + "".join(f"{typed}: {{}}\n" for _, typed in corpus)))
    assert all("no such section" in line for line in lines) and len(lines) == len(corpus)
    understood = [f"did you mean {section}?" in line for (section, _), line in zip(corpus, lines, strict=True)]
    assert sum(understood) >= 0.95 * len(corpus)


# --- values, as they are read -----------------------------------------------------------------------------------------

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


# --- recipes that cannot be read, or mean harm ------------------------------------------------------------------------

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
HARMFUL = {
    "bomb": (BOMB, "recipe.yaml:1: a: no such key; there are model, data, clip, eval, optim, train, runtime"),
    "bomb in a value": (
        "model:\n  x: &a [x, x]\n  y: &b [*a, *a]\n  width: [*b, *b]\n",
        "recipe.yaml:4: model.width: expected a whole number, got ['...', '...']",
    ),
    "self-reference": (
        "model: {width: &a [*a]}",
        "recipe.yaml:1: model.width: expected a whole number, got ['...']",
    ),
    "section in itself": ("model: &a {model: *a}", "recipe.yaml:1: model.model: no such key; did you mean model.name?"),
    "deep lists": ("model: " + "[" * 20_000, "recipe.yaml:1: not valid YAML: nested too deeply"),
    "deep mappings": ("\n{a: " * 10_000, None),
    "deep blocks": ("- " * 20_000, None),
    "large": ("# " + "x" * 10_000_000, "recipe.yaml: larger than 65536 bytes, so not a recipe"),
    "code": (
        "train: {name: !!python/object/apply:os.system [touch canary]}",
        "recipe.yaml:1: train.name: the tag !!python/object/apply:os.system is not allowed; write a plain value",
    ),
    "code in a list": (
        "optim: {milestones: [!!python/name:os.system x]}",
        "recipe.yaml:1: optim.milestones: the tag !!python/name:os.system is not allowed; write a plain value",
    ),
    "code for a section": (
        "model: !!python/object:os.system {name: tsm}",
        "recipe.yaml:1: model: the tag !!python/object:os.system is not allowed; write a plain value",
    ),
    "code for everything": (
        "!!python/object:os.system {model: {name: tsm}}",
        "recipe.yaml:1: expected sections (model, data, clip, eval, optim, train, runtime), each with its settings",
    ),
    "environment": (
        "data: {root: '${oc.env:CANARY}'}",
        "recipe.yaml:1: data.root: interpolation with ${...} is not supported; write the value itself",
    ),
    "environment in a list": (
        "optim: {milestones: ['${oc.env:CANARY}']}",
        "recipe.yaml:1: optim.milestones: interpolation with ${...} is not supported; write the value itself",
    ),
    "value to come, in a list": (
        "optim: {milestones: ['???']}",
        "recipe.yaml:1: optim.milestones: ??? stands for a value still to be given; write the value itself",
    ),
    "digits": (f"model: {{width: {'9' * 6000}}}", None),
    "digits for a fraction": (
        f"clip: {{flip: {'9' * 400}}}",
        "recipe.yaml:1: clip.flip: inf is not a finite number",
    ),
    "unclosed": (
        "model:\n  name: [tsm\n",
        "recipe.yaml:3: not valid YAML: expected ',' or ']', but got '<stream end>'",
    ),
    "tab": (
        "model:\n\tname: tsm\n",
        "recipe.yaml:2: not valid YAML: found character '\\t' that cannot start any token",
    ),
    "two documents": (
        "model: {}\n---\nmodel: {}\n",
        "recipe.yaml:2: not valid YAML: but found another document",
    ),
    "line break in a key": (
        '"zz\\nz": 3',
        "recipe.yaml:1: ?: no such key; there are model, data, clip, eval, optim, train, runtime",
    ),
    "empty": (
        "",
        "recipe.yaml:1: expected sections (model, data, clip, eval, optim, train, runtime), each with its settings",
    ),
    "list": (
        "# a list\n- model\n",
        "recipe.yaml:2: expected sections (model, data, clip, eval, optim, train, runtime), each with its settings",
    ),
    "control character": (
        "model:\n  name: t\x07",
        "recipe.yaml:2: not valid YAML: the character '\\x07' is not allowed",
    ),
    "not text": (b"model:\n  name: \xff\xfe\n", "recipe.yaml:2: not UTF-8 text"),
}


@pytest.mark.parametrize("content, line", HARMFUL.values(), ids=HARMFUL)
def test_a_hostile_or_broken_recipe_is_refused_within_a_second(write, monkeypatch, content, line):
    monkeypatch.setenv("CANARY", "canary's value")
    recipe = write(content)
    started = time.perf_counter()
    lines = errors(recipe)
    assert time.perf_counter() - started < 1
    assert lines and all(len(line) < 300 and "canary's value" not in line for line in lines)
    assert line is None or line in lines
    assert not Path("canary").exists()


def test_hostile_recipes_take_little_memory(write):
    """Each in a process of its own would take minutes; one process reads them all, and its peak is the largest's."""
    for name, (content, _) in HARMFUL.items():
        Path(f"{name}.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    program = f"""
import pathlib, resource, sys
sys.path.insert(0, {str(ROOT)!r})
import configs
for path in pathlib.Path().glob("*.yaml"):
    try:
        configs.load(path)
    except configs.ConfigError:
        continue
    raise SystemExit(f"{{path}} was loaded")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peak_kib = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert int(peak_kib) < 150 * 1024


@pytest.mark.parametrize("content", ["\ufeff" + RECIPE, RECIPE.replace("\n", "\r\n"), RECIPE.rstrip()])
def test_a_recipe_from_any_editor_loads(write, content):
    assert configs.load(write(content)).train.batch == 64


@given(st.text() | st.text("ab:-[]{}&*!?|>'\"%@`#,. \n\t0"))
def test_any_text_is_a_recipe_or_a_config_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode(errors="surrogatepass"))
    lines = errors(str(path))
    assert lines and all(line.startswith((f"{path}:", *KINDS)) for line in lines)


@given(st.sampled_from([*KINDS, *SECTIONS, ""]), st.text() | st.floats().map(str) | st.integers().map(str))
def test_any_override_is_taken_or_a_config_error(key, text):
    assert all(line.startswith(("argument ", "demo.yaml:", *KINDS)) for line in errors("demo", f"{key}={text}"))


def test_an_unknown_recipe_is_answered_with_the_nearest_and_all_that_ship():
    shipped = "demo, tsm_k400_nhwc, tsm_k400_videos, tsn_k400_videos"
    assert errors("tsn_k400_video") == [
        f"tsn_k400_video: no such file, nor a shipped recipe ({shipped}); did you mean tsn_k400_videos?"
    ]


def test_a_folder_or_a_device_is_not_a_recipe(tmp_path):
    for path in (str(tmp_path), "/dev/zero"):
        assert [line.split(";")[0] for line in errors(path)] == [f"{path}: not a file"]


def test_a_file_that_may_not_be_read_says_so(monkeypatch, write):
    recipe = write(RECIPE)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root, who runs tests in containers, may read everything
    assert errors(recipe) == ["recipe.yaml: cannot be read: Permission denied"]


# --- the shipped recipes, and how a configuration is shown -----------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_written_out_loads_back_equal(write, name):
    config = configs.load(name)
    assert configs.load(write(configs.to_yaml(config))) == config


def test_text_that_looks_like_something_else_is_written_out_so_that_it_loads_back(write):
    config = configs.load("demo", ["train.name=null", "data.root=[a]: #b", "data.cache= yes ", "optim.lr=1e-5"])
    assert configs.load(write(configs.to_yaml(config))) == config


@pytest.mark.parametrize("name", SHIPPED)
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


def test_describe_marks_what_departs_from_the_default(write):
    lines = configs.describe(configs.load(write(RECIPE), ["clip.flip=0", "clip.antialias=true"])).splitlines()
    assert {"* clip.flip = 0.0", "* train.batch = 64", "  clip.antialias = true", '  data.root = ""'} <= set(lines)


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


@pytest.mark.parametrize("batch, ranks, share", [(64, 1, 64), (64, 8, 8), (66, 6, 11)])
def test_a_batch_splits_evenly_over_the_ranks(batch, ranks, share):
    assert configs.batch_per_rank(batch, ranks) == share


@pytest.mark.parametrize(
    "batch, ranks, nearest",
    [(64, 6, "the nearest that do are 60 and 66"), (4, 8, "the nearest that does is 8")],
)
def test_a_batch_that_does_not_split_is_answered_with_those_that_do(batch, ranks, nearest):
    with pytest.raises(configs.ConfigError) as error:
        configs.batch_per_rank(batch, ranks)
    assert str(error.value) == f"train.batch: {batch} clips do not split over {ranks} ranks; {nearest}"


def test_importing_the_settings_is_quick_and_imports_nothing_heavy():
    program = """
import sys, time
started = time.perf_counter()
import configs.cli
seconds = time.perf_counter() - started
print(json.dumps([seconds, [name for name in ("torch", "numpy", "nvidia") if name in sys.modules]]))
"""
    ran = subprocess.run(
        [sys.executable, "-c", "import json" + program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seconds, heavy = json.loads(ran.stdout)
    assert heavy == []
    assert seconds < 2  # a tenth of a second on an idle machine


# --- the command line -------------------------------------------------------------------------------------------------


def parse(*words: str) -> argparse.Namespace:
    parser = cli.Parser(prog="train.py")
    cli.add_config_arguments(parser)
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args(words)


def test_flags_and_overrides_mix_in_any_order():
    args = parse("train.epochs=3", "-c", "demo", "optim.lr=1", "--resume", "train.seed=2")
    config = cli.from_arguments(args)
    assert (config.train.epochs, config.optim.lr, config.train.seed, args.resume) == (3, 1.0, 2, True)


def test_print_config_shows_it_and_stops(capsys):
    with pytest.raises(SystemExit) as leaving:
        cli.from_arguments(parse("--config", "demo", "--print-config", "train.seed=5"))
    assert leaving.value.code == 0
    assert capsys.readouterr().out == configs.describe(configs.load("demo", ["train.seed=5"])) + "\n"


@pytest.mark.parametrize(
    "words, answer",
    [
        (["-c", "demo", "--reusme"], "train.py: --reusme: no such flag; did you mean --resume?"),
        (["--cofnig", "demo"], "train.py: --cofnig: no such flag; did you mean --config?"),
        (["-c", "demo", "--lr", "1"], "train.py: --lr: no such flag; did you mean optim.lr=VALUE?"),
        (["-c", "demo", "--train.seed=1"], "train.py: --train.seed: no such flag; did you mean train.seed=VALUE?"),
        (["-c", "demo", "--zzz"], "train.py: --zzz: no such flag"),
        (["-c"], "train.py: argument --config/-c: expected one argument"),
        (["-c", "demo", "train.sed=1"], "argument 'train.sed=1': no such key; did you mean train.seed?"),
        ([], f"--config: required; give a recipe's path or one of {', '.join(SHIPPED)}"),
    ],
)
def test_a_wrong_command_line_leaves_with_one_line_and_code_2(capsys, words, answer):
    with pytest.raises(SystemExit) as leaving:
        cli.from_arguments(parse(*words))
    assert leaving.value.code == 2
    assert capsys.readouterr().err == answer + "\n"
