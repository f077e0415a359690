"""Own videos in one line: a folder of class folders is split, trained, resumed and evaluated."""

import json
import subprocess
import sys

import pytest

from tests.support.paths import ROOT
from tests.support.videos import write_video

SMALL = [
    "model.pretrained=none",
    "model.backbone=resnet18",
    "model.width=8",
    "clip.size=32",
    "eval.short_side=36",
    "runtime.precision=fp32",
    "runtime.device=cpu",
]


def program(folder, *words):
    """Run a program in `folder`; returns what it printed."""
    command = [sys.executable, str(ROOT / words[0]), *words[1:]]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.slow
def test_a_folder_of_videos_is_all_that_training_asks_for(tmp_path):
    for name in ("jump", "walk", "wave"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for take in range(10):
            write_video(tmp_path / "mine" / name / f"{take}.mp4", "libx264", 12)
    words = ["train.py", "--config", "finetune.yaml", "data.train=mine/", *SMALL, "train.epochs=1"]
    printed = program(tmp_path, *words)
    assert "24 videos to train on, 6 videos held out\n" in printed
    assert "the lists of both sides are in runs/mine/data\n" in printed
    split = (tmp_path / "runs/mine/data/val.list").read_text()
    assert json.loads((tmp_path / "runs/mine/val_last.json").read_text())["class_names"] == ["jump", "walk", "wave"]
    write_video(tmp_path / "mine/walk/new.mp4", "libx264", 12)
    program(tmp_path, *words[:-1], "train.epochs=2", "--resume")
    assert (tmp_path / "runs/mine/data/val.list").read_text() == split
    assert "6 of 6 videos" in program(tmp_path, "eval.py", "--config", "runs/mine/config.yaml")
