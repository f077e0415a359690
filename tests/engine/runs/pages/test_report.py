"""The report of a run: its contents, that it is self-contained, and that names in it are escaped."""

import json
import os
import re
import shutil
from html.parser import HTMLParser

import pytest

import configs
from configs import ConfigError
from configs.schema import Data
from dali_pipes.scan.build import load_catalog
from engine.files import read_lines
from engine.runs import run_folder
from engine.runs.pages import dataset, html, plots, report
from engine.runs.pages.run_files import read_run
from tests.support import tiny
from tests.support.videos import write_video

HOSTILE = ("<script>alert(1)</script>", "$\\frac{1}$ & \"quotes'", "\x1b[2J\udcff")


class Page(HTMLParser):
    """A page as a browser sees it: elements with their attributes, and pieces of text."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts += [data.strip()] if data.strip() else []

    def after(self, text):
        """Return the text that follows another one."""
        return self.texts[self.texts.index(text) + 1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder of a tiny run with two unreadable videos and hostile names."""
    root = tmp_path_factory.mktemp("runs")
    settings = tiny.config(train={"runs": str(root), "epochs": 4}, data={"max_bad_fraction": 0.2})
    loaders = {"train": tiny.RowLoader(26, 4, bad=(2,)), "val": tiny.RowLoader(7, 4, train=False, bad=(4,))}
    for loader in loaders.values():
        loader.class_names = HOSTILE
        loader.path = lambda row: f"\x1b<img src=x onerror=alert({row})>.mp4"
    finished, _ = tiny.resume(settings, loaders, pictures=True)
    assert finished
    return root / "tiny"


@pytest.fixture(scope="module")
def page(folder):
    return Page(report.write(folder))


def test_settings_of_an_evaluation_that_the_run_no_longer_has_are_shown_next_to_it(folder, tmp_path):
    for file in filter(os.path.isfile, folder.glob("*")):
        shutil.copy(file, tmp_path)
    assert not any("measured with" in text for text in Page(report.write(tmp_path)).texts)
    settings = (tmp_path / "config.yaml").read_text().replace("crops: center", "crops: three")
    (tmp_path / "config.yaml").write_text(settings)
    assert any(text.endswith("; measured with eval.crops=center") for text in Page(report.write(tmp_path)).texts)


def metrics(folder, kind):
    return [line for line in read_lines(folder / "metrics.jsonl") if line["_type"] == kind]


def test_the_report_shows_progress_and_best_accuracy(folder, page):
    assert page.after("state") == "finished"
    assert page.after("step") == "24"
    best = max(metrics(folder, "val"), key=lambda line: line["top1"])
    percent = f"{100 * best['top1']:.2f} %"
    assert page.after("best top-1") == percent and page.after(percent) == f"in epoch {best['epoch']}"
    assert page.after("epochs") == "4" and page.after("4") == "of 4"
    assert page.after("unreadable videos") == "2"


def test_the_best_evaluation_is_the_one_that_chose_the_best_weights(folder, tmp_path):
    for name in ("status.json", "config.yaml"):
        (tmp_path / name).write_text((folder / name).read_text().replace("best: top1", "best: mean_class"))
    about = {"_type": "val", "time": "2026-01-01T00:00:00+00:00"}
    lines = [
        about | {"step": epoch, "epoch": epoch, "top1": top1, "mean_class": mean_class}
        for epoch, top1, mean_class in ((1, 0.9, 0.5), (2, 0.7, 0.8), (3, 0.8, 0.6))
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    facts = {name: (str(value), note) for name, value, note in read_run(tmp_path).facts()}
    assert facts["best mean class accuracy"] == ("80.00 %", "in epoch 2")
    assert facts["top-1 of that evaluation"] == ("70.00 %", "in epoch 2")
    assert "best top-1" not in facts and facts["newest top-1"] == ("80.00 %", "in epoch 3")


def test_the_report_shows_the_first_clips_and_their_decoder(folder, page):
    kept = json.loads((folder / "inputs.json").read_text())
    assert len(kept["clips"]) == 4 and all(clip["label"] in HOSTILE for clip in kept["clips"])
    strips = [attributes["src"] for tag, attributes in page.elements if tag == "img"]
    assert strips == [clip["picture"] for clip in kept["clips"]]  # the videos do not exist, so no example has a strip
    assert page.after("decoder") == "pyav" and page.after("pyav") == "25 videos, nvdec 1"


def test_a_curve_has_a_point_for_every_line(folder, page):
    curves = [attributes["d"] for tag, attributes in page.elements if tag == "path" and "fill: none" in str(attributes)]
    points = [curve.count("M") + curve.count("L") for curve in curves]
    assert points.count(len(metrics(folder, "train"))) == 4  # loss, top-1, rate, gradient; there is no speed yet
    assert points.count(len(metrics(folder, "val"))) == 2  # loss, top-1


@pytest.mark.parametrize(("epochs", "ticks"), [([1, 2], {"1", "2"}), ([2], {"2"}), ([0.2, 0.4], {"0.20", "0.40"})])
def test_epochs_are_counted_in_whole_numbers_once_there_is_one(epochs, ticks):
    ((_, drawn),) = plots.draw([{"epoch": epoch, "loss": 7.5} for epoch in epochs], [])
    axis = drawn[: drawn.index("epoch<")]
    shown = set(re.findall(r">([0-9.]+)</text>", axis))
    assert ticks <= shown and len(shown) <= 5 and (epochs[0] < 1 or shown == ticks)


def test_many_lines_become_a_curve_of_their_means_in_a_band():
    lines = [{"epoch": at, "loss": at % 2 + 4 * (at // 4 % 2), "lr": None} for at in range(4 * plots.MOST_POINTS)]
    captions, (drawn,) = zip(*plots.draw(lines, []), strict=True)
    assert captions == ("loss",)  # unknown values have no curve
    (curve,) = re.findall(r'<path d="([^"z]*)" clip-path="[^"]*" style="fill: none; stroke: #1f77b4', drawn)
    heights = [float(point.split()[2]) for point in curve.strip().split("\n")]
    assert len(heights) == plots.MOST_POINTS and len(set(heights)) == 2  # alternating 0.5 and 4.5
    assert drawn.count("fill-opacity: 0.25") == 1


def test_a_curve_of_a_single_point_is_drawn():
    ((_, drawn),) = plots.draw([{"epoch": 1, "loss": 2.0}], [])
    assert len(re.findall('<use [^>]*style="fill: #1f77b4', drawn)) == 1


def test_axes_take_the_colour_of_the_pages_text_light_or_dark(folder):
    content = report.write(folder).read_text()
    assert 'svg [style*="stroke: #000000"] { stroke: currentColor !important }' in content
    drawn = "".join(re.findall("<svg.*?</svg>", content, re.DOTALL))
    assert "stroke: #000000" in drawn
    assert not re.search("(fill|stroke): (#fff|white|black|#000;)", drawn)


def test_the_report_lists_classes_and_non_default_settings(page):
    assert "All 3 classes, worst first" in page.texts
    settings = page.texts[page.texts.index("Non-default settings") :]
    assert settings[settings.index("model.width") + 1 :][:2] == ["8", "64"]
    assert "model.name" not in page.texts
    assert any("pytest" in text for text in page.texts)  # the command


def test_hostile_names_are_escaped_in_the_report(page):
    assert HOSTILE[0] in page.texts and HOSTILE[1] in page.texts
    assert "�[2J�" in page.texts
    assert "�<img src=x onerror=alert(2)>.mp4" in page.texts
    assert not {"script", "iframe", "object", "link"} & {tag for tag, _ in page.elements}
    pictures = [attributes["src"] for tag, attributes in page.elements if tag == "img"]
    assert pictures and all(source.startswith("data:image/jpeg;base64,") for source in pictures)
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_the_report_refers_to_no_external_resource(folder, page):
    references = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "data")
    ]
    assert references and all(reference.startswith(("#", "data:image/jpeg;base64,")) for reference in references)
    content = (folder / "report.html").read_text()
    assert "@import" not in content and "url(http" not in content


def test_a_run_that_has_just_begun_has_a_report(tmp_path):
    run = run_folder.RunFolder(tmp_path)
    run.status.update(state="running", step=0)
    assert "running" in Page(report.write(tmp_path)).texts


def test_a_running_run_is_reported_at_the_step_of_its_newest_line(tmp_path):
    run = run_folder.RunFolder(tmp_path)
    run.rewind(0)
    run.status.update(state="running", step=0)
    run.metrics("train", 7, epoch=0.5, loss=1.0, top1=0.5, clips_per_s=None, data_fraction=None, memory=1)
    run.metrics("val", 5, epoch=0.4, top1=0.5, loss=1.0)
    page = Page(report.write(tmp_path))
    assert page.after("step") == "7" and page.after("running").startswith("at 2")


def test_the_time_of_a_run_is_that_of_its_starts_and_not_between_them(tmp_path):
    (tmp_path / "status.json").write_text(json.dumps({"state": "finished", "step": 2}))
    starts = ("2026-01-01T00:00:00+00:00  train.py", "2026-01-02T00:00:00+00:00  train.py --resume")
    (tmp_path / "command.txt").write_text("".join(f"{start}\n" for start in starts))
    times = ("2026-01-01T00:01:00+00:00", "2026-01-01T00:03:00+00:00", "2026-01-02T00:02:30+00:00")
    line = {"_type": "val", "top1": 0.5, "loss": 1.0}
    (tmp_path / "metrics.jsonl").write_text(
        "".join(json.dumps(line | {"time": time, "step": n, "epoch": n}) + "\n" for n, time in enumerate(times))
    )
    page = Page(report.write(tmp_path))
    assert page.after("time") == "5m30" and page.after("5m30") == "since 2026-01-01 00:00:00 UTC, 2 starts"


def test_the_report_gives_the_full_reason_of_a_failed_run(tmp_path):
    run_folder.RunFolder(tmp_path).status.update(state="failed", step=3, reason="loss became nan")
    assert "Failed: loss became nan" in Page(report.write(tmp_path)).texts


def test_a_column_of_numbers_is_numeric_and_short_tables_are_open():
    rows = [("a", 1, 2), ("b", 3, "?")]
    table = html.Table(["name", "count", "other"], rows)
    assert (table.numeric, table.short) == ([False, True, False], True)
    assert not html.Table([], rows * 20).short


def test_columns_of_numbers_are_aligned_to_the_right(folder, page):
    number_cells = [tag for tag, attributes in page.elements if attributes.get("class", "").startswith("number")]
    assert {"td", "th"} == set(number_cells)


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(ConfigError, match="contains no run; name a folder such as runs/NAME"):
        report.write(tmp_path)


def test_a_report_that_fails_is_logged(tmp_path, caplog):
    (tmp_path / "status.json").write_text("{")
    report.write_if_possible(tmp_path)
    assert caplog.messages[0].startswith("no report: JSONDecodeError")


def test_both_evaluations_are_shown_where_the_newest_is_not_the_best(folder, tmp_path):
    for path in folder.iterdir():
        if path.is_file() and path.suffix in (".json", ".jsonl", ".yaml"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    newest = json.loads((folder / "val_last.json").read_text()) | {"step": 99}
    (tmp_path / "val_last.json").write_text(json.dumps(newest))
    page = Page(report.write(tmp_path))
    texts = page.texts
    assert "Evaluation of best.pt" in texts and "Newest evaluation" in texts
    assert [attributes for tag, attributes in page.elements if tag == "details"].count({"class": "more"}) == 1
    assert any(text.startswith("Step 99: top1") for text in texts)


def test_each_class_of_few_has_a_row_in_the_confusion_matrix(folder, page):
    counts = json.loads((folder / "val_best.json").read_text())["confusion"]
    cells = re.findall(
        r'<td class="(right|wrong)" style="--part: ([\d.]+)%">(\d*)</td>', report.write(folder).read_text()
    )
    assert [int(count or 0) for _, _, count in cells[:9]] == [count for row in counts for count in row]
    assert [kind for kind, _, _ in cells[:9]] == ["right", *3 * ["wrong"]] * 2 + ["right"]


@pytest.mark.parametrize("classes", [3, report.MOST_IN_MATRIX + 1])
def test_mistakes_are_shown_once_as_a_matrix_of_few_classes_or_pairs_of_many(folder, tmp_path, classes):
    for name in ("status.json", "config.yaml", "val_best.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    best = json.loads((tmp_path / "val_best.json").read_text())
    best["confusion"] = [
        [2 if true == other else int(other == 0) for other in range(classes)] for true in range(classes)
    ]
    best |= {"class_names": [f"c{label}" for label in range(classes)], "top5_per_class": [2] * classes, "examples": []}
    (tmp_path / "val_best.json").write_text(json.dumps(best))
    texts = Page(report.write(tmp_path)).texts
    pairs = any(text.endswith("pairs confused most often") for text in texts)
    assert ("Confusion matrix" in texts, pairs) == (classes == 3, classes != 3)


def test_videos_are_shown_as_film_strips_or_named_if_they_are_gone(folder, tmp_path):
    write_video(tmp_path / "a.mp4", "libx264", 12)
    for name in ("status.json", "config.yaml", "val_best.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    best = json.loads((tmp_path / "val_best.json").read_text())
    shown = {"kind": "mistake", "label": 0, "predicted": 1, "confidence": 0.75, "truth": 0.125}
    best["examples"] = [shown | {"path": str(tmp_path / name)} for name in ("a.mp4", "gone.mp4")]
    (tmp_path / "val_best.json").write_text(json.dumps(best))
    page = Page(report.write(tmp_path))
    assert "Most confident mistakes" in page.texts and "Hardest videos" not in page.texts
    (picture,) = [attributes for tag, attributes in page.elements if tag == "img"]
    assert picture["src"].startswith("data:image/jpeg;base64,")
    assert f"{tmp_path / 'gone.mp4'} cannot be read any more." in page.texts
    assert "with 75.0 %; its class: 12.5 %" in page.texts


def test_the_report_shows_the_environment_and_the_next_commands(folder, page):
    assert page.after("precision") == "fp32" and page.after("device") == "cpu"
    assert page.after("resume") == f"python train.py --resume {folder}"
    assert page.after("evaluate") == f"python eval.py {folder} --per-class"


def test_the_data_are_described_if_they_were_scanned_here(tmp_path, monkeypatch):
    for number, frames in enumerate((5, 10, 10)):
        write_video(tmp_path / f"{number}.mp4", "libx264", frames, size=(48, 64))
    (tmp_path / "train.list").write_text("0.mp4 0\n1.mp4 0\n2.mp4 1\n3.mp4 1\n")
    load_catalog(str(tmp_path / "train.list"), Data(max_bad_fraction=1.0), workers=1)
    recipe = tmp_path / "config.yaml"
    recipe.write_text(configs.to_yaml(configs.load("demo", [f"data.train={tmp_path / 'train.list'}", "data.val="])))
    ((title, table),) = dataset.tables(recipe)
    rows = dict(table.rows)
    assert title == "Training list" and rows["videos"] == "3 of 4 readable" and rows["codecs"] == "h264 3"
    assert rows["videos per class"] == "1 to 2, median 1.5" and rows["imbalance"].startswith("2 ")
    assert rows["sizes"] == "64x48 3" and rows["frames"].startswith("10 (")
