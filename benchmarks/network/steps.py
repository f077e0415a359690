"""Question 2: what does a whole training step cost, with each form of the shift and without one?

The project's step on clips in memory, eager and compiled, in every precision; and a step of torchvision's ResNet-50 on
the same images. `tsn again` repeats `tsn`: the difference of the two is noise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch.nn import functional as F

from benchmarks.harness.measure import summary
from benchmarks.harness.session import Probe
from benchmarks.network.scale import FORMS_MEASURED, Precision, Scale, set_form, use_table
from dali_pipes import Batch
from engine import runtime
from engine.train import optim, training
from engine.train.step import Tally
from models.resnets import build_resnet

EAGER = ("tsn", "tsn again", "auto", "folded", "copied", "reference", "resnet50")
COMPILED = ("folded", "tsn", "tsn again", "where", "resnet50")  # few, for each takes a minute to compile


def run_section(probe: Probe) -> None:
    scale = probe.scale
    groups = [
        {
            f"steps/{precision}/{'compiled' if compiled else 'eager'}/{network}": (
                measure, scale, probe.folder, precision, compiled, network
            )
            for network in (COMPILED if compiled else EAGER)
        }
        for compiled in ((False, True) if scale.compiles else (False,))
        for precision in scale.precisions
    ]  # fmt: skip
    found = probe.run_alternately(groups, _summary)
    for group in groups:
        of_group = {name: found[name]["ms"] for name in group if name in found}
        base = next((ms for name, ms in of_group.items() if name.endswith("/tsn")), None)
        if base:
            over = {name.rpartition("/")[2]: ms / base for name, ms in of_group.items()}
            probe.recorder.add(next(iter(group)).rpartition("/")[0] + "/over tsn", **over)


def _summary(answers: list[dict]) -> dict:
    found = summary(answers, "ms")
    return found | {
        "clips_per_s": 1e3 * answers[0]["clips"] / found["ms"],
        "step_bytes": answers[-1]["step_bytes"],
    }


def measure(scale: Scale, folder: Path, precision: Precision, compiled: bool, network: str) -> dict:
    """Return the milliseconds of a step, and on a GPU its peak memory."""
    step = stepper(scale, folder, precision, compiled, network.removesuffix(" again"))

    def several() -> None:
        for _ in range(scale.steps):
            step()

    if scale.device != "cuda":
        return {"ms": scale.clock.time(several) / scale.steps, "clips": scale.clips, "step_bytes": None}
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    milliseconds = scale.clock.time(several) / scale.steps
    return {"ms": milliseconds, "clips": scale.clips, "step_bytes": torch.cuda.max_memory_allocated() - held}


@cache
def stepper(scale: Scale, folder: Path, precision: Precision, compiled: bool, network: str) -> Callable[[], object]:
    """Build a training step once, warmed up. `auto` uses the table in `folder`, if there is one."""
    use_table(folder)
    name = "tsm" if network in FORMS_MEASURED else "tsn"
    overrides = (f"model.name={name}", f"runtime.compile={'on' if compiled else 'off'}")
    run = training.build(scale.config(precision, *overrides))
    batch = next(iter(run.train_loader.epoch(0)))
    if network in FORMS_MEASURED:
        set_form(run.model, FORMS_MEASURED[network])
    tally = Tally(run.device)
    step = _pictures_step(run, batch) if network == "resnet50" else lambda: run.take_step(batch, tally)
    for _ in range(scale.warmup):
        scale.clock.time(step)
    return step


def _pictures_step(run: training.Training, batch: Batch) -> Callable[[], object]:
    """Build a plain step of torchvision's ResNet-50 on the same images with the same precision and compiler."""
    config = run.config
    resnet = build_resnet("resnet50", config.model.width, config.model.num_classes)
    model = runtime.place(resnet, config.runtime, run.device)
    optimizer = optim.make_optimizer(model, config.optim)
    scaler, x_NCHW = runtime.grad_scaler(config.runtime), batch.clips_BTCHW.flatten(0, 1)
    label_N = batch.label_B.repeat_interleave(config.model.frames)

    def step() -> None:
        with runtime.autocast(config.runtime):
            loss = F.cross_entropy(model(x_NCHW).float(), label_N)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    return step
