"""`train.py --profile FILE.json`: trace a few steps, and print the largest costs."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import ProfilerActivity, profile

from configs import Config
from engine import activity, distributed
from engine.files import temporary_path
from engine.outputs import Outputs
from engine.train.clock import Clock, Times
from engine.train.dry_run import trial
from engine.train.step import Tally
from engine.train.training import Training

logger = logging.getLogger(__name__)
WARMUP, STEPS = 3, 5  # the first steps select kernels, fill buffers and compile
LARGEST = 10


def profile_steps(config: Config, weights: str | None, path: Path, recipe: str | None = None) -> None:
    """Train for a few steps, write their trace to `path` (chrome://tracing, Perfetto) and log the largest costs.

    Nothing else is stored. Raises ConfigError if another file is in the way; `recipe` and what it reads never give way.
    """
    outputs = Outputs([recipe, weights, config.model.pretrained])
    outputs.add_lists(config.data)
    outputs.check(path)
    with trial(config, weights) as run:
        with activity.doing("profiling steps"):
            trace, times = traced_steps(run)
        if distributed.rank() == 0:
            with temporary_path(path.parent, ".json") as temporary:
                trace.export_chrome_trace(str(temporary))
                outputs.place(temporary, path)
            for line in largest_costs(trace.key_averages(), times, run.device.type):
                logger.info(line)
            logger.info(f"trace of {STEPS} steps on rank 0: {path}")


def traced_steps(run: Training) -> tuple[profile, Times]:
    """Train on the first batches; return the trace and the times of the steps after the warm-up."""
    clock, tally = Clock(run.device, run.config.train.batch, warmup=WARMUP), Tally(run.device)
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if run.device.type == "cuda" else [])
    trace = profile(activities=activities)
    epochs = map(run.train_loader.epoch, itertools.count())  # an epoch may have one step
    batches = itertools.islice(itertools.chain.from_iterable(epochs), WARMUP + STEPS)
    for number, batch in enumerate(clock.fetch(batches)):
        if number == WARMUP:
            trace.start()
        run.take_step(batch, tally)
    tally.read()
    times = clock.read()
    trace.stop()
    return trace, times


def largest_costs(operations: list[FunctionEventAvg], times: Times, device: str) -> list[str]:
    """Return a table of the operations with the most self time, on the GPU if there is one."""

    def cost(operation: FunctionEventAvg) -> float:
        return operation.self_device_time_total if device == "cuda" else operation.self_cpu_time_total

    total = sum(map(cost, operations)) or 1.0
    ranked = sorted(operations, key=cost, reverse=True)[:LARGEST]
    waiting = f", {100 * times.data_fraction:.0f} % of them waiting for data" if times.steps else ""
    lines = [f"{1000 * (times.seconds_per_step or 0):.1f} ms a step{waiting}; the largest costs on the {device}:"]
    lines.append(f"{'share':>7} {'ms a step':>10} {'calls a step':>13}  operation")
    for operation in ranked:
        took = cost(operation) / 1000 / STEPS
        share = 100 * cost(operation) / total
        lines.append(f"{share:6.1f}% {took:10.2f} {operation.count / STEPS:13.1f}  {operation.key}")
    return lines
