"""Printed and written results, and the error if a file cannot be written."""

import json
from argparse import Namespace

import pytest
import torch

from dali_pipes import DataError
from dali_pipes.errors import Unreadable
from engine.evaluation.accuracy import Result
from engine.evaluation.results import publish

RESULT = Result(torch.tensor([[3, 1], [0, 2]]), None, 0.25, 7, [Unreadable(5, "5.mp4", "is empty")])


def publish_with(**asked):
    args = Namespace(**{"json": None, "confusion": None, "per_class": False, **asked})
    publish(RESULT, ["juggling", "diving"], args, {"weights": "best.pt"})


def test_the_totals_are_printed_and_classes_only_if_asked_for(capsys):
    publish_with()
    assert capsys.readouterr().out.splitlines() == [RESULT.summary()]
    publish_with(per_class=True)
    assert capsys.readouterr().out.splitlines()[2].split() == ["75.00", "4", "juggling"]


def test_json_holds_the_whole_result_and_where_it_is_from(tmp_path):
    publish_with(json=tmp_path / "result.json")
    content = json.loads((tmp_path / "result.json").read_text())
    assert Result.from_json(content).to_json() == RESULT.to_json()
    assert (content["class_names"], content["weights"]) == (["juggling", "diving"], "best.pt")


@pytest.mark.parametrize("asked", ["json", "confusion"])
def test_a_file_that_cannot_be_written_is_named_after_the_result_was_printed(tmp_path, capsys, asked):
    with pytest.raises(DataError, match=r"gone/file\.csv: cannot be written: No such file or directory"):
        publish_with(**{asked: tmp_path / "gone" / "file.csv"})
    assert capsys.readouterr().out.splitlines() == [RESULT.summary()]
