"""Draws moved towards keyframes: within their segment, never to a more expensive frame, equal on all ranks."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import snap
from dali_pipes import Shard
from dali_pipes.cut.plan import needed
from dali_pipes.lists.listing import read_list
from dali_pipes.scan.build import open_catalog
from dali_pipes.scan.catalog import Catalog, Entry, write_catalog
from dali_pipes.views.frames import towards_keyframes
from dali_pipes.views.plans import TrainPlan
from tests.support.files.packet_tables import GROUPS, stream
from tests.support.loading import make_config, with_section, write_set
from tests.support.videos import write_video


def moved(video, frame: int, lowest: int, most: int) -> int:
    """Apply the rule frame by frame: back to a keyframe if one is near enough, else as far as allowed."""
    for earlier in range(frame, max(lowest, frame - most) - 1, -1):
        if video.decode_position[earlier] in video.groups:
            return earlier
    return max(lowest, frame - most)


@settings(max_examples=200)
@given(st.lists(GROUPS, min_size=1, max_size=3), st.integers(0, 12), st.data())
def test_frames_move_by_the_rule(several, most, data):
    videos = [stream(groups)[0] for groups in several]
    frames_B1 = np.array([[data.draw(st.integers(0, video.frames - 1))] for video in videos])
    lowest_B1 = np.array([[data.draw(st.integers(0, frame))] for frame in frames_B1[:, 0].tolist()])
    expected = [
        moved(video, frame, lowest, most)
        for video, frame, lowest in zip(videos, frames_B1[:, 0].tolist(), lowest_B1[:, 0].tolist(), strict=True)
    ]
    assert towards_keyframes(videos, frames_B1, lowest_B1, most)[:, 0].tolist() == expected


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_set(folder)
    write_video(folder / "0.mp4", "libx264", 3, gop=4)  # shorter than a clip
    for number in range(1, 13):
        write_video(folder / f"{number}.mp4", "libx264", 80 + number, gop=16)
    return make_config(str(folder / "all.list"))


def drawn(config, shard=None, catalog=None):
    catalog = catalog or open_catalog(config.data.train, config.data)
    plan = TrainPlan(config, catalog, shard or Shard())
    return catalog, [plan.draw(epoch, step) for epoch in range(8) for step in range(len(plan))]


def test_a_recipe_that_snaps_decodes_less_and_moves_frames_within_their_segments(config):
    cost, frames = {}, {}
    for most in (0, 4, 100):
        catalog, batches = drawn(with_section(config, "clip", snap=most))
        rows = np.concatenate([views.row_B for views in batches])
        frames[most] = np.concatenate([views.frames_BVT[:, 0] for views in batches])
        clips = zip(rows.tolist(), frames[most], strict=True)
        cost[most] = np.mean([len(needed(catalog.video(row), frames_T)) for row, frames_T in clips])
    assert cost[100] < cost[4] < cost[0]
    short_B = rows == 0
    assert short_B.any()
    np.testing.assert_array_equal(frames[100][short_B], frames[0][short_B])
    segment_BT = frames[100][~short_B] // (catalog.frames_N[rows][~short_B, None] // 4)
    np.testing.assert_array_equal(segment_BT, np.tile(np.arange(4), (len(segment_BT), 1)))
    assert 0 < (frames[0] - frames[4]).max() <= 4


def test_ranks_snap_alike(config):
    config = with_section(config, "clip", snap=4)
    _, whole = drawn(config)
    parts = [drawn(config, Shard(rank, 2))[1] for rank in range(2)]
    for one, *shares in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(one.frames_BVT, np.concatenate([share.frames_BVT for share in shares]))


def test_videos_that_are_read_whole_do_not_snap_and_others_do(config, tmp_path):
    """Their packets and frames may differ in number, for example in packed streams."""
    usual = open_catalog(config.data.train, config.data)
    videos = [usual.video(row) for row in range(len(usual))]
    videos[5] = replace(videos[5], access="whole", frames=videos[5].frames + 7)
    entries = [Entry(video.size, video.mtime_ns, 0, video) for video in videos]
    write_catalog(tmp_path / "catalog", read_list(config.data.train, config.data), entries, "reader")
    snapping, catalog = with_section(config, "clip", snap=4), Catalog(tmp_path / "catalog")
    all_drawn = (drawn(snapping, None, catalog), drawn(snapping), drawn(config, None, catalog))
    for found, expected, unmoved in zip(*(batches for _, batches in all_drawn), strict=True):
        whole_B11 = (found.row_B == 5)[:, None, None]
        right = np.where(whole_B11, unmoved.frames_BVT, expected.frames_BVT)
        np.testing.assert_array_equal(found.frames_BVT, right)


@pytest.mark.parametrize(("change", "key"), [({"sampling": "dense"}, "clip.snap"), ({}, None)])
def test_only_draws_from_segments_can_snap(config, change, key):
    config = replace(config, clip=replace(config.clip, snap=4, **change))
    assert [name for name, _ in config.problems()] == ([key] if key else [])


def test_pictures_in_folders_do_not_snap(config):
    config = with_section(with_section(config, "clip", snap=4), "data", decoder="jpeg")
    assert "clip.snap" in [name for name, _ in config.problems()]


def test_the_benchmark_counts_what_is_saved(tmp_path):
    path = str(write_video(tmp_path / "a.mp4", "libx264", 80, gop=8))
    before, after, most = (snap.count(path, most, 50) for most in (0, 2, 10))
    assert before["moved_by"] == 0 < after["moved_by"] <= 2
    assert before["decoded_per_clip"] > after["decoded_per_clip"] > most["decoded_per_clip"] >= 8
