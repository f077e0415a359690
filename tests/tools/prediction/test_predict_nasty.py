"""Every nasty file is predicted, followed and labelled, or named with a reason: no traceback, none omitted."""

import json
import sys

import pytest
import torch

import configs
from dali_pipes import DataError
from dali_pipes.scan.probe import probe
from models import build_model
from tests.support import tiny
from tools.predict import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    config = tiny.config(model={"causal": True}, data={"source": "video", "train": "unknown"})
    content = {"model": build_model(config.model).state_dict(), "config": configs.flat(config)}
    file = tmp_path_factory.mktemp("nasty") / "best.pt"
    torch.save(content, file)
    return file


def readable(path):
    try:
        probe(str(path))
    except DataError:
        return False
    return True


@pytest.mark.parametrize("mode", [(), ("--sliding", "2", "--save-video"), ("--online", "--every", "5")])
def test_every_nasty_file_is_predicted_or_named_with_a_reason(shared, weights, tmp_path, monkeypatch, capfd, mode):
    files = sorted(path for path in (shared / "data" / "nasty").iterdir() if path.suffix not in (".md", ".txt"))
    arguments = [*map(str, files), "--weights", str(weights), "--json", str(tmp_path / "o.jsonl"), *mode]
    arguments += [str(tmp_path / "new")] if "--save-video" in mode else []
    monkeypatch.setattr(sys, "argv", ["predict.py", *arguments])
    code = main()
    out, err = capfd.readouterr()
    answers = {answer["path"]: answer for answer in map(json.loads, (tmp_path / "o.jsonl").open())}
    failed = {path for path, answer in answers.items() if "error" in answer}
    assert code == 3
    assert "Traceback" not in out + err
    assert sorted(answers) == sorted(map(str, files))
    assert failed == {str(path) for path in files if not readable(path)}
    assert all(answers[path]["error"] in err for path in failed)
    labelled = {path for path, answer in answers.items() if "labelled" in answer}
    assert labelled == (answers.keys() - failed if "--save-video" in mode else set())
