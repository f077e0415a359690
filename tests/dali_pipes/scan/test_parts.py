"""Rows that are parts of videos: files are scanned once, parts without frames are named, clips stay inside."""

import json
import logging
import shutil

import numpy as np
import pytest

from configs.schema import Data
from dali_pipes import DataError, Shard
from dali_pipes.scan.build import load_catalog
from dali_pipes.scan.overlap import shared_videos
from dali_pipes.views import frames
from dali_pipes.views.plans import EvalPlan, TrainPlan
from dali_pipes.views.windows import whole_windows
from tests.support.files.trees import plant
from tests.support.loading import make_config, read, with_section
from tests.support.videos import write_video

HEADER = "path,start,end,label\n"
ROWS = "a.mp4,0,1,0\na.mp4,1,,1\nb.mp4,0.5,0.7,2\nb.mp4,,,0\n"  # videos of 60 frames, 30 a second


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with two videos of 60 frames in 2 seconds, one with B-frames, and a list of their parts."""
    folder = tmp_path_factory.mktemp("parts")
    write_video(folder / "a.mp4", "libx264", 60, gop=8)
    write_video(folder / "b.mp4", "libx264", 60, gop=30, b_frames=2)
    return plant(folder, {"parts.csv": HEADER + ROWS})


@pytest.fixture(scope="module")
def config(folder):
    return make_config(str(folder / "parts.csv"))


def scanned(folder, rows, name="other.csv"):
    """Scan a list of these rows below the usual header."""
    plant(folder, {name: HEADER + rows})
    return load_catalog(str(folder / name), Data(max_bad_fraction=0.9), workers=1)


def test_each_row_has_the_frames_shown_in_its_part(folder):
    catalog = scanned(folder, ROWS)
    assert catalog.first_frame_N.tolist() == [0, 30, 15, 0] and catalog.frames_N.tolist() == [30, 30, 6, 60]
    assert [catalog.video(row).frames for row in range(4)] == [60] * 4
    assert catalog.label_N.tolist() == [0, 1, 2, 0] and catalog.first_N.tolist() == [0, 0, 2, 2]


@pytest.mark.processes
def test_a_file_is_scanned_once_however_many_parts_it_has_and_not_again_for_others(folder, tmp_path, caplog):
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(folder / name, tmp_path)
    caplog.set_level(logging.INFO)
    scanned(tmp_path, ROWS, "new.csv")
    assert "scanned 2 videos" in caplog.text
    caplog.clear()
    catalog = scanned(tmp_path, ROWS.replace("0.5,0.7", "0.5,0.9"), "new.csv")
    assert "2 videos, none new or changed" in caplog.text and catalog.frames_N[2] == 12


def test_the_scan_reports_parts_that_end_late_overlap_or_are_short(folder, caplog):
    caplog.set_level(logging.INFO)
    scanned(folder, "a.mp4,0,1,0\na.mp4,0.9,5,1\na.mp4,1.5,1.51,1\nb.mp4,0,2,0\nb.mp4,0.5,1,0\n")
    assert "5 of 5 parts of videos usable, the shortest of 1 frames, 1 end with their video" in caplog.text
    assert "1 overlap a part of another class" in caplog.text


def test_a_part_without_frames_is_unreadable_and_its_file_is_not(folder, caplog):
    caplog.set_level(logging.INFO)
    catalog = scanned(folder, "a.mp4,0,1,0\na.mp4,2.5,3,1\na.mp4,0.501,0.502,1\n")
    reasons = [bad.reason for bad in catalog.unreadable]
    assert reasons == [
        "ends at 2 s, before its part from 2.5 s to 3 s begins",
        "shows no frame from 0.501 s to 0.502 s",
    ]
    lines = (folder / "other.csv.scan" / "quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in lines] == reasons
    assert "1 readable, 2 quarantined" in caplog.text and "1 of 3 parts of videos usable" in caplog.text
    with pytest.raises(DataError, match="2 of 3 videos cannot be read"):
        load_catalog(str(folder / "other.csv"), Data(), workers=1)


def test_all_parts_of_an_unreadable_file_are_unreadable(folder):
    plant(folder, {"bad.mp4": "no video"})
    catalog = scanned(folder, "a.mp4,0,1,0\nbad.mp4,0,1,1\nbad.mp4,1,2,1\n")
    assert [bad.row for bad in catalog.unreadable] == [1, 2] and len({bad.reason for bad in catalog.unreadable}) == 1


def test_training_draws_all_frames_of_a_part_and_no_others(config):
    plan = TrainPlan(config, load_catalog(config.data.train, config.data), Shard())
    seen = {row: set() for row in range(4)}
    for epoch in range(60):
        drawn = plan.draw(epoch, 0)
        for row, frames_VT in zip(drawn.row_B.tolist(), drawn.frames_BVT.tolist(), strict=True):
            seen[row].update(*frames_VT)
    # of 30 and 6 frames for clips of 4, the last n % 4 are never drawn (MIT's rule)
    assert seen[0] == set(range(28)) and seen[1] == set(range(30, 58)) and seen[2] == set(range(15, 19))


def test_snapping_stays_inside_the_part(config):
    config = with_section(config, "clip", snap=8)
    plan = TrainPlan(config, load_catalog(config.data.train, config.data), Shard())
    for epoch in range(20):
        drawn = plan.draw(epoch, 0)
        for row, frames_VT in zip(drawn.row_B.tolist(), drawn.frames_BVT, strict=True):
            first, count = plan.catalog.first_frame_N[row], plan.catalog.frames_N[row]
            assert first <= frames_VT.min() and frames_VT.max() < first + count


def test_evaluation_takes_the_views_of_a_video_as_long_as_the_part(config):
    plan = EvalPlan(config, load_catalog(config.data.val, config.data), Shard())
    drawn = plan.draw(0, 0)
    expected_BVT = frames.uniform_clips(np.array([30, 30, 6, 60]), 4, 1) + np.array([0, 30, 15, 0])[:, None, None]
    assert np.array_equal(drawn.frames_BVT, expected_BVT)
    assert whole_windows(plan.catalog) == [(0, 0, 30), (1, 30, 30), (2, 15, 6), (3, 0, 60)]


def test_clips_of_a_part_are_those_of_the_same_frames_of_the_whole_video(config, folder):
    plant(folder, {"part.csv": f"{HEADER}b.mp4,1,2,1\n", "whole.csv": "path,label\nb.mp4,1\n"})

    def every_frame(name, count):
        of_list = with_section(with_section(config, "data", val=f"{folder}/{name}"), "eval", frames=count, batch=1)
        load_catalog(of_list.data.val, of_list.data)
        ((clips_BVTCHW, label_B, _),) = read(of_list, "val")
        assert label_B.tolist() == [1]
        return clips_BVTCHW[0, 0]

    assert np.array_equal(every_frame("part.csv", 30), every_frame("whole.csv", 60)[30:])


def test_rows_of_different_parts_are_distinguished(folder):
    """A run that was started with other parts is not resumed, see engine/train/resume.py."""
    assert scanned(folder, "a.mp4,0,1.5,0\na.mp4,2,,0\n").names() == ["a.mp4#t=0.0,1.5", "a.mp4#t=2.0,inf"]


def test_parts_of_one_video_on_both_sides_are_shared_only_if_they_share_frames(folder):
    training = scanned(folder, "a.mp4,0,1,0\n")
    plant(folder, {"val.csv": HEADER + "a.mp4,1,2,0\na.mp4,0.9,2,0\nb.mp4,0,1,0\n"})
    held_out = load_catalog(str(folder / "val.csv"), Data(), workers=1)
    assert shared_videos(training, held_out) == [1]
