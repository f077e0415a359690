"""Per-class results of a small confusion matrix."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from engine.evaluation import results
from engine.evaluation.accuracy import Result

#                    predicted  a  b  c  d     a class d has no videos
RESULT = Result(torch.tensor([[3, 1, 0, 0],
                              [0, 1, 2, 1],
                              [5, 0, 5, 0],
                              [0, 0, 0, 0]]), None, 1.0, 18, [])  # fmt: skip
HOSTILE = ["$\\frac{1}$", "<script>alert(1)</script>", "\x1b[2Jb\udcff\n", "手"]


def test_classes_are_listed_worst_first_without_empty_ones():
    found = [(one.name, one.top1, one.videos) for one in results.worst_first(RESULT, "abcd")]
    assert found == [("b", 1, 4), ("c", 5, 10), ("a", 3, 4)]


def test_equally_good_classes_are_ordered_by_size():
    result = Result(torch.diag(torch.tensor([2, 9, 4])), None, 0.0, 15, [])
    assert [one.videos for one in results.worst_first(result, ())] == [9, 4, 2]


def test_confused_pairs_are_listed_most_frequent_first_with_totals(monkeypatch):
    pairs = [(pair.name, pair.predicted, pair.times, pair.videos) for pair in results.most_confused(RESULT, "abcd")]
    assert pairs == [("c", "a", 5, 10), ("b", "c", 2, 4), ("a", "b", 1, 4), ("b", "d", 1, 4)]
    monkeypatch.setattr(results, "MOST_PAIRS", 2)
    assert len(results.most_confused(RESULT, "abcd")) == 2


def test_lines_show_worst_classes_and_confused_pairs():
    text = list(results.lines(RESULT, ["juggling", "diving", "surfing", "skiing"]))
    assert text[0].split() == ["top1", "videos", "class"]
    assert text[1].split() == ["25.00", "4", "diving"]
    assert text[5].split() == ["5", "10", "surfing", "→", "juggling"]
    assert len(text) == 1 + 3 + 1 + 4


def test_with_more_than_five_classes_lines_show_the_best_five():
    confusion_KK = torch.ones(6, 6, dtype=torch.int64) + torch.diag(torch.tensor([1, 0, 0, 0, 0, 0]))
    result = Result(confusion_KK, torch.full((6,), 4), 1.0, 37, [])
    text = list(results.lines(result, "abcdef"))
    assert text[0].split() == ["top1", "top5", "videos", "class"]
    assert text[6].split() == ["28.57", "57.14", "7", "a"]


def test_classes_without_names_are_shown_by_number():
    assert [one.name for one in results.worst_first(RESULT, ())] == ["1", "2", "0"]


def test_control_characters_in_names_are_not_printed():
    text = "\n".join(results.lines(RESULT, HOSTILE))
    assert "\x1b" not in text and "\udcff" not in text
    assert "�[2Jb��" in text
    assert len(text.splitlines()) == 9


def test_a_table_holds_the_whole_matrix_under_its_names(tmp_path):
    results.save_confusion(tmp_path / "confusion.csv", RESULT, ["a,b", 'c"', "手", "d"])
    header, *rows = csv.reader((tmp_path / "confusion.csv").open(encoding="utf-8"))
    assert header == ["class", "a,b", 'c"', "手", "d"]
    assert [row[0] for row in rows] == header[1:]
    assert [[int(count) for count in row[1:]] for row in rows] == RESULT.confusion_KK.tolist()


def test_class_names_in_a_csv_are_no_spreadsheet_formulas(tmp_path):
    results.save_confusion(tmp_path / "confusion.csv", RESULT, ["=1+1", "+a", "-b", "@c"])
    header, *rows = csv.reader((tmp_path / "confusion.csv").open(encoding="utf-8"))
    assert header == ["class", "'=1+1", "'+a", "'-b", "'@c"]
    assert [row[0] for row in rows] == header[1:]


@pytest.mark.parametrize("class_names", [HOSTILE, ()])
def test_the_confusion_picture_is_dark_where_videos_are(tmp_path, class_names):
    results.save_confusion(tmp_path / "confusion.png", RESULT, class_names)
    picture = np.asarray(Image.open(tmp_path / "confusion.png").convert("L"))
    assert min(picture.shape) > 300
    assert picture.min() < 100 and np.median(picture) > 200
