"""Curves and pictures of a run in TensorBoard, Weights & Biases and MLflow; the last two are stand-ins."""

import json
import sys
from types import SimpleNamespace
from unittest import mock

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import configs
from engine.runs.run_folder import RunFolder
from engine.runs.trackers import WeightsAndBiases, identity
from tests.support import tiny
from tests.support.videos import write_video

SETTINGS = {"optim.lr": 0.1}


@pytest.fixture
def wandb(monkeypatch):
    module = mock.MagicMock()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


@pytest.fixture
def mlflow(monkeypatch):
    module = mock.MagicMock()
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return module


def run_of(folder, *trackers, **how):
    run = RunFolder(folder / "mine", trackers=trackers, settings=SETTINGS, **how)
    run.describe(configs.to_yaml(tiny.config(train={"name": "mine"})))
    return run


def record(run):
    """Record two steps, an evaluation with its picture, and the end."""
    run.rewind(0)
    run.metrics("train", 1, loss=2.0, note="text")
    run.metrics("train", 2, loss=1.5)
    run.send_pictures()
    run.close()


@pytest.fixture
def evaluated(tmp_path):
    """Write val_best.json with one example video."""
    write_video(tmp_path / "a.mp4", "libx264", 24, gop=12, size=(64, 96))
    example = {"kind": "mistake", "path": str(tmp_path / "a.mp4"), "label": 0, "predicted": 1}
    best = {
        "step": 2,
        "class_names": ["left", "right"],
        "confusion": [[3, 1], [0, 4]],
        "top5_per_class": [4, 4],
        "loss": 0.5,
        "rows": 8,
        "unreadable_videos": [],
        "examples": [{**example, "confidence": 0.9, "truth": 0.1}],
    }

    def write(run):
        (run.folder / "val_best.json").write_text(json.dumps(best))

    return write


def test_weights_and_biases_gets_numbers_pictures_and_settings(tmp_path, wandb, evaluated):
    run = run_of(tmp_path, "wandb")
    evaluated(run)
    record(run)
    begun = wandb.init.call_args.kwargs
    assert (begun["name"], begun["config"], begun["resume"]) == ("mine", SETTINGS, "allow")
    logged = wandb.init().log.call_args_list
    assert logged[:2] == [mock.call({"train/loss": 2.0}, step=1), mock.call({"train/loss": 1.5}, step=2)]
    assert [list(call.args[0]) for call in logged[2:]] == [["confusion"], ["mistake/0"]]
    shapes = [call.args[0].size for call in wandb.Image.call_args_list]
    assert shapes[0][0] > 300 and shapes[1][1] == 90
    wandb.init().finish.assert_called_once_with()


def test_pictures_of_an_earlier_step_are_not_lost_at_weights_and_biases(tmp_path, wandb):
    (tmp_path / "command.txt").write_text("command")
    tracker = WeightsAndBiases(tmp_path, SETTINGS, 0)
    tracker.numbers(5, {"train/loss": 1.0})
    tracker.picture(2, "confusion", mock.MagicMock())
    assert [call.kwargs["step"] for call in wandb.init().log.call_args_list] == [5, 5]
    assert wandb.Image.call_args.kwargs == {"caption": "step 2"}


def test_mlflow_gets_numbers_pictures_and_settings(tmp_path, mlflow, evaluated):
    run = run_of(tmp_path, "mlflow")
    evaluated(run)
    record(run)
    mlflow.log_dict.assert_called_once_with(SETTINGS, "settings.json")
    assert mlflow.log_metrics.call_args_list == [
        mock.call({"train/loss": 2.0}, step=1),
        mock.call({"train/loss": 1.5}, step=2),
    ]
    assert [call.args[1] for call in mlflow.log_image.call_args_list] == ["confusion_2.png", "mistake/0_2.png"]
    mlflow.end_run.assert_called_once_with()


def test_tensorboard_gets_pictures_as_well(tmp_path, evaluated):
    run = run_of(tmp_path, "tensorboard")
    evaluated(run)
    record(run)
    curves = EventAccumulator(str(run.folder / "tb"))
    curves.Reload()
    assert [(event.step, event.value) for event in curves.Scalars("train/loss")] == [(1, 2.0), (2, 1.5)]
    assert curves.Tags()["images"] == ["confusion", "mistake/0"]


def test_a_resumed_run_keeps_its_identity_and_a_fresh_one_has_another(tmp_path, monkeypatch):
    run = run_of(tmp_path)
    first = identity(run.folder)
    run.close()
    resumed = run_of(tmp_path, resume=True)
    assert identity(resumed.folder) == first
    resumed.close()
    monkeypatch.setattr("engine.runs.run_folder.now", lambda: "another time")
    fresh = run_of(tmp_path, fresh=True)
    assert identity(fresh.folder) != first
    fresh.close()


def test_a_failing_tracker_is_dropped_and_others_continue(tmp_path, wandb, mlflow, caplog):
    wandb.init().log.side_effect = RuntimeError("no account")
    record(run_of(tmp_path, "wandb", "mlflow"))
    assert caplog.text.count("wandb gets no more data: no account") == 1
    assert mlflow.log_metrics.call_count == 2


def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "wandb", None)
    record(run_of(tmp_path, "wandb"))
    assert "wandb gets no data: import of wandb halted; None in sys.modules; pip install wandb" in caplog.text


def test_no_pictures_are_drawn_without_trackers(tmp_path, evaluated, monkeypatch):
    run = run_of(tmp_path)
    evaluated(run)
    monkeypatch.setattr("engine.runs.trackers.confusion_picture", SimpleNamespace())
    record(run)
