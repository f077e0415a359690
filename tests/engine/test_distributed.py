"""Several ranks against one: the results of `two_ranks` in forked ranks, under torchrun, and in one process."""

import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from configs import ConfigError
from engine import distributed
from tests.support import programs
from tests.support.paths import ROOT
from tests.support.ranks import two_ranks


def torchrun(ranks, *command, options=("--standalone",)):
    """Run ranks on this machine under torchrun; return their output and exit code."""
    launcher = [sys.executable, "-m", "torch.distributed.run", *options, "--nproc-per-node", str(ranks)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([*launcher, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


SCRIPT = "tests/support/ranks/two_ranks.py"


def found_by(ranks, folder, *names, options=()):
    """Return the results of the functions of `two_ranks` with these names, under torchrun if it has options."""
    if options:
        ended = torchrun(ranks, SCRIPT, str(folder), *names, options=options)
    else:
        ended = programs.run(SCRIPT, folder, *names, ranks=ranks)
    assert ended.returncode == 0, ended.stderr
    return json.loads((folder / "found.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder in which two ranks leave files."""
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def found(folder):
    """Return the results of two ranks.

    TORCH_DISTRIBUTED_DEBUG=DETAIL would compare all exchanges, but torch 2.15 crashes with it.
    """
    return found_by(2, folder, "exchange", "evaluation", "steps", "sync_norms", "resumption")


def test_integers_are_summed_exactly(found):
    assert found["exchange"]["sum"] == [2 * (2**53 + 1), 1]


def test_all_ranks_get_rank_zeros_value(found):
    assert found["exchange"]["from_zero"] == 10


def test_rank_zero_finishes_its_turn_before_the_others_begin(found):
    assert found["exchange"]["turns"] == [["turn-0"], ["turn-0", "turn-1"]]


def test_the_rank_that_fails_raises_its_error_and_the_others_learn_of_it(found):
    assert found["exchange"]["fates"] == [["PeerFailed", "PeerFailed"], ["ZeroDivisionError", "ZeroDivisionError"]]


def test_two_ranks_evaluate_as_one_to_the_last_digit(found, folder, tmp_path):
    alone = two_ranks.evaluation(tmp_path)
    assert alone["evaluated"] == 10 and len(set(alone["top1_per_class"])) > 1
    assert found["evaluation"] == json.loads(json.dumps(alone))
    assert (folder / "scores.npz").read_bytes() == (tmp_path / "scores.npz").read_bytes()


def test_two_ranks_in_two_parts_each_take_the_steps_of_one(found):
    alone, both = two_ranks.steps(parts=1), found["steps"]
    torch.testing.assert_close(torch.tensor(both["weight"]), torch.tensor(alone["weight"]))
    assert both["tally"] == pytest.approx(alone["tally"], rel=1e-5)


def test_synchronized_batch_norms_train_on_two_ranks_as_on_one(found):
    """On one rank they are torch's own."""
    alone, both = two_ranks.sync_norms(), found["sync_norms"]
    for name, value in alone["stepped"].items():
        torch.testing.assert_close(
            torch.tensor(both["stepped"][name]), torch.tensor(value), atol=2e-6, rtol=1e-4, msg=name
        )
    torch.testing.assert_close(torch.tensor(both["precise"]), torch.tensor(alone["precise"]), atol=1e-6, rtol=1e-4)


def test_a_signal_to_one_rank_stops_both_at_the_same_step(found):
    assert found["resumption"]["stopped"] == [{"finished": False, "step": 4}] * 2


def test_two_ranks_resume_to_identical_weights(found):
    assert found["resumption"]["resumed"] == {"finished": True, "step": 20}
    assert found["resumption"]["equal"] == [True, True]


def test_the_memory_of_the_rank_that_used_most_is_recorded(found):
    assert set(found["resumption"]["memories"]) == {2}


@pytest.mark.slow
def test_a_slow_rank_of_an_evaluation_is_waited_for(tmp_path):
    assert found_by(2, tmp_path, "late")["late"] == 11


def test_a_dead_rank_is_reported_in_a_sentence(tmp_path):
    assert "rank 1 died without a message: rank 1 was starting, step 0" in found_by(2, tmp_path, "lost")["lost"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        ("stalled", "no progress for 3 s (runtime.timeout): rank 1 was waiting for data, step 2, for "),
        ("failing", "rank 1: ZeroDivisionError: division by zero"),
    ],
)
def test_the_reason_of_another_rank_is_in_the_status_and_in_the_log(tmp_path, happens, reason):
    ended = torchrun(2, SCRIPT, str(tmp_path), happens)
    assert ended.returncode != 0
    status = json.loads((tmp_path / "tiny" / "status.json").read_text())
    assert status["state"] == "failed" and status["reason"].startswith(reason)
    assert reason in (tmp_path / "tiny" / "log.txt").read_text()


@pytest.mark.gpu
@pytest.mark.parametrize("run", ["in_fp16_on_gpus", pytest.param("compiled_on_gpus", marks=pytest.mark.slow)])
def test_two_gpus_train_the_same_weights(tmp_path, run):
    if torch.cuda.device_count() == 1:
        pytest.skip("one GPU alone")
    found = found_by(2, tmp_path, run, options=["--standalone"])
    assert found[run] == {"finished": True, "step": 7, "good": [True, True]}


@pytest.mark.slow
@pytest.mark.parametrize("rendezvous", [["--standalone"], ["--master-port", "29431"]], ids=["c10d", "static"])
@pytest.mark.parametrize("ranks", [2, 3])
def test_restarted_ranks_resume_by_themselves_to_identical_weights(tmp_path, ranks, rendezvous):
    options = [*rendezvous, "--max-restarts", "1"]
    assert found_by(ranks, tmp_path, "restart", options=options)["restart"] == {
        "restarts": 1,
        "step": 20,
        "equal": [True] * ranks,
    }


@pytest.mark.slow
def test_three_ranks_resume_to_identical_weights(tmp_path):
    """With three ranks the order in which gradients are summed matters, and DDP changes it after the first step."""
    assert found_by(3, tmp_path, "resumption")["resumption"]["equal"] == [True, True, True]


def test_an_error_of_the_user_is_one_line_for_any_number_of_ranks(tmp_path):
    (tmp_path / "train.list").write_text("nowhere.mp4 0\n" * 4)
    settings = [f"data.train={tmp_path}/train.list", "data.val=", f"train.runs={tmp_path}", "data.class_names="]
    ended = torchrun(2, "train.py", "--config", "demo.yaml", *settings)
    said = [line for line in ended.stderr.splitlines() if line.startswith("train.py: ")]
    assert ended.returncode != 0
    assert len(said) == 1 and "nowhere.mp4" in ended.stderr


def test_one_process_alone_is_rank_zero_of_one():
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    assert distributed.gather("me") == ["me"]
    assert distributed.from_rank_zero(3) == 3
    assert distributed.all_sum(torch.tensor([2, 3])).tolist() == [2, 3]
    model = nn.Linear(2, 2)
    assert distributed.wrap(model) is model


def test_one_process_alone_raises_its_own_errors():
    with pytest.raises(ZeroDivisionError):
        distributed.one_rank_first(lambda: 1 / 0)


def test_an_incomplete_environment_of_torchrun_is_an_error_with_the_missing_variables(monkeypatch):
    for name in distributed.LAUNCH_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(ConfigError, match="RANK, WORLD_SIZE set but not LOCAL_RANK, MASTER_ADDR, MASTER_PORT"),
        distributed.processes("cpu", 300),
    ):
        pass


@pytest.mark.parametrize("name", distributed.OTHER_LAUNCHERS)
def test_several_tasks_without_torchrun_are_refused_with_the_command_that_works(monkeypatch, name):
    monkeypatch.setenv(name, "4")
    with (
        pytest.raises(ConfigError, match=f"{name}=4: .* srun --ntasks-per-node 1 torchrun"),
        distributed.processes("cpu", 300),
    ):
        pass
    monkeypatch.setenv(name, "1")
    with distributed.processes("cpu", 300):
        assert distributed.world_size() == 1
