"""The comparison of finetune.yaml's rules with random settings: its plan, its runs, and its table in the document."""

import re

import pytest

import configs
from benchmarks.network import finetune
from benchmarks.tables import RESULTS
from engine.train import from_data
from tests.support import programs
from tests.support.paths import ROOT
from tests.support.videos import write_video

SETS = ("strokes", "fights")


def line(name, setting, correct, seed=0, **more):
    return {"set": name, "setting": setting, "seed": seed, "correct": correct, "evaluated": 50, **more}


def first_seed(chosen, *random):
    """Return result lines of the first seed of both sets, with these videos recognised."""
    found = zip(
        (finetune.CHOSEN, *(f"random {number}" for number in range(len(random)))), (chosen, *random), strict=True
    )
    return [line(name, setting, correct, lr=0.2, epochs=9) for setting, correct in found for name in SETS]


def test_each_setting_is_trained_with_the_first_seed_before_any_with_another():
    planned = list(finetune.missing([], SETS, range(2), 10, 10))
    assert len(planned) == len(set(planned)) == len(SETS) * 11
    assert planned[0] == ("strokes", finetune.CHOSEN, 0)
    assert {seed for *_, seed in planned} == {0}


def test_settings_better_on_the_first_seed_and_at_least_the_best_two_are_trained_with_further_seeds():
    lines = first_seed(25, 24, 26, 27, 28, 20)
    assert finetune.selected(lines, "strokes") == ["random 3", "random 2", "random 1"]
    assert finetune.selected(first_seed(25, 24, 26, 20), "strokes") == ["random 1", "random 0"]
    done = line("strokes", "random 2", 25, seed=1)
    jobs = list(finetune.missing([*lines, done], SETS, range(3), 5, 5))
    assert len(jobs) == 2 * 2 * 4 - 1
    assert {setting for _, setting, _ in finetune.missing(lines, SETS, range(3), 5, 1)} == {finetune.CHOSEN, "random 3"}
    assert ("strokes", "random 2", 1) not in jobs and ("strokes", "random 2", 2) in jobs


def test_seeds_count_from_the_first_which_selects_in_the_table_too():
    planned = list(finetune.missing([], SETS, range(10, 12), 3, 3))
    assert {seed for *_, seed in planned} == {10}
    lines = [entry | {"seed": entry["seed"] + 10} for entry in first_seed(25, 24, 26, 27)]
    assert {seed for *_, seed in finetune.missing(lines, SETS, range(10, 12), 3, 3)} == {11}
    lines += [line("strokes", setting, 30, 11) for setting in (finetune.CHOSEN, "random 2", "random 1")]
    assert finetune.table(lines)[2] == "| strokes | chosen | 0.2 | 9 | 50.0 | 1 | 60.0 |  |"


def test_a_random_setting_differs_from_the_chosen_one_in_rate_and_length_alone(tmp_path):
    rows = [f"{label}/{number}.mp4 {label}\n" for number in range(50) for label in range(2)]
    (tmp_path / "mine.list").write_text("".join(rows))
    words = [f"data.train={tmp_path / 'mine.list'}", "model.pretrained=none", f"train.runs={tmp_path}"]

    def chosen(setting, *more):
        config = finetune.settings("strokes", setting, [*words, *more])
        return configs.flat(from_data.choose(config, ranks=1).config)

    ours, theirs, again = chosen(finetune.CHOSEN), chosen("random 3"), chosen("random 3", "train.seed=1")
    assert {key for key in ours if ours[key] != theirs[key]} == {"optim.lr", "train.epochs"}
    assert 0.005 <= theirs["optim.lr"] <= 0.5 and 12 <= theirs["train.epochs"] <= 60
    assert {key for key in theirs if theirs[key] != again[key]} == {"train.seed"}


@pytest.mark.slow
def test_runs_add_a_line_each_and_are_not_repeated(tmp_path):
    for name in "ab":
        (tmp_path / "mine" / name).mkdir(parents=True)
        for take in range(5):
            write_video(tmp_path / "mine" / name / f"{take}.mp4", "libx264", 12)
    words = ["--set", "mine=mine/", "--out", "out.jsonl", "--seeds", "1", "--random", "1", *programs.SMALL]
    for _ in range(2):
        ended = programs.run("benchmarks/network/finetune.py", *words, folder=tmp_path)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        lines = finetune.read(tmp_path / "out.jsonl")
        assert [(line["set"], line["setting"], line["seed"]) for line in lines] == [
            ("mine", finetune.CHOSEN, 0),
            ("mine", "random 0", 0),
        ]
    assert {line["evaluated"] for line in lines} == {2}


def test_the_table_compares_on_further_seeds_alone_and_on_the_same_splits():
    lines = first_seed(25, 45, 20)
    of_seeds = {finetune.CHOSEN: (20, 30, 10), "random 0": (22, 31, 13), "random 1": (20, 30)}
    for setting, found in of_seeds.items():
        lines += [line("strokes", setting, correct, seed) for seed, correct in enumerate(found, 1)]
    _, _, *rows = finetune.table(lines)
    assert rows[:3] == [  # differences of 4, 2 and 6 points
        "| strokes | chosen | 0.2 | 9 | 50.0 | 3 | 40.0 |  |",
        "| strokes | random 0 | 0.2 | 9 | 90.0 | 3 | 44.0 | +4.0 ± 1.2 |",
        "| strokes | random 1 | 0.2 | 9 | 40.0 | 2 | 50.0 | +0.0 ± 0.0 |",
    ]
    assert rows[3] == "| fights | chosen | 0.2 | 9 | 50.0 | 0 |  |  |"


def test_the_table_of_the_document_is_that_of_the_results():
    text = (ROOT / "docs" / "recipes.md").read_text()
    shown = re.search(r"<!-- finetune -->\n(.*?)\n<!-- end -->", text, re.DOTALL)[1]
    lines = finetune.read(RESULTS / "finetune.jsonl")
    assert shown.splitlines() == finetune.table(lines)
