"""Checkpoints of earlier versions, which every later version resumes: `tests/data/checkpoints/VERSION.pt.xz`.

`VERSION.json` has the numbers of the run after it. `python -m tests.support.old_runs VERSION` writes both files.
"""

import json
import lzma
import sys
import tempfile
from pathlib import Path

import torch

from engine.files import read_lines
from engine.runs import checkpoint, checkpoint_files
from tests.support import tiny
from tests.support.paths import ROOT

FILES = ROOT / "tests" / "data" / "checkpoints"
STEP, STEPS = 4, 6  # in the middle of the second of two epochs
NUMBERS = ("step", "loss", "top1", "lr", "grad_norm", "mean_class")


def resume(folder: Path, stop: bool = False) -> list[dict]:
    """Train the run in a folder to its end, or to STEP; return the numbers of the steps after STEP.

    The run has everything that has a state, and very few weights.
    """
    train = {"runs": str(folder), "ema": 0.9, "mixup": 0.2, "accumulate": 2, "log_every": 1, "on_nonfinite": "skip"}
    loaders = {"train": tiny.RowLoader(14, 4), "val": tiny.RowLoader(5, 4, train=False)}
    if stop:
        tiny.before_step(loaders["train"], STEP - 1, tiny.terminate)
    tiny.resume(tiny.config(model={"width": 2, "shift_div": 2}, train=train), loaders)
    lines = read_lines(folder / "tiny" / "metrics.jsonl")
    return [{name: line[name] for name in NUMBERS if name in line} for line in lines if line["step"] > STEP]


def unpack(file: Path, folder: Path) -> None:
    """Put a checkpoint where a run in `folder` finds it."""
    checkpoints = folder / "tiny" / "checkpoints"
    checkpoints.mkdir(parents=True)
    plain = checkpoints / "plain"
    plain.write_bytes(lzma.decompress(file.read_bytes()))
    checkpoint.save(checkpoint_files.step_file(checkpoints, STEP), checkpoint.read_file(plain), step=STEP)
    plain.unlink()


def write(version: str) -> None:
    """Write the checkpoint of this version, without facts about the machine, and the numbers of the steps after it."""
    FILES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        resume(folder, stop=True)
        state = checkpoint.load(checkpoint_files.step_file(folder / "tiny" / "checkpoints", STEP))
        state["environment"], state["config"]["train.runs"] = {}, "runs"
        for _, tensor in checkpoint.named_tensors(state):
            if tensor.dtype == torch.float32:
                tensor.view(torch.int32).bitwise_and_(-(1 << 20))  # three bits of mantissa, for a small file
        torch.save(state, folder / "plain")
        (FILES / f"{version}.pt.xz").write_bytes(lzma.compress((folder / "plain").read_bytes(), preset=9))
        unpack(FILES / f"{version}.pt.xz", folder / "again")
        (FILES / f"{version}.json").write_text(json.dumps(resume(folder / "again"), indent=1) + "\n")


if __name__ == "__main__":
    write(sys.argv[1])
