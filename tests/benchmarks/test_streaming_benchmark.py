"""The benchmark of streaming networks, run on small frames."""

import json
import subprocess
import sys

import pytest

from benchmarks import streaming
from tests.support.paths import ROOT


@pytest.mark.slow
def test_each_network_has_a_line_with_its_time_per_frame(tmp_path):
    brief = ["--size", "32", "--rounds", "2", "--threads", "1", "--out", str(tmp_path)]
    words = ["benchmarks/streaming.py", "resnet18", "mobilenet_v2", *brief]
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)
    lines = (tmp_path / "streaming.jsonl").read_text().splitlines()
    records = {record["case"]: record for record in map(json.loads, lines)}
    assert list(records) == ["resnet18", "mobilenet_v2"]
    for record in records.values():
        low, high = record["frame_ms_iqr"]
        assert 0 < low <= record["frame_ms"] <= high <= record["frame_ms_p99"]
        assert record["frames_per_s"] == pytest.approx(1000 / record["frame_ms"])
        assert record["offline_frame_ms"] > 0
        assert record["env"]["packages"]["torch"]


def test_a_network_whose_stream_differs_from_its_clip_is_not_measured():
    model = streaming.network("mobilenet_v2")
    streaming.check_results(model)
    model.features[3].conv[0][0].after = 1  # now its clips look ahead
    with pytest.raises(RuntimeError, match="differ from its clip's by"):
        streaming.check_results(model)
