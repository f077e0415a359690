"""The page that compares runs: it shows the differences only."""

import json
from unittest import mock

import pytest

import configs
from configs import ConfigError
from engine.runs.pages import compare, html, plots


@pytest.fixture
def runs(tmp_path):
    """Return the folders of two runs by name, with the files that a comparison reads."""

    def write(name, epochs, loss, confusion):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.yaml").write_text(configs.to_yaml(configs.load("demo", [f"train.epochs={epochs}"])))
        (folder / "status.json").write_text(json.dumps({"state": "finished", "step": 8}))
        line = {"_type": "val", "time": "2026-01-01T00:00:00+00:00", "step": 8, "epoch": epochs, "loss": loss}
        (folder / "metrics.jsonl").write_text(json.dumps(line | {"top1": 0.5}) + "\n")
        (folder / "command.txt").write_text(f"2026-01-01T00:00:00+00:00  train.py train.epochs={epochs}\n")
        best = {"confusion": confusion, "top5_per_class": [2, 2], "loss": loss, "rows": 4, "unreadable_videos": []}
        (folder / "val_best.json").write_text(json.dumps(best | {"class_names": ["up", "<down>"], "step": 8}))
        return folder

    return [write("a", 2, 1.0, [[2, 0], [1, 1]]), write("b", 3, 0.5, [[1, 1], [1, 1]])]


def test_only_settings_that_differ_are_shown_and_classes_by_their_difference(runs, monkeypatch):
    shown = {}
    monkeypatch.setattr(html, "render", lambda template, **values: shown.update(values) or "page")
    path = compare.write(runs)
    assert path.name == "compare-a-b.html" and path.parent == runs[0].parent
    assert shown["settings"].rows == [["train.epochs", 2, 3]]
    assert [(name, float(a.fraction), float(b.fraction)) for name, a, b in shown["classes"].rows] == [
        ("up", 1.0, 0.5),
        ("<down>", 0.5, 0.5),
    ]
    assert [caption for caption, _ in shown["curves"]] == ["top-1 in evaluation, %", "loss in evaluation"]
    assert ["epochs", "2", "3"] in shown["totals"].rows


def test_settings_that_only_hold_the_name_of_a_run_do_not_differ():
    def differing(*lists):
        """Return the settings that differ between runs a and b with these validation lists."""
        words = [[f"train.name={name}", f"data.val={path}"] for name, path in zip("ab", lists, strict=True)]
        runs = {str(word): mock.Mock(settings=configs.flat(configs.load("demo", word))) for word in words}
        return [row[0] for row in compare._settings(runs).rows]

    assert differing("runs/a/data/val.list", "runs/b/data/val.list") == []
    assert differing("runs/a/data/val.list", "runs/a/data/val.list") == ["data.val"]


def test_a_run_has_the_colour_of_the_legend_also_where_another_lacks_a_number():
    of = {"first": [], "second": [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.5}]}
    ((caption, svg),) = plots.draw_runs({name: (lines, []) for name, lines in of.items()})
    (_, first), (_, second) = plots.legend(of)
    assert caption == "training loss" and second in svg and first not in svg


def test_the_page_shows_both_runs_and_escapes_their_names(runs):
    text = compare.write(runs).read_text()
    assert "train.py train.epochs=2" in text and "train.py train.epochs=3" in text
    assert "&lt;down&gt;" in text and "<down>" not in text


def test_a_folder_without_a_run_is_named(runs, tmp_path):
    with pytest.raises(ConfigError, match="contains no run"):
        compare.write([runs[0], tmp_path])
