"""The comparison of finetune.yaml's rules with random settings: its sets, its plan, and its table in the document."""

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


def test_each_setting_is_trained_once_for_each_seed_and_set():
    planned = list(finetune.plan(2, 10))
    assert len(planned) == len(set(planned)) == 2 * len(finetune.SETS) * 11
    assert planned[0] == ("pans", finetune.CHOSEN, 0)


def test_the_table_counts_the_settings_that_are_better_by_more_than_a_standard_error():
    def line(name, setting, correct, seed=0):
        return {"set": name, "setting": setting, "seed": seed, "correct": correct, "evaluated": 50}

    both = [line(name, finetune.CHOSEN, 25, seed) for name in finetune.SETS for seed in range(2)]  # 50 %, error 5 %
    others = [line("pans", "random 0", 27), line("pans", "random 1", 28), line("fights", "random 0", 10)]
    *_, pans, fights = finetune.table(both + others)
    assert pans == "| pans | 100 | 2 | 50.0 | 5.0 | 56.0 | 1 of 2 |"
    assert fights == "| fights | 100 | 2 | 50.0 | 5.0 | 20.0 | 0 of 1 |"


def test_the_table_of_the_document_is_that_of_the_results():
    text = (ROOT / "docs" / "recipes.md").read_text()
    shown = re.search(r"<!-- finetune -->\n(.*?)\n<!-- end -->", text, re.DOTALL)[1]
    assert shown.splitlines() == finetune.table(finetune.read(RESULTS / "finetune.jsonl"))
