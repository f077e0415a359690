"""A network trained on videos has the same accuracy on frames extracted from them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.slow


def run(*command: str) -> None:
    ended = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr[-2000:]


def evaluate(folder: Path, weights: Path, *overrides: str) -> dict:
    result = folder / "eval.json"
    run("eval.py", "--config", "demo.yaml", "--weights", str(weights), "--json", str(result), *overrides)
    return json.loads(result.read_text())


def test_accuracy_on_frames_is_accuracy_on_videos(tmp_path):
    videos, frames = tmp_path / "videos", tmp_path / "frames"
    run("tools/prepare.py", "demo", "--out", str(videos), "--scenes", "40", "25")
    run("tools/prepare.py", "frames", str(videos / "val.list"), "--out", str(frames), "--workers", "1")
    lists = [f"data.root={videos}", f"data.train={videos}/train.list", f"data.class_names={videos}/classes.txt"]
    short = ["train.epochs=16", "train.batch=16", "train.eval_every=0", f"train.runs={tmp_path}", "train.name=trained"]
    run("train.py", "--config", "demo.yaml", *lists, f"data.val={videos}/val.list", *short)

    weights = tmp_path / "trained" / "best.pt"
    on_videos = evaluate(tmp_path, weights, *lists, f"data.val={videos}/val.list")
    of_frames = [f"data.root={frames}", f"data.val={frames}/val.list", "data.decoder=jpeg"]
    on_frames = evaluate(tmp_path, weights, *lists, *of_frames)
    print(f"top-1 on videos {on_videos['top1']:.3f}, on frames {on_frames['top1']:.3f}")
    assert on_videos["evaluated"] == on_frames["evaluated"] == 100
    assert on_videos["top1"] > 0.5  # its accuracy is high enough to be lost
    assert abs(on_videos["top1"] - on_frames["top1"]) <= 0.01
