"""Question 4: which kernels does a training step launch? Their names show layouts, tensor cores and copies."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.harness.session import Probe
from benchmarks.network.scale import Precision, Scale
from benchmarks.network.steps import stepper

CONVERSION = re.compile(r"nchwToNhwc|nhwcToNchw|transpose|convertTensor", re.IGNORECASE)
LARGEST = 12


def run_section(probe: Probe) -> None:
    scale, precision = probe.scale, probe.scale.precisions[0]
    networks = [("eager", "tsn"), ("eager", "folded"), ("eager", "copied")]
    if scale.compiles:
        networks += [("compiled", "tsn"), ("compiled", "folded")]
    probe.run(
        {
            f"kernels/{precision}/{how}/{network}": (record, scale, probe.folder, precision, how, network)
            for how, network in networks
        }
    )


def record(scale: Scale, folder: Path, precision: Precision, how: str, network: str) -> dict:
    """Count the kernels of a step and list the largest; all of them are written to a separate file."""
    step = stepper(scale, folder, precision, how == "compiled", network)
    on_gpu = scale.device == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as seen:
        step()  # without the clock, whose own kernel would count
        if on_gpu:
            torch.cuda.synchronize()
    time = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    spent = {event.key: (getattr(event, time), event.count) for event in seen.key_averages()}
    ordered = sorted(spent.items(), key=lambda item: -item[1][0])
    path = folder / f"kernels_{precision}_{how}_{network}.txt"
    path.write_text("".join(f"{micros:12.0f} us {count:6} x {name}\n" for name, (micros, count) in ordered))
    return {
        "kernels": sum(count for _, count in spent.values()),
        "ms": sum(micros for micros, _ in spent.values()) / 1e3,
        "layout_conversions": sum(count for name, (_, count) in spent.items() if CONVERSION.search(name)),
        "largest": {name[:80]: round(micros / 1e3, 3) for name, (micros, _) in ordered[:LARGEST]},
        "all": path.name,
    }
