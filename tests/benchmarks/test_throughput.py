"""The throughput benchmark, run as a user would on a few small videos."""

import json
import subprocess
import sys

import pytest

from benchmarks.stages import STAGES
from tests.support.paths import ROOT
from tests.support.videos import write_video

SMALL = ["clip.size=32", "model.num_classes=2", "model.frames=4", "model.width=8", "train.batch=4", "data.class_names="]
BRIEF = ["--rounds", "2", "--steps", "2"]


def measured(folder, *words):
    """The records of a run of the benchmark, by case."""
    command = ["benchmarks/throughput.py", *words, *BRIEF, "--out", str(folder), *SMALL, "runtime.device=cpu"]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    lines = (folder / "throughput.jsonl").read_text().splitlines()
    return {record["case"]: record for record in map(json.loads, lines)}


def listed(folder, codec):
    names = [write_video(folder / f"{number}.mp4", codec, 16, gop=1).name for number in range(8)]
    (folder / "all.list").write_text("".join(f"{name} {number % 2}\n" for number, name in enumerate(names)))
    return [f"data.root={folder}", f"data.train={folder}/all.list"]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("throughput")
    return measured(folder, "all", *listed(folder, "libx264"))


@pytest.mark.slow
def test_counts_come_first_and_are_exact(records):
    assert next(iter(records)) == "counts"
    assert records["counts"]["decoded_per_used"] == 1  # keyframes only
    assert records["counts"]["clips"] == 8


@pytest.mark.slow
def test_every_stage_has_a_rate_with_quartiles_its_memory_and_its_provenance(records):
    for stage in STAGES:
        low, high = records[stage]["clips_per_s_iqr"]
        assert 0 < low <= records[stage]["clips_per_s"] <= high
        assert records[stage]["host_bytes"] > 2**20
        assert records[stage]["env"]["packages"]["torch"]
        assert records[stage]["settings"]["train.batch"] == 4


@pytest.mark.slow
def test_computing_waits_for_no_data(records):
    assert records["compute"]["waiting"] < records["feed"]["waiting"]


@pytest.mark.slow
def test_what_is_not_hidden_follows_from_the_rates(records):
    seconds = {stage: 1 / records[stage]["clips_per_s"] for stage in ("feed", "compute", "train")}
    expected = (seconds["train"] - seconds["compute"]) / seconds["feed"]
    assert records["hidden"]["feed_not_hidden"] == pytest.approx(expected)


@pytest.mark.slow
def test_dalis_own_decoder_is_measured_alone(tmp_path):
    records = measured(tmp_path, "decode", "data.decoder=dali_cpu", *listed(tmp_path, "libvpx-vp9"))
    assert records["decode"]["clips_per_s"] > 0


@pytest.mark.slow
def test_a_property_of_the_videos_is_varied_on_sets_made_for_it(tmp_path):
    made = ["video.frames=40", "video.width=96", "video.height=64", "video.count=8"]
    records = measured(tmp_path, "cut", "--vary", "video.interval=1,8", *made)
    decoded = [records[f"counts/video.interval={interval}"]["decoded_per_used"] for interval in (1, 8)]
    assert decoded[0] == 1 < decoded[1]
    assert {"cut/video.interval=1", "cut/video.interval=8"} <= records.keys()
