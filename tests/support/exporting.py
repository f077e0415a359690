"""Tiny networks exported by export.py."""

import torch

import configs
from engine import program
from engine.inference.metadata import ENDINGS
from models import build_model
from tests.support import tiny
from tools import export
from tools.exporting import export as export_file

NAMES = ("left", 'a "quoted" one', "économiser")


def weights_file(folder, **model):
    """Write a checkpoint of a tiny network whose logits are of the order of 1."""
    torch.manual_seed(0)
    config = tiny.config(model={"fc_std": 0.1, **model}, clip={"size": 32}, eval={"short_side": 32, "clips": 3})
    weights = build_model(config.model).state_dict()
    for name, tensor in weights.items():
        if "running" in name:  # the statistics of a new network, 0 and 1, would hide errors
            tensor.add_(torch.empty_like(tensor).uniform_(-0.2, 0.2))
    content = {"model": weights, "config": configs.flat(config), "class_names": NAMES}
    torch.save(content, folder / "best.pt")
    return folder / "best.pt"


def run(weights, *words):
    """Run export.py; return its exit code."""
    return program.run("export.py", lambda: export_file.export(export.arguments(["--weights", str(weights), *words])))


def exported(folder, *words, **model):
    """Export a tiny network; return the file."""
    out = folder / f"out{ENDINGS[words[1]]}"
    assert run(weights_file(folder, **model), "--out", str(out), *words) == 0
    return out
