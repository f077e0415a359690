"""The comparison of finetune.yaml's rules with random settings: its sets, its plan, and its tables in the document."""

import csv
import re

from benchmarks.network import finetune
from benchmarks.tables import RESULTS
from tests.support.paths import ROOT


def test_the_sets_are_made_of_every_third_clip_and_of_one_direction(tmp_path):
    rows = [
        f"{label}/{clip}.mp4,{label},{clip},source{number}\n"
        for number, clip in enumerate(("fi1", "fi2", "fi3", "nofi1", "nofi2", "nofi3"))
        for label in ("pan_left", "pan_up")
    ]
    (tmp_path / "clips.csv").write_text("".join(["path,label,source_clip,youtube_source\n", *rows]))
    found = {}
    for name in finetune.SETS:
        finetune.write_set(name, tmp_path / "clips.csv", tmp_path / "set.csv")
        with (tmp_path / "set.csv").open() as file:
            found[name] = [(row["path"], row["label"]) for row in csv.DictReader(file)]
    assert found["pans"] == [
        (f"{tmp_path}/{label}/{clip}.mp4", label) for clip in ("fi1", "nofi1") for label in ("pan_left", "pan_up")
    ]
    assert [label for _, label in found["fights"]] == 3 * ["fight"] + 3 * ["no fight"]


def line(name, setting, correct, seed=0, **more):
    return {"set": name, "setting": setting, "seed": seed, "correct": correct, "evaluated": 50, **more}


def first_seed(chosen, *random):
    """Lines of the first seed of both sets, with these videos recognised."""
    found = zip(
        (finetune.CHOSEN, *(f"random {number}" for number in range(len(random)))), (chosen, *random), strict=True
    )
    return [line(name, setting, correct, lr=0.2, epochs=9) for setting, correct in found for name in finetune.SETS]


def test_each_setting_is_trained_with_the_first_seed_before_any_with_another():
    planned = list(finetune.missing([], 2, 10))
    assert len(planned) == len(set(planned)) == len(finetune.SETS) * 11
    assert planned[0] == ("pans", finetune.CHOSEN, 0)
    assert {seed for *_, seed in planned} == {0}


def test_settings_better_on_the_first_seed_and_at_least_the_best_two_are_trained_with_further_seeds():
    lines = first_seed(25, 24, 26, 27, 28, 20)
    assert finetune.selected(lines, "pans") == ["random 3", "random 2", "random 1"]
    assert finetune.selected(first_seed(25, 24, 26, 20), "pans") == ["random 1", "random 0"]
    done = line("pans", "random 2", 25, seed=1)
    jobs = list(finetune.missing([*lines, done], 3, 5))
    assert len(jobs) == 2 * 2 * 4 - 1 + 2 * finetune.RECIPE_SEEDS
    assert ("pans", "random 2", 1) not in jobs and ("pans", "random 2", 2) in jobs
    assert jobs[-2:] == [("pan4", finetune.CHOSEN, 2), ("pan4", finetune.RECIPE, 2)]


def test_the_table_compares_on_further_seeds_alone_and_on_the_same_splits():
    lines = first_seed(25, 45, 20)
    of_seeds = {finetune.CHOSEN: (20, 30, 10), "random 0": (22, 31, 15), "random 1": (20, 30)}
    for setting, found in of_seeds.items():
        lines += [line("pans", setting, correct, seed) for seed, correct in enumerate(found, 1)]
    _, _, *rows = finetune.table(lines)
    assert rows[:3] == [  # of seeds 1 and 2, which all have; differences of 4 and 2 points
        "| pans | chosen | 0.2 | 9 | 50.0 | 2 | 50.0 |  |",
        "| pans | random 0 | 0.2 | 9 | 90.0 | 2 | 53.0 | +3.0 ± 1.0 |",
        "| pans | random 1 | 0.2 | 9 | 40.0 | 2 | 50.0 | +0.0 ± 0.0 |",
    ]
    assert rows[3] == "| fights | chosen | 0.2 | 9 | 50.0 | 0 |  |  |"


def test_the_table_of_recipes_has_a_row_for_each_with_all_its_seeds():
    lines = [line("pan4", finetune.CHOSEN, 40 + seed, seed, batch=16, epochs=25) for seed in range(2)]
    lines += [line("pan4", finetune.RECIPE, 30, batch=16, epochs=24)]
    assert finetune.recipe_table(lines)[2:] == [
        "| `finetune.yaml` | 16 | 25 | 40 of 50, 41 of 50 |",
        "| `pan4.yaml` | 16 | 24 | 30 of 50 |",
    ]


def test_the_tables_of_the_document_are_those_of_the_results():
    text = (ROOT / "docs" / "recipes.md").read_text()
    shown = re.search(r"<!-- finetune -->\n(.*?)\n<!-- end -->", text, re.DOTALL)[1]
    lines = finetune.read(RESULTS / "finetune.jsonl")
    assert shown.splitlines() == [*finetune.table(lines), "", *finetune.recipe_table(lines)]
