"""Signals to a training, signals to other processes, and storage that fails during training."""

import errno
import os
import signal
import subprocess
import sys
from unittest import mock

import pytest
import torch

import eval as evaluation
from dali_pipes.storage.faults import StorageFault
from engine import activity, distributed, loaders, program
from engine.inference.evaluated import EvaluatedNetwork
from engine.train.interrupt import SIGNALS, TRAINING, Interrupt
from engine.watch import RETRY
from models import build_model
from tests.support import tiny
from tests.support.paths import ROOT


@pytest.fixture(autouse=True)
def signals_not_ignored():
    """Let no signal be ignored, as some are in a background job or under nohup."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_stops_training_at_the_next_step(capfd, number):
    with activity.doing(TRAINING, stage=True), Interrupt() as interrupt:
        assert not interrupt.agreed(1)
        os.kill(os.getpid(), number)
        assert interrupt.agreed(2)
        interrupt.close()
    assert interrupt.reason == number.name
    said = capfd.readouterr().err
    assert said.startswith(f"{number.name}: stopping after this step, ") and said.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT], ids=lambda number: number.name)
def test_signals_that_were_ignored_at_the_start_remain_ignored(number):
    """`nohup` ignores SIGHUP; shells ignore SIGINT and SIGQUIT for jobs in the background of a script."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with activity.doing(TRAINING, stage=True), Interrupt() as interrupt:
            os.kill(os.getpid(), number)
            assert not interrupt.agreed(1)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


HANGING = """
import ctypes, sys
from engine import activity
from engine.train.interrupt import SIGNALS, TRAINING, Interrupt
with Interrupt(lambda state, reason: print(state, reason, flush=True)):
    with activity.doing(sys.argv[1], stage=True):
        print("hangs", flush=True)
        while True:
            ctypes.CDLL(None).sleep(600)
"""


def test_a_signal_ends_a_run_that_does_not_train_though_its_main_thread_hangs():
    """The main thread waits in C, as in a collective, so Python's signal handlers do not run."""
    command = [sys.executable, "-c", HANGING, "evaluating"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "hangs\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == "preempted SIGTERM\n"
    assert process.wait() == 0


def test_only_the_first_rank_logs_the_request_to_stop(monkeypatch, capfd):
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    with activity.doing(TRAINING, stage=True), Interrupt():
        os.kill(os.getpid(), signal.SIGTERM)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("torchrun", [True, False])
def test_a_parent_that_ends_stops_training_only_where_it_is_torchrun(monkeypatch, torchrun):
    if torchrun:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    else:
        monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setattr(os, "getppid", lambda: 1234)  # the parent of a test may be process 1, too
    with Interrupt() as interrupt:
        monkeypatch.setattr(os, "getppid", lambda: 1)
        assert interrupt.agreed(1) == torchrun


def test_an_interrupted_evaluation_leaves_its_loader_closed(monkeypatch, tmp_path):
    """Otherwise threads continue to decode, and the program waits for them."""
    loader, closed = tiny.RowLoader(5, 4, train=False), mock.Mock()
    monkeypatch.setattr(loader, "close", closed)
    tiny.before_step(loader, 1, mock.Mock(side_effect=KeyboardInterrupt))
    monkeypatch.setattr(loaders, "open_loader", lambda *what, **known: loader)
    config = tiny.config()
    network = EvaluatedNetwork(build_model(config.model), config, (), torch.device("cpu"))
    monkeypatch.setattr("engine.inference.evaluated.open_evaluated", lambda *how: network)
    (tmp_path / "x.pt").touch()
    words = ["eval.py", str(tmp_path / "x.pt")]
    monkeypatch.setattr(sys, "argv", words)
    args = evaluation.arguments()
    with pytest.raises(KeyboardInterrupt):
        evaluation.score(config, args)
    closed.assert_called_once()


def tiny_loaders():
    return {split: tiny.RowLoader(24, 4, train=split == "train") for split in ("train", "val")}


def fail(batch):
    raise StorageFault(errno.EIO, "the store does not answer", "s3://bucket/a.mp4")


@pytest.mark.parametrize("step", [0, 4, 6])
def test_a_run_stops_at_the_step_of_a_storage_failure_and_resumes_exactly(tmp_path, step):
    settings = tiny.config(train={"runs": str(tmp_path / "whole")})
    _, whole = tiny.resume(settings, tiny_loaders())
    settings = tiny.config(train={"runs": str(tmp_path / "stopped")})
    failing = tiny_loaders()
    tiny.before_step(failing["train"], step, fail)
    with pytest.raises(StorageFault):
        tiny.resume(settings, failing)
    _, resumed = tiny.resume(settings, tiny_loaders())
    assert resumed.step == whole.step
    mine, wanted = tiny.weights_of(resumed), tiny.weights_of(whole)
    assert all(torch.equal(mine[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(("number", "code"), [(errno.EIO, RETRY), (errno.EACCES, 2)])
def test_a_store_that_may_come_back_has_another_exit_code_than_one_that_refuses(number, code, capsys):
    def work():
        raise StorageFault(number, "the reason", "s3://bucket/a.mp4")

    assert program._exit_code("train.py", work, check=lambda: None) == code
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("train.py: s3://bucket/a.mp4: the reason") and ("--resume" in line) == (code == RETRY)
