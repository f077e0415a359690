"""Error messages for mistakes in recipes, overrides and flags."""

import argparse

import pytest

import configs
from configs import cli
from configs.read import KINDS, SECTIONS
from tests.support import recipes
from tests.support.recipes import RECIPE, errors

write = recipes.write


RUNTIME_KEYS = (
    "device, precision, channels_last, batchnorm, recompute, compile, onnx_provider, cuda_graph, threads, prefetch, "
    "timeout"
)
# Line 11, added to RECIPE, whose last section is `train`; and the error, after `recipe.yaml:11: `.
MISTAKES_IN_A_RECIPE = [
    ("  log_evry: 5", "train.log_evry: no such key; did you mean train.log_every?"),
    ("  momentum: 0", "train.momentum: no such key; did you mean optim.momentum?"),
    ("  size: 64", "train.size: no such key; did you mean clip.size or eval.size?"),
    (
        "runtime: {zzz: 1}",
        f"runtime.zzz: no such key; runtime has {RUNTIME_KEYS}",
    ),
    ("  batch: 32", "train.batch: already written in line 10; keep one"),
    ("  keep: 1", "train.keep: 1 is too small; the smallest allowed is 2"),
    ("  runs:", "train.runs: expected text, got null"),
    (
        "runtime: {[a]: 1}",
        f"runtime.?: no such key; runtime has {RUNTIME_KEYS}",
    ),
    ("clip: {size: &a 64, flip: *a}", "clip.flip: 64 is not between 0 and 1"),
    (
        "runtime: {<<: {threads: 4}}",
        f"runtime.<<: no such key; runtime has {RUNTIME_KEYS}",
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
    (
        "clip: {flip_pairs: [1, 2, 3]}",
        "clip.flip_pairs: [1, 2, 3] is not made of pairs; write each label once, pair after pair",
    ),
    (
        "clip: {flip_pairs: [1, 2, 2, 3]}",
        "clip.flip_pairs: [1, 2, 2, 3] is not made of pairs; write each label once, pair after pair",
    ),
    ("clip: {flip_pairs: [0, 4]}", "clip.flip_pairs: 4 is not a label below model.num_classes=4"),
    ("runtime: {threads: many}", "runtime.threads: expected a whole number or auto, got 'many'"),
    ("runtime: {threads: 0}", "runtime.threads: 0 is too small; the smallest allowed is 1"),
    ("data: {root: ''}", "data: already written in line 3; keep one"),
]


@pytest.mark.parametrize("addition, answer", MISTAKES_IN_A_RECIPE)
def test_an_error_in_a_recipe_names_its_line(write, addition, answer):
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
    ("data.decoder=tpu", "expected one of auto, nvdec, dali_cpu, pyav, jpeg, hybrid, got 'tpu'"),
    ("optim.lr=null", "expected a number, got 'null'"),
    ("optim.lr=-1", "-1.0 is too small; the smallest allowed is 0"),
    ("optim.milestones=[a]", "expected a list of whole numbers, got ['a']"),
    ("optim.milestones=[20,10]", "[20, 10] is not ascending; write each epoch once, in order"),
    ("optim.milestones=[0,10]", "(0, 10) is too small; the smallest allowed is 1"),
    ("optim.fc_lr_mult=[5]", "expected a list of 2 numbers, got ['5']"),
    ("optim.momentum=1.5", "1.5 is not at least 0 and below 1"),
    ("train.ema=1", "1 is not at least 0 and below 1"),
    ("train.accumulate=0", "0 is too small; the smallest allowed is 1"),
    ("train.name=a/b", "'a/b' cannot name a folder; write a word, and set train.runs to move it elsewhere"),
    ("train.name=???", "??? stands for a value still to be given; write the value itself"),
    (r"train.name=\???", "??? stands for a value still to be given; write the value itself"),  # OmegaConf drops the \
    ("data.train=", "required: a list file or a folder with one sub-folder per class (or data.source=synthetic)"),
    ("data.root=${oc.env:HOME}", "interpolation with ${...} is not supported; write the value itself"),
    ("eval.frames=25", "a TSM shifts over clips of model.frames=8; leave eval.frames at 0"),
    ("eval.ten_crop_frames=25", "a TSM shifts over clips of model.frames=8; leave eval.ten_crop_frames at 0"),
]


@pytest.mark.parametrize("argument, answer", MISTAKEN_ARGUMENTS)
def test_an_error_about_an_argument_quotes_the_argument(write, argument, answer):
    assert errors(write(RECIPE), argument) == [f"argument {argument!r}: {answer}"]


def test_a_refused_value_of_any_setting_is_one_error():
    """Checks that compare settings take the recipe's value in its place."""
    for key in [key for key, kind in KINDS.items() if kind is not str]:
        with pytest.raises(configs.ConfigError) as refused:
            configs.load("finetune.yaml", ["data.train=mine", f"{key}=resnet-50"])
        assert str(refused.value).startswith(f"argument '{key}=resnet-50': ")
        assert len(str(refused.value).splitlines()) == 1


def test_a_check_across_settings_names_the_place_of_the_one_to_change(write):
    recipe = write(RECIPE + "eval: {short_side: 128}\n")
    answer = "a crop of 224 px does not fit in a short side of 128 px; raise eval.short_side to at least 224"
    assert errors(recipe) == [f"recipe.yaml:11: eval.short_side: {answer}"]
    assert errors(recipe, "clip.size=128") == []


def test_crops_that_mirror_are_not_for_labels_that_mirroring_changes(write):
    recipe = write(RECIPE + "clip: {flip_pairs: [0, 1]}\n")
    assert errors(recipe) == []
    answer = "five of the ten are mirrored, which clip.flip_pairs says changes labels; use three"
    assert errors(recipe, "eval.crops=ten") == [f"argument 'eval.crops=ten': {answer}"]


def test_a_failed_check_of_a_default_names_only_the_setting(write):
    assert errors(write(RECIPE), "model.width=16") == [
        "model.pretrained: ImageNet weights do not fit model.width=16; use `none`, or a width of 64"
    ]


def test_missing_required_settings_are_named(write):
    assert errors(write("data: {train: train.list}\n")) == [
        f"{key}: required, and the recipe does not set it"
        for key in ("model.num_classes", "optim.lr", "train.name", "train.epochs", "train.batch")
    ]


def test_all_errors_of_a_recipe_are_reported_together(write):
    recipe = write("model: {num_classes: 4, fraems: 8}\ndata: {train: a}\nclip: {flip: 2}\noptim: {lr: x}\ntrain: 3\n")
    assert errors(recipe, "train.keep=1", "train.batch=abc") == [
        "recipe.yaml:1: model.fraems: no such key; did you mean model.frames?",
        "recipe.yaml:4: optim.lr: expected a number, got 'x'",
        "recipe.yaml:5: train: expected settings, such as train.name, got '3'",
        "argument 'train.batch=abc': expected a whole number, got 'abc'",
        "recipe.yaml:3: clip.flip: 2 is not between 0 and 1",
    ]


def typing_errors(word: str) -> set[str]:
    """Return all misspellings of `word` with two letters swapped, one dropped or one doubled."""
    halves = [(word[:place], word[place:]) for place in range(len(word))]
    swapped = {start + end[1:2] + end[0] + end[2:] for start, end in halves}
    dropped = {start + end[1:] for start, end in halves}
    doubled = {start + end[0] + end for start, end in halves}
    return (swapped | dropped | doubled) - {word}


def test_every_misspelt_key_is_refused_and_95_percent_get_the_right_suggestion(write):
    recipe = write(RECIPE)
    corpus = [(key, f"{key.split('.')[0]}.{name}") for key in KINDS for name in typing_errors(key.split(".")[1])]
    lines = errors(recipe, *(f"{typed}=1" for _, typed in corpus))
    assert all("no such key" in line for line in lines) and len(lines) == len(corpus)
    understood = [f"did you mean {key}?" in line for (key, _), line in zip(corpus, lines, strict=True)]
    assert sum(understood) >= 0.95 * len(corpus)


def test_every_misspelt_section_is_refused_and_95_percent_get_the_right_suggestion(write):
    corpus = [(section, typed) for section in SECTIONS for typed in typing_errors(section)]
    lines = errors(write(RECIPE + "".join(f"{typed}: {{}}\n" for _, typed in corpus)))
    assert all("no such section" in line for line in lines) and len(lines) == len(corpus)
    understood = [f"did you mean {section}?" in line for (section, _), line in zip(corpus, lines, strict=True)]
    assert sum(understood) >= 0.95 * len(corpus)


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
        (
            ["-c", "demo", "-o", "train.epochs=3"],
            "train.py: -o: no such flag; settings are written without a flag, as in optim.lr=0.01; "
            "export.py writes to --out FILE",
        ),
        (
            ["--test", "-c", "demo", "-w", "best.pt"],
            "train.py: --test: no such flag; to test, run eval.py --config RECIPE --weights FILE",
        ),
        (
            ["--input_file", "a.avi"],
            "train.py: --input_file: no such flag; name videos or folders without a flag",
        ),
        (["-p", "a.pt"], "train.py: -p: no such flag; name the network by --weights FILE"),
        (["-c", "demo", "--zzz"], "train.py: --zzz: no such flag"),
        (["-c"], "train.py: argument --config/-c: expected one argument"),
        (["-c", "demo", "train.sed=1"], "argument 'train.sed=1': no such key; did you mean train.seed?"),
        (["--data", "my_videos"], "train.py: --data: no such flag; did you mean data.train=VALUE?"),
        (["-c", "demo", "data=a.list"], "argument 'data=a.list': expected settings, such as data.train, got 'a.list'"),
        (
            ["-c", "demo", "."],
            "argument '.': expected section.key=value; a list or folder of videos is named by data.train=.",
        ),
        (
            [],
            "--config: required; for videos of your own, --config finetune.yaml data.train=FOLDER; "
            "else a recipe's path or name (docs/recipes.md lists them)",
        ),
        (
            ["/dev"],
            "--config: required; for videos of your own, --config finetune.yaml data.train=/dev; "
            "else a recipe's path or name (docs/recipes.md lists them)",
        ),
        (["--resume"], "--resume: names no run; write --resume runs/NAME, or name its recipe by --config"),
    ],
)
def test_a_wrong_command_line_leaves_with_one_line_and_code_2(capsys, words, answer):
    with pytest.raises(SystemExit) as leaving:
        cli.from_arguments(parse(*words))
    assert leaving.value.code == 2
    assert capsys.readouterr().err == answer + "\n"
