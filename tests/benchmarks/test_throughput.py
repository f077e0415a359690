"""The throughput benchmark, run on a few small videos."""

import json
import subprocess
import sys

import pytest

import configs
from benchmarks.stages import STAGES
from benchmarks.stages.turns import verdict
from tests.support.paths import ROOT
from tests.support.videos import write_video

SMALL = ["clip.size=32", "model.num_classes=2", "model.frames=4", "model.width=8", "train.batch=4", "data.class_names="]
BRIEF = ["--rounds", "2", "--steps", "2"]


def measured(folder, *words, launcher=()):
    """Run the benchmark; return its records by case."""
    command = ["benchmarks/throughput.py", *words, *BRIEF, "--json", "--out", str(folder), *SMALL, "runtime.device=cpu"]
    command = [*launcher, *command]
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
def test_loading_time_not_hidden_is_computed_from_the_rates(records):
    seconds = {stage: 1 / records[stage]["clips_per_s"] for stage in ("feed", "compute", "train")}
    expected = min(max((seconds["train"] - seconds["compute"]) / seconds["feed"], 0), 1)
    assert records["hidden"]["feed_not_hidden"] == pytest.approx(expected)


@pytest.mark.slow
def test_the_decoder_of_dali_is_measured_separately(tmp_path):
    records = measured(tmp_path, "decode", "data.decoder=dali_cpu", *listed(tmp_path, "libvpx-vp9"))
    assert records["decode"]["clips_per_s"] > 0


@pytest.mark.slow
def test_a_property_of_the_videos_is_varied_on_sets_made_for_it(tmp_path):
    made = ["video.frames=40", "video.width=96", "video.height=64", "video.count=8"]
    records = measured(tmp_path, "cut", "--vary", "video.interval=1,8", *made)
    decoded = [records[f"counts/video.interval={interval}"]["decoded_per_used"] for interval in (1, 8)]
    assert decoded[0] == 1 < decoded[1]
    assert {"cut/video.interval=1", "cut/video.interval=8"} <= records.keys()


@pytest.mark.slow
def test_without_json_a_table_and_a_conclusion_are_printed(tmp_path):
    command = ["benchmarks/throughput.py", "feed", "compute", *BRIEF, *SMALL, "runtime.device=cpu", "train.batch=2"]
    command += ["data.train=missing.list", "video.frames=16", "video.count=8", "video.width=96", "video.height=64"]
    done = subprocess.run(
        [sys.executable, ROOT / command[0], *command[1:]], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert "clips/s" in done.stdout and " limits training" in done.stdout
    assert "{" not in done.stdout
    assert not [*tmp_path.rglob("*.jsonl")]


@pytest.mark.slow
def test_synthetic_clips_have_no_stages_of_files(tmp_path):
    records = measured(tmp_path, "all", "data.source=synthetic")
    assert {"feed", "compute", "train"} <= records.keys()
    assert not {"cut", "decode", "counts"} & records.keys()


@pytest.mark.slow
def test_ranks_are_measured_together_and_one_of_them_writes(tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    records = measured(tmp_path, "feed", "compute", "train", "data.source=synthetic", launcher=torchrun)
    assert [records[stage]["ranks"] for stage in ("feed", "compute", "train", "hidden")] == [2] * 4
    assert len((tmp_path / "throughput.jsonl").read_text().splitlines()) == len(records)


def config_of(*overrides):
    return configs.load("demo.yaml", ["runtime.device=cpu", *overrides])


@pytest.mark.parametrize(
    ("medians", "dense", "sentence"),
    [
        (
            {"feed": 90.0, "compute": 60.0},
            1.0,
            "The network limits training: it takes 60 of the 90 clips/s that can be loaded.",
        ),
        (
            {"cut": 500.0, "decode": 55.0, "feed": 50.0, "compute": 100.0},
            8.0,
            "Decoding limits training by 50%: it gives 55 clips/s, and the network takes 100; `python tools/prepare.py",
        ),
        ({"cut": 52.0, "decode": 51.0, "feed": 50.0, "compute": 100.0}, 8.0, "Reading limits training by 50%"),
        ({"cut": 500.0, "decode": 400.0, "feed": 50.0, "compute": 100.0}, 1.0, "Making clips limits training by 50%"),
        ({"train": 5.0}, 1.0, "Measure feed and compute"),
    ],
)
def test_the_bottleneck_is_named_with_a_remedy(medians, dense, sentence):
    assert verdict(medians, {"decoded_per_used": dense}, config_of()).startswith(sentence)


def test_on_a_gpu_the_cpus_threads_are_offered_where_decoding_is_short():
    medians = {"cut": 500.0, "decode": 55.0, "feed": 50.0, "compute": 100.0}
    said = verdict(medians, {"decoded_per_used": 1.0}, config_of("runtime.device=cuda"))
    assert said.endswith("data.decoder=hybrid lets CPU threads decode a part.")


@pytest.mark.slow
def test_own_videos_are_measured_with_the_finetune_recipe(tmp_path):
    own = listed(tmp_path, "mpeg4")
    words = ["cut", "--config", "finetune.yaml", *own, "model.backbone=resnet18", "model.pretrained=none"]
    assert measured(tmp_path, *words)["cut"]["clips_per_s"] > 0
