"""Own videos with one command: a folder of class folders is split, trained, resumed and evaluated."""

import json

import pytest

from tests.support import programs
from tests.support.videos import write_video


def program(folder, *words):
    """Run a program in `folder`; return its output."""
    ended = programs.run(*words, folder=folder)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_training_needs_only_a_folder_of_videos(tmp_path):
    for name in ("jump", "walk", "wave"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for take in range(10):
            write_video(tmp_path / "mine" / name / f"{take}.mp4", "libx264", 12)
    words = ["train.py", "--config", "finetune.yaml", "data.train=mine/", *programs.SMALL]
    printed = program(tmp_path, *words)
    assert "24 videos to train on, 6 videos held out\n" in printed
    assert "the lists of both sides are in runs/mine/data\n" in printed
    assert "mine: scanned 30 videos" in printed
    assert "mine: 30 videos, none new or changed" in program(tmp_path, *words, "train.name=again")
    split = (tmp_path / "runs/mine/data/val.list").read_text()
    assert json.loads((tmp_path / "runs/mine/val_last.json").read_text())["class_names"] == ["jump", "walk", "wave"]
    write_video(tmp_path / "mine/walk/new.mp4", "libx264", 12)
    program(tmp_path, *words, "train.epochs=2", "--resume")
    assert (tmp_path / "runs/mine/data/val.list").read_text() == split
    assert "6 of 6 videos" in program(tmp_path, "eval.py", "--config", "runs/mine/config.yaml")
