"""Loops that stall, stop or cut the storage of two-rank runs over real videos, and count the failures.

Parts of `python -m tests.programs.reliability`. Each takes a number of repetitions and a random generator.
"""

from __future__ import annotations

import random
import signal
import tempfile
import time
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

from tests.support import loading, tiny
from tests.support.ranks import forked
from tests.support.ranks.faults import PHASES, fail_at, fail_reads_for

# isort: split
from configs import Config
from configs.schema import Data

LIMIT = 5.0  # runtime.timeout
SLACK = 10.0  # seconds after the limit within which all ranks must end
LONGER = {"start-up": 2.0, "scan": 10.0}  # of the phases whose limit is a multiple of runtime.timeout
LEAVE = 5.0  # seconds within which a run must end after a signal
OUTAGE, SPEED = 30.0, 30.0  # seconds without storage, and the speed of the clock that counts them


def settings(folder: Path, source: str) -> Config:
    """Return a run of two epochs of six steps over thirteen videos, with an evaluation after each."""
    config = tiny.config(
        train={"runs": str(folder), "batch": 2, "checkpoint_minutes": 1e-9},
        runtime={"timeout": LIMIT, "threads": 1, "prefetch": 1},
    )
    return replace(config, data=Data(train=source, val=source, decoder="pyav", max_bad_fraction=0.5))


def write_set(folder: Path) -> str:
    """Write thirteen small videos; return their list."""
    folder.mkdir()
    return loading.write_set(folder, "libvpx-vp9")


def stalls(times: int, chance: random.Random) -> dict:
    """Let rank 0, or rank 1, hang for ever in each phase; `times` is the number of rounds over all of them."""
    named, slowest, orphans, missed = 0, 0.0, 0, []
    cases = list(product(PHASES, (0, 1))) * times
    for phase, rank in cases:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            config = settings(folder, write_set(folder / "videos"))
            step = 0 if phase in ("start-up", "scan") else 3
            limit = LIMIT * LONGER.get(phase, 1.0)
            processes = forked.start(config, 2, partial(fail_at, rank, step, phase, "stall"))
            began = forked.wait_for_fault(config, rank)
            orphans += forked.finish(processes, patience=limit + SLACK + 30)
            late = time.time() - began - limit
            reason = forked.status(config).get("reason", "")
            if f"rank {rank} was " in reason and late < SLACK:
                named += 1
            else:
                missed.append(f"{phase}, rank {rank}, {late:.1f} s after the limit: {reason}")
            slowest = max(slowest, late)
    found = {"stalls": len(cases), "named_in_time": named, "orphans": orphans}
    return {**found, "slowest_after_the_limit_s": round(slowest, 1), "missed": missed}


def signals(times: int, chance: random.Random) -> dict:
    """Send SIGTERM to both ranks, as torchrun does, up to 0.5 s after they have entered a random phase, and resume."""
    with tempfile.TemporaryDirectory() as name:
        config = settings(Path(name), write_set(Path(name, "videos")))
        forked.finish(forked.start(config, 2))
        wanted = forked.digest(config)
    clean, slowest, identical, unclean = 0, 0.0, 0, []
    for _ in range(times):
        phase, rank = chance.choice(PHASES), chance.randrange(2)
        step = 0 if phase in ("start-up", "scan") else chance.randrange(1, 12)
        with tempfile.TemporaryDirectory() as name:
            config = settings(Path(name), write_set(Path(name, "videos")))
            processes = forked.start(config, 2, partial(fail_at, rank, step, phase, "nothing"))
            forked.wait_for_fault(config, rank)
            time.sleep(chance.uniform(0, 0.5))
            began = time.monotonic()
            for process in processes:
                process.terminate()
            orphans = forked.finish(processes)
            seconds = time.monotonic() - began
            codes = [process.exitcode for process in processes]
            state = forked.status(config).get("state")
            said = forked.stderr(config, 0) + forked.stderr(config, 1)
            good = not orphans and "Traceback" not in said and set(codes) <= {0, -signal.SIGTERM}
            clean += good
            if not good or seconds > LEAVE:
                unclean.append(f"{phase}, rank {rank}, step {step}: {seconds:.1f} s, exit codes {codes}, {state}")
            slowest = max(slowest, seconds)
            forked.finish(forked.start(config, 2))
            identical += wanted is not None and forked.digest(config) == wanted
    found = {
        "signals": times,
        "clean": clean,
        "slowest_s": round(slowest, 1),
        "bit_identical_after_resuming": identical,
    }
    return {**found, "not_clean_or_slow": unclean}


def outages(times: int, chance: random.Random) -> dict:
    """Let every read of every rank fail for 30 s, by a fast clock, from a random step on."""
    with tempfile.TemporaryDirectory() as name:
        config = settings(Path(name), write_set(Path(name, "videos")))
        forked.finish(forked.start(config, 2))
        wanted = forked.digest(config)
    survived = quarantined = noticed = 0
    for _ in range(times):
        with tempfile.TemporaryDirectory() as name:
            config = settings(Path(name), write_set(Path(name, "videos")))
            step = chance.randrange(8)
            forked.finish(forked.start(config, 2, partial(fail_reads_for, OUTAGE, step, SPEED)))
            survived += wanted is not None and forked.digest(config) == wanted
            noticed += "trying again" in forked.stderr(config, 0)
            quarantined += (config.train.folder / "quarantine.jsonl").exists()
    return {"outages": times, "noticed": noticed, "survived_bit_identical": survived, "with_a_quarantine": quarantined}
