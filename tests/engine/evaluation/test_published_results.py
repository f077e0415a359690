"""What is said and written of a result, and what happens where it cannot be written."""

import json
from argparse import Namespace

import pytest
import torch

from dali_pipes import DataError
from engine.evaluation.accuracy import Result
from engine.evaluation.results import publish

RESULT = Result(torch.tensor([[3, 1], [0, 2]]), torch.tensor([4, 2]), 0.25, 7, [(5, "5.mp4", "is empty")])


def published(**asked):
    """The lines that are said."""
    said = []
    args = Namespace(**{"json": None, "confusion": None, "per_class": False, **asked})
    publish(RESULT, ["juggling", "diving"], args, {"weights": "best.pt"}, said.append)
    return "\n".join(said).splitlines()


def test_one_line_is_said_and_classes_only_where_asked_for():
    assert published() == [RESULT.summary()]
    assert published(per_class=True)[2].split() == ["75.00", "100.00", "4", "juggling"]


def test_json_holds_the_whole_result_and_what_it_is_of(tmp_path):
    published(json=tmp_path / "result.json")
    content = json.loads((tmp_path / "result.json").read_text())
    assert Result.from_json(content).to_json() == RESULT.to_json()
    assert (content["class_names"], content["weights"]) == (["juggling", "diving"], "best.pt")


@pytest.mark.parametrize("asked", ["json", "confusion"])
def test_a_disk_that_refuses_is_named_after_the_result_was_said(tmp_path, asked):
    said = []
    args = Namespace(**{"json": None, "confusion": None, "per_class": False, asked: tmp_path / "gone" / "file.csv"})
    with pytest.raises(DataError, match=r"gone/file\.csv: cannot be written: No such file or directory"):
        publish(RESULT, ["juggling", "diving"], args, {}, said.append)
    assert said == [RESULT.summary()]
