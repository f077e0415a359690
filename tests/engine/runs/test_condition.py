"""The condition of a run: alive, stalled, dead or finished, and folders without a run."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from engine.runs.condition import condition, resume_command, use_of
from engine.runs.run_folder import RunFolder
from tests.support import programs, tiny


@pytest.fixture
def run(tmp_path):
    run = RunFolder(tmp_path / "a run")
    run.status.update(state="running", step=7, phase="training")
    return run


def written(run, seconds_ago):
    """Change the time of a run's status to an earlier one."""
    file = run.folder / "status.json"
    time = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat(timespec="seconds")
    file.write_text(json.dumps({**json.loads(file.read_text()), "time": time}))


@pytest.mark.parametrize(
    ("words", "again"),
    [
        ("--config demo", "--config demo --resume"),
        ("--fresh --config demo", "--config demo --resume"),
        ("--resume --config demo", "--config demo --resume"),
        ("--resume demo train.epochs=9", "--resume demo train.epochs=9"),
        ("train.epochs=9 --resume runs/demo", "train.epochs=9 --resume runs/demo"),
        ("--resume=demo train.epochs=9", "--resume=demo train.epochs=9"),
        ("--resume train.epochs=9 --config demo", "train.epochs=9 --config demo --resume"),
    ],
)
def test_a_run_continues_by_its_last_command_however_it_names_the_run(tmp_path, words, again):
    (tmp_path / "command.txt").write_text(f"2026-01-01T00:00:00Z  train.py {words}\n")
    assert resume_command(tmp_path) == f"train.py {again}"


def test_a_run_with_a_recent_heartbeat_is_alive(run):
    found = condition(run.folder)
    assert found.state == "alive" and "step 7, training" in found.text


def test_a_run_that_holds_its_lock_and_writes_nothing_is_stalled(run):
    written(run, 600)
    found = condition(run.folder)
    assert found.state == "stalled"
    assert re.search(r"written 1\dm\d\d ago", found.text)  # 10m00, and as long as the test took to get here


def test_a_run_whose_lock_is_free_is_dead_with_the_command_that_continues_it(run):
    (run.folder / "command.txt").write_text("2026-01-01T00:00:00+00:00  train.py --config 'my recipe.yaml' --fresh\n")
    run.close()
    found = condition(run.folder)
    assert found.state == "dead" and found.text.startswith("dead: it ended without a word; step 7")
    assert found.text.endswith("continue: train.py --config 'my recipe.yaml' --resume")


def test_a_failed_run_has_its_reason_and_a_finished_one_its_step(run):
    run.status.update(state="failed", reason="rank 1: no")
    run.close()
    assert condition(run.folder).text.startswith("failed (rank 1: no); ")
    run.status.update(state="failed", reason="2 videos cannot be read, the first is\n  a.mp4: no such file")
    assert condition(run.folder).text.startswith("failed (2 videos cannot be read, the first is ...); ")
    run.status.update(state="finished")
    assert condition(run.folder) == ("finished", "finished at step 7")


def test_a_training_ends_with_its_network_and_what_to_type_next(tmp_path, caplog):
    with caplog.at_level("INFO", "engine"):
        tiny.finished_run(tmp_path)
    run = tmp_path / "tiny"
    last = caplog.messages[-1]
    assert last.startswith(f"the network is {run / 'best.pt'} (top1 ")
    assert last.endswith(f"; next: python eval.py {run} --per-class, or python tools/predict.py VIDEO --weights {run}")


def test_a_run_without_an_evaluation_has_its_newest_network(tmp_path):
    run = tmp_path / "a run"
    next_command = f"python tools/predict.py VIDEO --weights '{run}'"
    assert use_of(run) == f"the network is {run / 'last.pt'}; next: {next_command}"


def test_a_folder_without_a_run_is_no_run(tmp_path):
    assert condition(tmp_path).state == "none"
    assert resume_command(tmp_path) == "train.py --config RECIPE --resume"


def test_the_worst_run_gives_the_exit_code(run):
    run.close()
    gone = programs.run("tools/status.py", run.folder.with_name("gone"))
    said = f"status.py: {run.folder.with_name('gone')}: there is no such folder; check the path\n"
    assert (gone.returncode, gone.stdout, gone.stderr) == (2, "", said)
    ended = programs.run("tools/status.py", run.folder, "/tmp")
    assert ended.returncode == 4 and ended.stdout.count("\n") == 2
