"""The table of docs/data.md is the one that its measurement gives."""

import json

from benchmarks import gop
from benchmarks.gop import table
from tests.support.paths import ROOT
from tests.support.videos import write_video


def records():
    return [json.loads(line) for line in (ROOT / "benchmarks" / "results" / "gop.jsonl").read_text().splitlines()]


def test_the_documented_table_is_the_measured_one():
    assert table(records()) in (ROOT / "docs" / "data.md").read_text()


def test_the_documented_conclusions_hold_in_every_video():
    of = {(record["video"], record["version"]): record for record in records()}
    for video in {video for video, _ in of}:
        original, sixteen, eight, intra = (
            of[video, version] for version in ("original", "keyframe every 16", "keyframe every 8", "keyframes only")
        )
        assert 0.5 < eight["decoded_per_clip"] / sixteen["decoded_per_clip"] < 0.6
        assert 1.09 < eight["file_bytes"] / sixteen["file_bytes"] < 1.19
        assert 0.24 < eight["decoded_per_clip"] / original["decoded_per_clip"] < 0.28
        assert 2.6 < eight["ms_per_clip"] / intra["ms_per_clip"] < 3.4
        assert 1.35 < intra["file_bytes"] / eight["file_bytes"] < 1.81


def test_every_version_is_cut_and_fed(tmp_path, monkeypatch):
    monkeypatch.setattr(gop, "FEED_ROUNDS", 2)
    monkeypatch.setattr(gop, "FEED_BATCHES", 1)
    monkeypatch.setattr(gop, "FEED_BATCH", 2)
    path = write_video(tmp_path / "a.mp4", "libx264", 48, gop=48, size=(64, 96))
    found = {record["version"]: record for record in gop.compare(str(path), clips=4, feed=True)}
    assert list(found) == ["original", "keyframe every 16", "keyframe every 8", "keyframes only"]
    assert found["keyframes only"]["decoded_per_clip"] == 8
    assert all(record["feed_ms_per_clip"] > 0 for record in found.values())
