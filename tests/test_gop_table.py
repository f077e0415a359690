"""The table of docs/data.md is the one that its measurement gives."""

import json
from pathlib import Path

from benchmarks.gop import table

ROOT = Path(__file__).parents[1]


def records():
    return [json.loads(line) for line in (ROOT / "benchmarks" / "results" / "gop.jsonl").read_text().splitlines()]


def test_the_documented_table_is_the_measured_one():
    assert table(records()) in (ROOT / "docs" / "data.md").read_text()


def test_what_the_document_concludes_holds_in_every_video():
    of = {(record["video"], record["version"]): record for record in records()}
    for video in {video for video, _ in of}:
        original, sixteen, eight, intra = (
            of[video, version] for version in ("as it comes", "keyframe every 16", "keyframe every 8", "keyframes only")
        )
        assert 0.5 < eight["decoded_per_clip"] / sixteen["decoded_per_clip"] < 0.6
        assert 1.09 < eight["file_bytes"] / sixteen["file_bytes"] < 1.19
        assert 0.24 < eight["decoded_per_clip"] / original["decoded_per_clip"] < 0.28
        assert 2.6 < eight["ms_per_clip"] / intra["ms_per_clip"] < 3.4
        assert 1.35 < intra["file_bytes"] / eight["file_bytes"] < 1.81
