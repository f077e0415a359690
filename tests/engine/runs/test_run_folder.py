"""The run folder: its files, and that two trainers never share one."""

import errno
import json
import multiprocessing
import os
import platform
import resource
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from unittest import mock

import pytest
import torch

from configs import ConfigError, load, to_yaml
from engine import output_record
from engine.files import read_lines
from engine.logs import start_logging
from engine.output_record import RECORD
from engine.outputs import Outputs
from engine.runs import checkpoint, checkpoint_files, run_folder
from engine.runs.condition import read_starts, words_of
from engine.runs.environment import environment
from engine.runs.run_folder import GROWING, LOCK, WHOLE, RunFolder
from tests.support.files.trees import plant


def test_a_run_folder_records_config_command_and_environment(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder.sys, "argv", ["train.py", "--config", "demo.yaml", "train.name=my run"])
    config = load("demo.yaml", [f"train.runs={tmp_path}", "train.name=one"])
    run = run_folder.open_run(config)
    assert load(run.folder / "config.yaml") == config
    assert (run.folder / "command.txt").read_text().endswith("train.py --config demo.yaml 'train.name=my run'\n")
    found = json.loads((run.folder / "env.json").read_text())
    assert {"commit", "dirty", "packages", "gpu", "cpu", "cores"} <= found.keys()
    assert "torch" in found["packages"]


@pytest.mark.parametrize("name", ["a\nb", "two\n\n words", "\udcff", "it's"])
def test_the_command_of_a_run_is_read_back_whatever_its_words_hold(tmp_path, monkeypatch, name):
    words = ["train.py", "--config", "demo.yaml", f"data.train={name}"]
    monkeypatch.setattr(run_folder.sys, "argv", words)
    run = run_folder.open_run(load("demo.yaml", [f"train.runs={tmp_path}", "train.name=one"]))
    ((_, line),) = read_starts(run.folder)
    assert words_of(line) == words
    if name != "\udcff":  # which a shell gets as a byte
        shell = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True)
        assert shell.stdout.split("\0")[:-1] == words


def test_a_new_run_is_not_put_into_the_folder_that_it_reads(tmp_path):
    config = load("demo.yaml", [f"train.runs={tmp_path}/set/runs", "train.name=one", "data.val="])
    (tmp_path / "set").mkdir()
    with pytest.raises(ConfigError, match="a source of this command, which would be read with the results"):
        run_folder.open_run(config, sources=[str(tmp_path / "set")])
    assert not (tmp_path / "set" / "runs").exists()


def test_a_fresh_run_removes_nothing_if_a_changed_file_is_in_its_way(tmp_path):
    run = RunFolder(tmp_path)
    run.describe("train: {}\n")
    run.result("best", {"top1": 1})
    run.close()
    (tmp_path / "env.json").write_text("mine")
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(ConfigError, match=r"env\.json is in the way"):
        RunFolder(tmp_path, fresh=True)
    assert (tmp_path / "val_best.json").exists()


def test_a_started_run_is_only_opened_to_resume(tmp_path):
    run = RunFolder(tmp_path)
    run.status.update(state="running", step=3)
    (run.checkpoints / "step-00000003.pt").write_text("weights")
    del run  # and with it the lock
    with pytest.raises(ConfigError, match="already contains a run; continue it with --resume"):
        RunFolder(tmp_path)
    RunFolder(tmp_path, resume=True)


def test_a_folder_without_a_started_run_can_be_used(tmp_path):
    RunFolder(tmp_path)
    RunFolder(tmp_path)


def test_a_run_that_failed_before_its_first_checkpoint_can_simply_be_started_again(tmp_path):
    RunFolder(tmp_path).status.update(state="failed", step=0)
    RunFolder(tmp_path)


def test_a_full_disk_at_the_start_of_a_run_is_an_error_of_one_line(tmp_path, monkeypatch):
    config = load("demo.yaml", [f"train.runs={tmp_path}"])
    full = mock.Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(run_folder.Outputs, "write", full)
    with pytest.raises(ConfigError, match=r"demo cannot be written \(No space left on device\); name another folder"):
        run_folder.open_run(config)


def test_fresh_removes_what_the_run_has(tmp_path):
    write_run(tmp_path)
    RunFolder(tmp_path, fresh=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK, "checkpoints"]
    assert not list((tmp_path / "checkpoints").iterdir())


def write_run(folder):
    """Write all files of a run into its folder, as train.py does; the name of the run is the folder's."""
    config = load("demo.yaml", [f"train.runs={folder.parent}", f"train.name={folder.name}"])
    run = run_folder.open_run(config)
    weights = {"model": {"weight": torch.zeros(3)}}
    checkpoint.save(checkpoint_files.step_file(run.checkpoints, 3), weights)
    checkpoint.save(run.best, weights, top1=0.5)
    run.rewind(0)
    for step in (1, 2):
        run.metrics("train", step=step, loss=1.0)
    run.quarantine("train", [(3, "a.mp4", "is empty")])
    for which in ("last", "best"):
        run.result(which, {"top1": 0.5})
    run.inputs([], {"pyav": 1})
    run.status.update(state="finished", step=3)
    run.outputs.write({folder / "report.html": "report"})


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_fresh_keeps_what_a_user_keeps_or_has_changed_in_the_folder_of_a_run(tmp_path):
    write_run(tmp_path)
    mine = {"recipe.yaml": "mine", "data/a.mp4": "video", "tb/mine": "x", "checkpoints/kept.pt": "weights", "env": "1"}
    plant(tmp_path, mine)
    (tmp_path / "best of all.pt").hardlink_to(tmp_path / "best.pt")
    Outputs().write({tmp_path / "eval.json": "of another command"})
    mine["eval.json"] = "of another command"
    weights = (tmp_path / "best.pt").read_bytes()
    RunFolder(tmp_path, fresh=True)
    kept = {str(name): found for name, found in content(tmp_path).items()}
    assert kept.pop(LOCK) and kept.pop(RECORD) and kept.pop("best of all.pt") == weights
    assert {name: found.decode() for name, found in kept.items()} == mine


RUN_FILES = [*WHOLE, *GROWING, "best.pt", "best.pt.json", "checkpoints/step-00000003.pt"]


@pytest.mark.parametrize("name", RUN_FILES)
@pytest.mark.parametrize("how", [{}, {"fresh": True}, {"resume": True}], ids=str)
def test_a_users_file_with_the_name_of_a_runs_file_stays(tmp_path, name, how):
    """The file is there before the first run, or replaces a file of the run."""
    for folder, written in ((tmp_path / "new", False), (tmp_path / "old", True)):
        folder.mkdir()
        if written:
            write_run(folder)
            (folder / name).unlink()
        plant(folder, {name: "mine"})
        with suppress(ConfigError):
            RunFolder(folder, **how).status.update(state="running", step=0)
        assert (folder / name).read_text() == "mine"


def test_a_link_to_the_checkpoints_of_another_run_is_refused(tmp_path):
    write_run(tmp_path / "a")
    before = content(tmp_path / "a")
    for name in ("checkpoints", "tb"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).symlink_to(tmp_path / "a" / name)
        for how in ({}, {"fresh": True}, {"resume": True}):
            with pytest.raises(ConfigError, match=f"{name} is a link, maybe to the files of another run"):
                RunFolder(tmp_path / name, **how)
    assert content(tmp_path / "a") == before


def test_fresh_removes_no_run_of_another_name(tmp_path):
    write_run(tmp_path / "a")
    (tmp_path / "b").symlink_to("a")
    before = content(tmp_path / "a")
    with pytest.raises(ConfigError, match="contains the run a; --fresh removes only a run of its name"):
        RunFolder(tmp_path / "b", fresh=True)
    assert content(tmp_path / "a") == before | {Path(LOCK): (tmp_path / "a" / LOCK).read_bytes()}


@pytest.mark.parametrize("source", ["best.pt", "config.yaml", "checkpoints/step-00000003.pt"])
def test_fresh_removes_no_source_of_its_command(tmp_path, source):
    write_run(tmp_path)
    before = content(tmp_path)
    with pytest.raises(ConfigError, match=f"{source}: is a source of this command, which is never removed"):
        RunFolder(tmp_path, fresh=True, outputs=Outputs([tmp_path / source]))
    assert content(tmp_path) == before


def test_a_run_works_without_flock_and_is_locked_while_its_process_lives(tmp_path, monkeypatch, caplog):
    refuse = mock.Mock(side_effect=OSError(errno.ENOSYS, "Function not implemented"))
    monkeypatch.setattr("fcntl.flock", refuse)
    RunFolder(tmp_path).status.update(state="running", step=3)
    assert "this file system has no locks" in caplog.text
    RunFolder(tmp_path, resume=True)
    (tmp_path / LOCK).write_text(f"process {os.getppid()} on {platform.node()}")
    with pytest.raises(ConfigError, match=f"is in use by process {os.getppid()} on"):
        RunFolder(tmp_path, resume=True)
    for gone in ("process 4194303 on another machine", f"process {2**22 + 1} on {platform.node()}"):
        (tmp_path / LOCK).write_text(gone)
        RunFolder(tmp_path, resume=True)


def test_a_users_file_with_the_name_of_the_lock_stays(tmp_path):
    (tmp_path / LOCK).write_text("mine")
    with pytest.raises(ConfigError, match="not a lock of tsm-dali"):
        RunFolder(tmp_path)
    assert (tmp_path / LOCK).read_text() == "mine"


def test_fresh_does_not_touch_a_folder_without_a_run(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    RunFolder(tmp_path, fresh=True)
    assert (tmp_path / "thesis.txt").exists()


def test_a_folder_that_cannot_be_written_is_an_error_before_training(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ConfigError, match="cannot be written"):
        RunFolder(tmp_path / "file" / "run")


def hold(folder, opened, release):
    run = RunFolder(folder, resume=True)
    run.status.update(state="running", step=0)
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


def test_only_one_of_several_simultaneous_trainers_gets_the_folder(tmp_path):
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
    moved, of_another_list = (3, "moved/c.mp4", "moved/c.mp4: has no video"), (3, "d.mp4", "d.mp4: is empty")
    RunFolder(tmp_path, resume=True).quarantine("val", [moved, of_another_list])
    entries = [json.loads(line) for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert [(entry["split"], entry["row"], entry["path"]) for entry in entries] == [
        ("train", 3, "a.mp4"), ("train", 5, "b.mp4"), ("val", 3, "c.mp4"), ("val", 3, "d.mp4")
    ]  # fmt: skip


def test_metrics_are_tagged_lines_and_a_line_cut_short_is_passed_over(tmp_path):
    run = RunFolder(tmp_path)
    run.metrics("train", step=10, loss=1.5)
    run.metrics("val", step=10, top1=0.25)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"_type": "train", "ste')
    entries = list(read_lines(tmp_path / "metrics.jsonl"))
    assert [(entry["_type"], entry["step"]) for entry in entries] == [("train", 10), ("val", 10)]


def test_text_appended_after_a_truncated_line_starts_on_a_new_line(tmp_path):
    run = RunFolder(tmp_path)
    run.quarantine("train", [(1, "a.mp4", "is damaged")])
    with (tmp_path / "quarantine.jsonl").open("a") as file:
        file.write('{"split": "tr')
    del run
    RunFolder(tmp_path, resume=True).quarantine("train", [(2, "b.mp4", "is damaged")])
    assert [entry["row"] for entry in read_lines(tmp_path / "quarantine.jsonl")] == [1, 2]


def test_rewinding_drops_metrics_after_the_checkpoint(tmp_path):
    run = RunFolder(tmp_path)
    for step in (5, 10, 15):
        run.metrics("train", step=step)
    run.metrics("val", step=10)
    run.rewind(10)
    assert [entry["step"] for entry in read_lines(tmp_path / "metrics.jsonl")] == [5, 10, 10]
    assert run.has_metrics("val", 10) and not run.has_metrics("val", 5) and not run.has_metrics("train", 15)


def test_status_holds_the_last_state_and_leaves_no_temporary_file(tmp_path):
    run = RunFolder(tmp_path)
    run.status.update(state="running", step=0)
    (run.checkpoints / "step-00000007.pt").touch()
    run.status.update(state="preempted", step=7, reason=None)
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["state"], status["step"], status["pid"]) == ("preempted", 7, os.getpid())
    assert status["checkpoint"] == str(run.checkpoints / "step-00000007.pt")
    assert not list(tmp_path.glob(".tmp-*"))


def test_the_record_of_a_folder_does_not_grow_with_the_heartbeat(tmp_path, monkeypatch):
    monkeypatch.setattr(output_record, "MOST_ENTRIES", 20)
    run = run_folder.RunFolder(tmp_path)
    for step in range(100):
        run.status.update(step=step)
    run.close()
    assert len((tmp_path / RECORD).read_text().splitlines()) <= 21
    assert output_record.is_result(tmp_path / "status.json")


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


def test_a_full_disk_loses_a_metrics_line_and_does_not_stop_the_run(tmp_path, caplog):
    run = RunFolder(tmp_path)
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    run.metrics("train", 1, loss=2.0)
    assert "No space left on device" in caplog.text


def write_until_full(folder, told):
    """Record into files that the kernel limits to 2000 bytes; `told` receives what stderr would."""
    with os.fdopen(told, "w") as stderr:
        start_logging(stderr)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        run = RunFolder(folder)
        run.rewind(0)
        for step in range(100):
            run.metrics("train", step, loss=1.0)
        run.status.update(state="finished", step=100)
        run.close()


def test_a_disk_that_fills_up_loses_curves_and_does_not_stop_the_run(tmp_path):
    heard, told = os.pipe()
    writer = multiprocessing.get_context("fork").Process(target=write_until_full, args=(tmp_path, told))
    writer.start()
    os.close(told)
    said = os.fdopen(heard).read()
    writer.join()
    assert writer.exitcode == 0
    assert "Traceback" not in said
    assert said.count("metrics.jsonl: cannot be written (File too large") == 1
    assert "tb: cannot be written (File too large" in said and len(list((tmp_path / "tb").glob("events.*"))) > 1
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "finished"
