"""The throughput benchmark, run as a user would on a few small videos."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from videos import write_video

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("throughput")
    names = [write_video(folder / f"{number}.mp4", "libx264", 16, gop=1).name for number in range(8)]
    (folder / "all.list").write_text("".join(f"{name} {number % 2}\n" for number, name in enumerate(names)))
    small = ["clip.size=32", "model.num_classes=2", "model.frames=4", "model.width=8", "train.batch=4"]
    paths = [f"data.root={folder}", f"data.train={folder}/all.list", "data.class_names="]
    command = ["benchmarks/throughput.py", "all", "--rounds", "2", "--steps", "2", "--out", str(folder)]
    command += [*small, *paths, "runtime.device=cpu"]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    lines = (folder / "throughput.jsonl").read_text().splitlines()
    return {record["case"]: record for record in map(json.loads, lines)}


def test_counts_come_first_and_are_exact(records):
    assert next(iter(records)) == "counts"
    assert records["counts"]["decoded_per_used"] == 1  # keyframes only
    assert records["counts"]["clips"] == 8


def test_every_part_has_a_rate_with_quartiles_and_its_provenance(records):
    for part in ("prepare", "feed", "compute", "train"):
        low, high = records[part]["clips_per_s_iqr"]
        assert 0 < low <= records[part]["clips_per_s"] <= high
        assert records[part]["env"]["packages"]["torch"]
        assert records[part]["settings"]["train.batch"] == 4


def test_computing_waits_for_no_data(records):
    assert records["compute"]["waiting"] < records["feed"]["waiting"]
