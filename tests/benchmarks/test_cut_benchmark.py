"""The benchmark of cutting, run on one small video."""

import json
import subprocess
import sys

import pytest

from tests.support.paths import ROOT
from tests.support.videos import write_video


@pytest.mark.slow
def test_counts_are_exact_and_shares_add_up(tmp_path):
    path = write_video(tmp_path / "a.mp4", "libx264", 40, gop=1)
    command = ["benchmarks/cut.py", str(path), "--clips", "32", "--rounds", "2", "--out", str(tmp_path)]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    cut, views = map(json.loads, (tmp_path / "cut.jsonl").read_text().splitlines())
    assert cut["case"] == "cut/a"
    assert cut["decoded_per_clip"] == 8
    assert cut["bytes_per_clip"] == cut["bytes_needed_per_clip"] > 0
    assert sum(cut["share"].values()) == pytest.approx(1)
    assert cut["two_threads_over_one"] == pytest.approx(
        cut["ms_per_clip"]["1 thread"] / cut["ms_per_clip"]["2 threads"]
    )
    assert views["views_per_s"] > 0
