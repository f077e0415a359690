"""Programs in processes of their own, forked from one that has torch already: its import takes longer than most runs.

What depends on the start of a Python process is tested with a process that is started, as by `test_exits.py`.
"""

from __future__ import annotations

import os
import runpy
import socket
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing import forkserver, get_context
from pathlib import Path
from unittest import mock

from tests.support.paths import ROOT

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["engine", "engine.train.run", "engine.evaluation.evaluate", "tests.support.tiny"])


@dataclass
class Ended:
    """How a program ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def run(program: str, *arguments: object, ranks: int = 0, **environment: str) -> Ended:
    """Run a program in the folder of the project; of several `ranks`, as torchrun would start them on this host.

    The exit code is that of the first rank that failed, and all print to the same files.
    """
    words = [str(ROOT / program), *map(str, arguments)]
    with mock.patch.dict(os.environ, PYTHONPATH=str(ROOT)):
        forkserver.ensure_running()
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder, "stdout"), Path(folder, "stderr")
        processes = [
            FORKS.Process(target=_run, args=(words, dict(os.environ) | environment | of_rank, *map(str, printed)))
            for of_rank in (_environments(ranks) if ranks else [{}])
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        code = next((process.exitcode for process in processes if process.exitcode), 0)
        return Ended(code, *(path.read_text() for path in printed))


def _environments(ranks: int) -> list[dict[str, str]]:
    """Return the variables that torchrun sets for each rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    counts = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    return [place | counts | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


def _run(words: list[str], environment: dict[str, str], stdout: str, stderr: str) -> None:
    for number, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
