"""Question 5: does training through this decoder learn what training on a CPU learns?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.harness.session import Probe
from tools.data.demo import write_demo_set

ROOT = Path(__file__).resolve().parents[2]


def run_section(probe: Probe) -> None:
    """Make the demo set, train its recipe with the decoder, and evaluate."""
    head = "nvdec" if probe.scale.device == "gpu" else "pyav"  # DALI's CPU decoder takes no H.264
    for name in probe.wanted({f"demo/{head}": ()}):
        try:
            probe.recorder.add(name, **_train(probe, head))
        except subprocess.CalledProcessError as error:
            probe.failed(name, f"{error.cmd[1]} failed:\n{error.stderr[-2000:]}")
        except subprocess.TimeoutExpired as error:
            probe.failed(name, f"{error.cmd[1]} did not end in the {error.timeout:.0f} s that were left")


def _train(probe: Probe, head: str) -> dict:
    """Return the seconds of training, and the result of eval.py for the best weights."""
    data, result = probe.folder / "demo", probe.folder / "demo.json"
    scenes = dict(zip(("train", "val"), probe.scale.demo_scenes, strict=True))
    write_demo_set(data, scenes, workers=len(os.sched_getaffinity(0)))
    recipe = [
        *("--config", "demo.yaml", "train.name=demo", f"train.runs={probe.folder / 'runs'}"),
        *(f"data.{split}={data / split}.list" for split in ("train", "val")),
        *(f"data.root={data}", f"data.class_names={data / 'classes.txt'}", f"data.decoder={head}"),
        *probe.scale.demo_recipe,
    ]
    began = time.monotonic()
    _run(probe, "train.py", *recipe, "--fresh")
    seconds = time.monotonic() - began
    _run(probe, "eval.py", *recipe, "--json", str(result))
    score = json.loads(result.read_text())
    return {name: score[name] for name in ("top1", "correct", "evaluated")} | {"train_seconds": seconds}


def _run(probe: Probe, *command: str) -> None:
    """Run one of the project's programs in its folder, with the time left as its limit."""
    subprocess.run([sys.executable, *command], cwd=ROOT, timeout=probe.left, check=True, capture_output=True, text=True)
