"""eval.py accepts one network, numbers classes as the network does, and needs no training list for that."""

import json
import sys

import pytest
import torch

import configs
import eval as evaluation
from configs import cli
from dali_pipes import DataError
from engine import distributed
from engine.evaluation.evaluate import evaluate as evaluate_all
from models import build_model
from tests.support import tiny
from tests.support.videos import write_video


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return the folder of a run with a network of the classes red, green, blue, and class folders of videos."""
    monkeypatch.chdir(tmp_path)
    config = tiny.config(data={"source": "video", "train": "gone", "val": "val"})
    (tmp_path / "run").mkdir()
    file = {"model": build_model(config.model).state_dict(), "config": configs.flat(config)}
    torch.save(file | {"class_names": ("red", "green", "blue")}, tmp_path / "run" / "best.pt")
    (tmp_path / "run" / "config.yaml").write_text(configs.to_yaml(config))
    for name, videos in (("blue", 1), ("green", 2), ("red", 3)):
        (tmp_path / "val" / name).mkdir(parents=True)
        for number in range(videos):
            write_video(tmp_path / "val" / name / f"{number}.mp4", "libx264", 4 + number)
    return tmp_path / "run"


def evaluate(monkeypatch, *words):
    """Return the JSON result of eval.py."""
    monkeypatch.setattr(sys, "argv", ["eval.py", *words, "--json", "out.json", "runtime.device=cpu"])
    args = evaluation.arguments()
    evaluation.score(cli.recipe_of(args), args)
    with open("out.json") as file:
        return json.load(file)


def test_a_run_alone_is_evaluated_by_the_names_of_its_classes_without_its_training_list(run, monkeypatch):
    found = evaluate(monkeypatch, "run")
    assert (found["class_names"], found["videos_per_class"]) == (["red", "green", "blue"], [3, 2, 1])
    assert evaluate(monkeypatch, "run/best.pt")["confusion"] == found["confusion"]
    assert evaluate(monkeypatch, "--config", "run", "--weights", "run/best.pt")["confusion"] == found["confusion"]


def test_a_validation_list_on_the_command_line_is_evaluated_though_the_run_has_a_test_list(run, monkeypatch):
    (run.parent / "two.list").write_text("val/red/0.mp4 0\nval/red/1.mp4 0\n")
    content = torch.load(run / "best.pt")
    torch.save(content | {"config": content["config"] | {"data.test": "val"}}, run / "best.pt")
    assert evaluate(monkeypatch, "run")["evaluated"] == 6
    assert evaluate(monkeypatch, "run", "data.val=two.list", "--force")["evaluated"] == 2
    assert evaluate(monkeypatch, "run", "data.val=two.list", "data.test=val", "--force")["evaluated"] == 6


def test_other_classes_are_refused_though_there_are_as_many(run, monkeypatch):
    (run.parent / "val" / "blue").rename(run.parent / "val" / "sky_blue")
    with pytest.raises(DataError, match="'sky_blue', and lacks 'blue' of the network"):
        evaluate(monkeypatch, "run")


@pytest.mark.parametrize(("words", "limit"), [([], 45), (["runtime.timeout=77"], 77)])
def test_an_evaluation_waits_as_long_as_its_settings_say(run, monkeypatch, words, limit):
    network = torch.load(run / "best.pt")
    torch.save(network | {"config": network["config"] | {"runtime.timeout": 45.0}}, run / "best.pt")
    limits = []

    def recorded(*arguments, **named):
        limits.append(distributed.common_watch().limit)
        return evaluate_all(*arguments, **named)

    monkeypatch.setattr("engine.evaluation.evaluate.evaluate", recorded)
    evaluate(monkeypatch, "run", *words)
    assert limits == [limit]


def test_a_recipe_that_leaves_the_name_of_its_run_open_names_none(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["eval.py", "--config", "finetune", "data.train=mine"])
    args = evaluation.arguments()
    with pytest.raises(
        configs.ConfigError, match=r"train\.name: auto stands for no run here; name one, such as runs/NAME"
    ):
        evaluation.check(cli.recipe_of(args), args)


def test_a_video_that_is_evaluated_is_never_replaced(run, monkeypatch):
    video = run.parent / "val" / "red" / "0.mp4"
    content = video.read_bytes()
    (run.parent / "out.json").hardlink_to(video)
    with pytest.raises(configs.ConfigError, match=r"out\.json: is a source of this command, which is never replaced"):
        evaluate(monkeypatch, "run", "--force")
    assert video.read_bytes() == content


def test_evaluating_the_training_list_is_warned_about(run, monkeypatch, caplog):
    evaluate(monkeypatch, "run", "data.train=val")
    assert "is both the training list and the held-out list" in caplog.text


@pytest.mark.parametrize(
    "words, seen", [((), "no network given"), (("run", "--weights", "x.pt"), "run, x.pt: name one network")]
)
def test_eval_refuses_no_network_and_two_networks(run, monkeypatch, capsys, words, seen):
    with pytest.raises(SystemExit):
        evaluate(monkeypatch, *words)
    assert seen in capsys.readouterr().err
