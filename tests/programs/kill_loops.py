"""Kill the trainer and its saves over and over, damage its checkpoints, and count what was lost.

    python -m tests.programs.kill_loops --out benchmarks/results/reliability.json

Runs whole tiny trainings in forked ranks, kills a random rank at a random moment, lets the others end by themselves,
starts all again, and compares the weights at the end with those of a run that nobody killed, bit by bit.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import logging
import multiprocessing
import os
import random
import signal
import socket
import tempfile
import time
from pathlib import Path

import engine  # noqa: F401  before torch, because it says how threads are to wait

# isort: split
import torch

from dali_pipes.batch import Shard
from engine.runs import checkpoint
from engine.runs.environment import environment, now
from tests.support import tiny

FORK = multiprocessing.get_context("fork")
ORPHAN = 60.0  # seconds after which a rank that outlives a killed one is counted as left behind


def train(folder: Path, rank: int, ranks: int, port: int) -> None:
    """Start or resume the run of a folder as one of its ranks; rank 0 leaves a digest of the weights at the end."""
    torch.set_num_threads(1)
    if ranks > 1:
        local = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in local.items()}, MASTER_ADDR="127.0.0.1")
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        settings = {"runs": str(folder), "batch": 12, "epochs": 3, "ema": 0.9, "mixup": 0.2, "checkpoint_minutes": 1e-9}
        share = 12 // ranks
        loaders = {
            "train": tiny.RowLoader(122, share, shard=Shard(rank, ranks)),
            "val": tiny.RowLoader(5, 2, shard=Shard(rank, ranks), train=False),
        }
        _, training = tiny.go_on(tiny.config(train=settings), loaders)
        if rank == 0:
            weights = tiny.weights_of(training)
            digest = hashlib.sha256(b"".join(weights[name].numpy().tobytes() for name in sorted(weights)))
            (folder / "digest").write_text(digest.hexdigest())


def start(folder: Path, ranks: int) -> list[multiprocessing.Process]:
    """Fork the ranks of a run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [FORK.Process(target=train, args=(folder, rank, ranks, port)) for rank in range(ranks)]
    for process in processes:
        process.start()
    return processes


def finish(processes: list[multiprocessing.Process]) -> int:
    """Wait for the ranks to end; kill and count those that do not."""
    end, left = time.monotonic() + ORPHAN, 0
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
        if process.is_alive():
            left += 1
            process.kill()
            process.join()
    return left


def kill_runs(ranks: int, kills: int, chance: random.Random) -> dict:
    """Kill a random rank of a run once, resume, and compare; `kills` times."""
    with tempfile.TemporaryDirectory() as whole:
        began = time.monotonic()
        finish(start(Path(whole), ranks))
        seconds, wanted = time.monotonic() - began, (Path(whole) / "digest").read_text()
    landed = identical = orphans = resumed = 0
    for _ in range(kills):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            processes = start(folder, ranks)
            time.sleep(chance.uniform(0.2, 1.0) * seconds)
            victim = chance.choice(processes)
            landed += victim.is_alive()
            victim.kill()
            orphans += finish(processes)
            resumed += bool(checkpoint.steps(folder / "tiny" / "checkpoints"))
            orphans += finish(start(folder, ranks))
            found = folder / "digest"
            identical += found.exists() and found.read_text() == wanted
    return {
        "kills": kills,
        "before_the_end": landed,
        "after_a_checkpoint": resumed,
        "bit_identical": identical,
        "orphans": orphans,
    }


def payload(step: int, size: int = 500_000) -> dict:
    """Return a checkpoint of 2 MB."""
    return {"model": {"weight": torch.arange(size, dtype=torch.float32) + step}, "step": step}


def save_for_ever(folder: Path) -> None:
    """Save without a pause; `acknowledged` holds the newest step whose save has returned."""
    torch.set_num_threads(1)
    for step in range(1, 10**6):
        checkpoint.save(checkpoint.step_file(folder, step), payload(step), step=step)
        (folder / "acknowledged").write_text(str(step))
        checkpoint.tidy(folder, keep=2)


def kill_saves(kills: int, chance: random.Random) -> dict:
    """Kill a process that saves without a pause, `kills` times."""
    lost = left = inside = 0
    for _ in range(kills):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            child = FORK.Process(target=save_for_ever, args=(folder,))
            child.start()
            while not (folder / "acknowledged").exists():
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.05))
            os.kill(child.pid, signal.SIGKILL)
            child.join()
            inside += bool(list(folder.glob(".tmp-*")))
            acknowledged = int((folder / "acknowledged").read_text() or 0)
            newest = checkpoint.latest(folder)
            lost += newest is None or checkpoint.load(newest)["step"] < acknowledged
            checkpoint.remove_leftovers(folder)
            left += len(list(folder.glob(".tmp-*")))
    return {"kills": kills, "with_an_unfinished_file": inside, "lost": lost, "files_left": left}


def damage(times: int, chance: random.Random) -> dict:
    """Damage the newest of two checkpoints in four ways; it must be stepped over."""
    stepped_over = 0
    with tempfile.TemporaryDirectory() as name:
        for number in range(times):
            folder = Path(name) / str(number)
            folder.mkdir()
            older, newest = (checkpoint.step_file(folder, step) for step in (1, 2))
            for step, path in enumerate((older, newest), 1):
                checkpoint.save(path, payload(step, 20_000), step=step)
            content = bytearray(newest.read_bytes())
            at = chance.randrange(len(content))
            if number % 4 == 0:
                content[at] ^= 1 << chance.randrange(8)
            elif number % 4 == 1:
                content[at : at + 4096] = bytes(byte ^ 0xFF for byte in content[at : at + 4096])
            elif number % 4 == 2:
                del content[at:]
            newest.write_bytes(content)
            if number % 4 == 3:
                checkpoint.sidecar(newest).write_bytes(checkpoint.sidecar(older).read_bytes())
            stepped_over += checkpoint.latest(folder) == older
    return {"damaged": times, "stepped_over": stepped_over}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--kills", type=int, default=100, help="of whole runs, at each number of ranks (%(default)s)")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--saves", type=int, default=2000, help="kills inside of saves (%(default)s)")
    parser.add_argument("--damage", type=int, default=800, help="damaged checkpoints (%(default)s)")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    chance = random.Random(0)
    found = {"time": now(), "environment": environment()}
    found["damaged_checkpoints"] = damage(args.damage, chance)
    found["kills_inside_a_save"] = kill_saves(args.saves, chance)
    for ranks in args.ranks:
        found[f"kills_of_a_run_of_{ranks}"] = kill_runs(ranks, args.kills, chance)
        args.out.write_text(json.dumps(found, indent=1) + "\n")
        print(ranks, found[f"kills_of_a_run_of_{ranks}"], flush=True)


if __name__ == "__main__":
    main()
