"""The run folder: what is in it, and that two trainers never share one."""

import errno
import json
import multiprocessing
import os
import resource
import signal
from unittest import mock

import pytest

from configs import ConfigError, load, to_yaml
from engine.files import read_lines
from engine.logs import start_logging
from engine.runs import run_folder
from engine.runs.environment import environment
from engine.runs.run_folder import RunFolder


def test_folder_says_how_the_run_came_about(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder.sys, "argv", ["train.py", "--config", "demo.yaml", "train.name=my run"])
    config = load("demo.yaml", [f"train.runs={tmp_path}", "train.name=one"])
    run = run_folder.open_run(config)
    assert load(run.folder / "config.yaml") == config
    assert (run.folder / "command.txt").read_text().endswith("train.py --config demo.yaml 'train.name=my run'\n")
    found = json.loads((run.folder / "env.json").read_text())
    assert {"commit", "dirty", "packages", "gpu", "cpu", "cores"} <= found.keys()
    assert "torch" in found["packages"]


def test_a_run_that_has_begun_is_only_opened_to_go_on(tmp_path):
    run = RunFolder(tmp_path)
    run.status("running", 3)
    (run.checkpoints / "step-00000003.pt").write_text("weights")
    del run  # and with it the lock
    with pytest.raises(ConfigError, match="already holds a run; go on with --resume"):
        RunFolder(tmp_path)
    RunFolder(tmp_path, resume=True)


def test_a_folder_in_which_nothing_has_begun_is_taken(tmp_path):
    RunFolder(tmp_path)
    RunFolder(tmp_path)


def test_a_run_that_failed_before_its_first_checkpoint_can_simply_be_started_again(tmp_path):
    RunFolder(tmp_path).status("failed", 0)
    RunFolder(tmp_path)


def test_a_disk_that_is_full_before_the_run_has_begun_is_said_in_a_line(tmp_path, monkeypatch):
    config = load("demo.yaml", [f"train.runs={tmp_path}"])
    monkeypatch.setattr(
        run_folder, "replace_file", mock.Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    )
    with pytest.raises(ConfigError, match=r"demo cannot be written \(No space left on device\); name another folder"):
        run_folder.open_run(config)


def test_fresh_removes_what_the_run_has(tmp_path):
    run = RunFolder(tmp_path)
    run.status("finished", 3)
    run.metrics("train", step=1)
    (run.checkpoints / "step-00000003.pt").write_text("weights")
    del run  # and with it the lock
    RunFolder(tmp_path, fresh=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "checkpoints"]
    assert not list((tmp_path / "checkpoints").iterdir())


def test_fresh_leaves_a_folder_that_is_no_run_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    RunFolder(tmp_path, fresh=True)
    assert (tmp_path / "thesis.txt").exists()


def test_a_folder_that_cannot_be_written_is_an_error_before_training(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ConfigError, match="cannot be written"):
        RunFolder(tmp_path / "file" / "run")


def hold(folder, opened, release):
    run = RunFolder(folder, resume=True)
    run.status("running", 0)
    opened.set()
    release.wait()


def test_a_second_trainer_is_refused_until_the_first_is_gone_however_it_ends(tmp_path):
    fork = multiprocessing.get_context("fork")
    opened, release = fork.Event(), fork.Event()
    holder = fork.Process(target=hold, args=(tmp_path, opened, release))
    holder.start()
    opened.wait()
    with pytest.raises(ConfigError, match=f"is in use by process {holder.pid} on"):
        RunFolder(tmp_path, resume=True)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    RunFolder(tmp_path, resume=True)


def try_to_open(folder, barrier, release, won):
    barrier.wait()
    try:
        run = RunFolder(folder, resume=True)
    except ConfigError:
        won.put(False)
    else:
        won.put(True)
        release.wait()
        del run


def test_of_trainers_that_start_at_once_one_wins(tmp_path):
    fork = multiprocessing.get_context("fork")
    barrier, release, won = fork.Barrier(4), fork.Event(), fork.Queue()
    trainers = [fork.Process(target=try_to_open, args=(tmp_path, barrier, release, won)) for _ in range(4)]
    for trainer in trainers:
        trainer.start()
    results = [won.get() for _ in trainers]
    release.set()
    for trainer in trainers:
        trainer.join()
    assert sorted(results) == [False, False, False, True]


def test_an_unreadable_video_is_named_once_over_restarts(tmp_path):
    run = RunFolder(tmp_path)
    run.quarantine("train", [(3, "a.mp4", "a.mp4: is empty")])
    run.quarantine("train", [(3, "a.mp4", "a.mp4: is empty"), (5, "b.mp4", "b.mp4: is text")])
    del run  # and with it the lock
    RunFolder(tmp_path, resume=True).quarantine("train", [(3, "a.mp4", "a.mp4: is empty")])
    RunFolder(tmp_path, resume=True).quarantine("val", [(3, "c.mp4", "c.mp4: has no video")])
    entries = [json.loads(line) for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert [(entry["split"], entry["row"], entry["path"]) for entry in entries] == [
        ("train", 3, "a.mp4"), ("train", 5, "b.mp4"), ("val", 3, "c.mp4")
    ]  # fmt: skip


def test_metrics_are_tagged_lines_and_a_line_cut_short_is_passed_over(tmp_path):
    run = RunFolder(tmp_path)
    run.metrics("train", step=10, loss=1.5)
    run.metrics("val", step=10, top1=0.25)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"_type": "train", "ste')
    entries = list(read_lines(tmp_path / "metrics.jsonl"))
    assert [(entry["_type"], entry["step"]) for entry in entries] == [("train", 10), ("val", 10)]


def test_what_is_added_behind_a_line_cut_short_stands_on_its_own(tmp_path):
    run = RunFolder(tmp_path)
    run.quarantine("train", [(1, "a.mp4", "is damaged")])
    with (tmp_path / "quarantine.jsonl").open("a") as file:
        file.write('{"split": "tr')
    del run
    RunFolder(tmp_path, resume=True).quarantine("train", [(2, "b.mp4", "is damaged")])
    assert [entry["row"] for entry in read_lines(tmp_path / "quarantine.jsonl")] == [1, 2]


def test_rewinding_forgets_what_came_after_the_checkpoint(tmp_path):
    run = RunFolder(tmp_path)
    for step in (5, 10, 15):
        run.metrics("train", step=step)
    run.metrics("val", step=10)
    run.rewind(10)
    assert [entry["step"] for entry in read_lines(tmp_path / "metrics.jsonl")] == [5, 10, 10]
    assert run.has_metrics("val", 10) and not run.has_metrics("val", 5) and not run.has_metrics("train", 15)


def test_status_holds_the_last_state_and_leaves_no_temporary_file(tmp_path):
    run = RunFolder(tmp_path)
    run.status("running", 0)
    run.status("preempted", 7, checkpoint="step-00000007.pt")
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["state"], status["step"], status["checkpoint"]) == ("preempted", 7, "step-00000007.pt")
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_copy_without_git_names_its_commit_in_the_environment(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("COMMIT", "abc123")
    assert environment.__wrapped__()["commit"] == "abc123"


def test_the_complete_configuration_is_kept(tmp_path):
    config = load("demo.yaml", [f"train.runs={tmp_path}"])
    assert (run_folder.open_run(config).folder / "config.yaml").read_text() == to_yaml(config)


def test_a_number_that_json_cannot_hold_is_null(tmp_path):
    RunFolder(tmp_path).metrics("train", step=1, grad_norm=float("inf"))
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["grad_norm"] is None


def test_a_full_disk_costs_a_line_not_the_run(tmp_path, caplog):
    run = RunFolder(tmp_path)
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    run.metrics("train", 1, loss=2.0)
    assert "No space left on device" in caplog.text


def write_until_full(folder, told):
    """Record into files that the kernel refuses to let grow beyond 2000 bytes; `told` takes what stderr would."""
    with os.fdopen(told, "w") as stderr:
        start_logging(stderr)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        run = RunFolder(folder)
        run.rewind(0)
        for step in range(100):
            run.metrics("train", step, loss=1.0)
        run.status("finished", 100)


def test_a_disk_that_takes_no_more_costs_curves_not_the_run(tmp_path):
    heard, told = os.pipe()
    writer = multiprocessing.get_context("fork").Process(target=write_until_full, args=(tmp_path, told))
    writer.start()
    os.close(told)
    said = os.fdopen(heard).read()
    writer.join()
    assert writer.exitcode == 0
    assert said.count("WARNING nothing more for TensorBoard: [Errno 27] File too large") == 1
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "finished"
