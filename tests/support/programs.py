"""Programs in processes forked from one that has imported torch: the import takes longer than most runs.

Tests of the start of a Python process start one themselves, as `test_exits.py` does.
"""

from __future__ import annotations

import os
import runpy
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest import mock

from tests.support.paths import ROOT

SMALL = [
    "model.pretrained=none",
    "model.backbone=resnet18",
    "model.width=8",
    "clip.size=32",
    "eval.short_side=36",
    "train.epochs=1",
    "runtime.precision=fp32",
    "runtime.device=cpu",
]
"""Settings with which a training program takes seconds."""
FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["engine", "engine.evaluation.evaluate", "tests.support.ranks.forked"])


@dataclass
class Ended:
    """The exit code and the output of a program."""

    returncode: int
    stdout: str
    stderr: str


def run(
    program: str, *arguments: object, ranks: int = 0, folder: Path = ROOT, stdin: str = "", **environment: str
) -> Ended:
    """Run a program in a folder, by default the project's; of several `ranks`, as torchrun would start them here.

    It reads the text `stdin`. The exit code is that of the first rank that failed, and all print to the same files.
    """
    words = [str(ROOT / program), *map(str, arguments)]
    with tempfile.TemporaryDirectory() as of_streams:
        streams = [Path(of_streams, name) for name in ("stdin", "stdout", "stderr")]
        streams[0].write_text(stdin)
        processes = [
            process(_run, words, str(folder), dict(os.environ) | environment | of_rank, [*map(str, streams)])
            for of_rank in (_environments(ranks) if ranks else [{}])
        ]
        for each in processes:
            each.start()
        for each in processes:
            each.join()
        code = next((each.exitcode for each in processes if each.exitcode), 0)
        return Ended(code, *(path.read_text() for path in streams[1:]))


def process(target: Callable[..., None], *arguments: object) -> BaseProcess:
    """Return a process that calls a function, not started yet."""
    with mock.patch.dict(os.environ, PYTHONPATH=str(ROOT)):
        forkserver.ensure_running()
    return FORKS.Process(target=target, args=arguments)


def _environments(ranks: int) -> list[dict[str, str]]:
    """Return the variables that torchrun sets for each rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    counts = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    return [place | counts | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


def _run(words: list[str], folder: str, environment: dict[str, str], streams: list[str]) -> None:
    for number, path in enumerate(streams):
        access = os.O_WRONLY | os.O_CREAT | os.O_APPEND if number else os.O_RDONLY
        os.dup2(os.open(path, access, 0o600), number)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
