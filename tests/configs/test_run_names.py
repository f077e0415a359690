"""Runs named by their folder, or by a file in it: as a recipe, for --resume, for evaluation and for export."""

import shutil
import sys
from pathlib import Path

import pytest

import configs
import train as training
from configs import cli
from tools import export


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = configs.load("demo", ["train.name=first", "train.epochs=7"])
    (tmp_path / "runs" / "first" / "checkpoints").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "config.yaml").write_text(configs.to_yaml(config))
    (tmp_path / "runs" / "first" / "best.pt").touch()
    return Path("runs/first")


def asked_for(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    args = training.arguments()
    return cli.from_arguments(args), args


def test_a_runs_folder_is_a_recipe(run):
    assert configs.load(run) == configs.load(run / "config.yaml")


@pytest.mark.parametrize("file", [".", "best.pt", "checkpoints/step-00000001.pt"])
def test_a_run_can_be_resumed_by_its_folder_or_any_file_in_it(run, monkeypatch, file):
    (run / "checkpoints/step-00000001.pt").touch()
    config, args = asked_for(monkeypatch, "--resume", str(run / file), "train.batch=16")
    assert args.resume and (config.train.name, config.train.epochs, config.train.batch) == ("first", 7, 16)
    assert Path(config.train.runs) == Path("runs").absolute()


def test_a_run_is_resumed_by_its_name(run, monkeypatch):
    for words in ((), ("--config", "demo"), ("train.runs=runs",)):
        config, args = asked_for(monkeypatch, "--resume", "first", *words)
        assert args.resume and Path(config.train.runs, config.train.name) == Path("runs/first").absolute()
    assert config.train.epochs == 7


def test_a_missing_run_is_not_reported_as_a_recipe(monkeypatch, capsys):
    with pytest.raises(SystemExit) as leaving:
        asked_for(monkeypatch, "--resume", "runs/frist")
    assert leaving.value.code == 2
    said = "runs/frist: --resume: no run has this name or folder; `ls runs` shows those there are\n"
    assert capsys.readouterr().err == said


def test_a_copied_run_is_resumed_where_it_is(run, monkeypatch):
    copy = run.rename("elsewhere")
    config, _ = asked_for(monkeypatch, "--resume", str(copy))
    assert Path(config.train.runs, config.train.name) == copy.absolute()


def test_resume_without_a_run_and_before_a_setting_is_a_flag(monkeypatch):
    config, args = asked_for(monkeypatch, "--config", "demo", "--resume", "train.epochs=9")
    assert args.resume and config.train.epochs == 9
    config, args = asked_for(monkeypatch, "--config", "demo", "train.epochs=9", "--resume")
    assert args.resume and config.train.epochs == 9
    assert not asked_for(monkeypatch, "--config", "demo")[1].resume


def test_settings_around_resume_keep_their_order(monkeypatch):
    words = ["train.epochs=5", "--resume", "train.epochs=7", "train.seed=1", "--config", "demo"]
    config, args = asked_for(monkeypatch, *words)
    assert args.resume is True and (config.train.epochs, config.train.seed) == (7, 1)


def test_export_takes_a_network_as_a_word_or_by_a_flag(capsys):
    words = ["--format", "onnx", "model.frames=4"]
    for named in (["runs/first"], ["--weights", "runs/first"]):
        args = export.arguments([*named, *words])
        assert (args.weights, args.overrides) == ("runs/first", ["model.frames=4"])
    for wrong, seen in (([], "no network given"), (["a", "--weights", "b"], "a, b: name one network")):
        with pytest.raises(SystemExit):
            export.arguments([*wrong, *words])
        assert seen in capsys.readouterr().err


def test_a_run_that_was_moved_or_copied_reads_the_lists_that_it_wrote(run, monkeypatch):
    lists = [f"data.train={run}/data/train.list", f"data.val={run}/data/val.list", "data.test=mine.list"]
    config = configs.load(run / "config.yaml", lists)
    (run / "config.yaml").write_text(configs.to_yaml(config))
    (run / "data").mkdir()
    for name in ("train.list", "val.list"):
        (run / "data" / name).touch()
    assert configs.load(run) == config == configs.moved(config, run)
    copy = Path(shutil.copytree(run, "copy"))
    (copy / "data" / "val.list").unlink()
    for found in (configs.load(copy), configs.load(copy / "config.yaml"), configs.moved(config, copy)):
        assert (found.data.train, found.data.val, found.data.test) == (
            "copy/data/train.list",
            config.data.val,
            "mine.list",
        )
    run.rename("runs/second")
    resumed, _ = asked_for(monkeypatch, "--resume", "second")
    assert (resumed.data.train, resumed.train.name) == (f"{Path.cwd()}/runs/second/data/train.list", "second")
