"""Whole runs of the trainer in forked ranks, without their reports: torchrun would import torch in each of them.

Ranks are forked from the process of `programs`: autograd does not work after a fork of a process that has computed a
gradient.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import engine  # noqa: F401  before torch, because it says how threads are to wait

# isort: split
import tensorboard.compat.proto.summary_pb2  # imported here, and not in each rank
import tensorboard.summary.writer.record_writer  # noqa: F401
import torch

from configs import Config
from dali_pipes.batch import Shard
from engine import distributed, loaders, program
from engine.runs.pages import report
from engine.train.run import run
from tests.support import tiny
from tests.support.programs import process
from tests.support.ranks.faults import MARK

ROWS = 74  # imaginary training videos: six steps an epoch for batches of twelve
PATIENCE = 120.0  # seconds after which a rank counts as one that does not end
Arm = Callable[[], None]


def start(config: Config, ranks: int, arm: Arm | None = None, address: str = "127.0.0.1") -> list[BaseProcess]:
    """Fork the ranks of a run, started or resumed; `address` is that of rank 0.

    Each rank calls `arm` first, and prints to stderr-RANK in the folder of runs. Rank 0 of a finished run writes a
    digest of its weights to the file `digest`.
    """
    Path(config.train.runs).mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [process(_rank, config, rank, ranks, port, arm, address) for rank in range(ranks)]
    for each in processes:
        each.start()
    return processes


def finish(processes: list[BaseProcess], patience: float = PATIENCE) -> int:
    """Wait for the ranks to end; kill and count those that do not."""
    end, left = time.monotonic() + patience, 0
    for each in processes:
        each.join(max(0.0, end - time.monotonic()))
        if each.is_alive():
            left += 1
            each.kill()
            each.join()
    return left


def digest(config: Config) -> str | None:
    """Return the digest of the weights of a finished run, or None."""
    path = Path(config.train.runs, "digest")
    return path.read_text() if path.exists() else None


def stderr(config: Config, rank: int) -> str:
    """Return what a rank has printed."""
    path = Path(config.train.runs, f"stderr-{rank}")
    return path.read_text() if path.exists() else ""


def status(config: Config) -> dict:
    """Return status.json of a run; empty if there is none."""
    path = config.train.folder / "status.json"
    return json.loads(path.read_text()) if path.exists() else {}


def wait_for_fault(config: Config, rank: int) -> float:
    """Wait until a rank reports its fault (`faults.fail_at`); return the time of it, in seconds since the epoch."""
    end = time.monotonic() + PATIENCE
    while not (found := re.search(f"{MARK} (.*)\n", stderr(config, rank))):
        if time.monotonic() > end:
            raise TimeoutError(f"rank {rank} met no fault: {stderr(config, rank)}")
        time.sleep(0.01)
    return float(found[1])


def _rank(config: Config, rank: int, ranks: int, port: int, arm: Arm | None, address: str) -> None:
    torch.set_num_threads(1)
    if ranks > 1:
        local = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in local.items()}, MASTER_ADDR=address)
    said = os.open(Path(config.train.runs, f"stderr-{rank}"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 2)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    report.write_if_possible = lambda folder: None
    logging.disable(logging.NOTSET)  # which the parent disables
    if arm:
        arm()
    code = program.run("train.py", lambda: _train(config))
    os._exit(code)


def _train(config: Config) -> None:
    open_loader = loaders.open_loader if config.data.source == "video" else _imaginary_videos
    with contextlib.redirect_stdout(sys.stderr):
        finished, training = run(config, resume=True, open_loader=open_loader)
    if finished and os.environ.get("RANK", "0") == "0":
        weights = tiny.weights_of(training)
        content = b"".join(weights[name].numpy().tobytes() for name in sorted(weights))
        Path(config.train.runs, "digest").write_text(hashlib.sha256(content).hexdigest())


def _imaginary_videos(config: Config, split: str, device: torch.device, *known, before=None) -> tiny.RowLoader:
    shard = Shard(distributed.rank(), distributed.world_size())
    if split == "train":
        return tiny.RowLoader(ROWS, config.train.batch // shard.count, shard=shard)
    return tiny.RowLoader(5, 2, shard=shard, train=False)
