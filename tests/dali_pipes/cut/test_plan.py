"""The plan of a cut: the needed packets of generated streams."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dali_pipes.cut.plan import _shown, needed, plan_together
from dali_pipes.scan.probe import probe
from dali_pipes.video.packet_table import DISPOSABLE, HIDDEN, INVISIBLE, KEYFRAME
from tests.support.files.packet_tables import GROUPS, stream, video_of
from tests.support.videos import write_video


def closure(references: list[set[int]], wanted: list[int]) -> list[int]:
    """Return all packets that the wanted ones refer to, directly or not, with the wanted ones."""
    found, open_ends = set(), set(wanted)
    while open_ends:
        found |= open_ends
        open_ends = set().union(*(references[index] for index in open_ends)) - found
    return sorted(found)


@settings(max_examples=300)
@given(GROUPS, st.data())
def test_a_cut_keeps_exactly_the_pictures_that_the_wanted_ones_refer_to(groups, data):
    video, references = stream(groups)
    frames = data.draw(st.lists(st.integers(0, video.frames - 1), min_size=1, max_size=8))
    wanted = video.decode_position[frames].tolist()
    assert needed(video, np.array(frames)).tolist() == closure(references, wanted)


@settings(max_examples=100)
@given(st.lists(GROUPS, min_size=1, max_size=4), st.data())
def test_videos_planned_together_are_planned_as_each_alone(several, data):
    videos = [stream(groups)[0] for groups in several]
    frames = [data.draw(st.lists(st.integers(0, video.frames - 1), min_size=1, max_size=4)) for video in videos]
    together = plan_together(videos, frames)
    alone = [next(plan_together([video], [some])) for video, some in zip(videos, frames, strict=True)]
    for one, other in zip(together, alone, strict=True):
        for field, expected in zip(one, other, strict=True):
            np.testing.assert_array_equal(field, expected)


def test_packets_that_are_neighbours_in_the_file_are_one_read(tmp_path):
    video = probe(str(write_video(tmp_path / "clip.mp4", "libx264", gop=1)))
    (plan,) = plan_together([video], [np.array([9, 4, 3, 5])])
    offsets, sizes = video.offsets.tolist(), video.sizes.tolist()
    assert plan.runs.tolist() == [[offsets[3], sum(sizes[3:6])], [offsets[9], sizes[9]]]


def test_neighbouring_packets_of_two_clips_are_two_reads(tmp_path):
    video = probe(str(write_video(tmp_path / "clip.mp4", "libx264", gop=1)))
    first, second = plan_together([video] * 2, [np.array([0]), np.array([1])])
    assert [len(first.runs), len(second.runs)] == [1, 1]


def test_a_keyframe_needs_what_is_before_it_only_for_leading_pictures_that_are_wanted():
    video = video_of([KEYFRAME, DISPOSABLE, 0, KEYFRAME, DISPOSABLE, 0], [1, 0, 2, 4, 3, 5])
    for frames, sync in (([2, 4], [0, 2]), ([2, 3], [0]), ([0, 5], [0, 2]), ([0], [0])):
        (plan,) = plan_together([video], [np.array(frames)])
        assert plan.sync.tolist() == sync


def test_hidden_pictures_have_no_number_but_keep_their_place():
    video = video_of([KEYFRAME | HIDDEN, HIDDEN, 0, KEYFRAME, 0], [0, 1, 2, 3, 4])
    assert video.decode_position.tolist() == [2, 3, 4]
    assert needed(video, np.array([0, 2])).tolist() == [0, 1, 2, 3, 4]


def test_a_keyframe_that_its_container_calls_disposable_is_kept_for_what_follows():
    video = video_of([KEYFRAME | DISPOSABLE, 0, KEYFRAME | DISPOSABLE, 0, DISPOSABLE], [0, 1, 3, 4, 2])
    assert needed(video, np.array([1])).tolist() == [0, 1]
    assert needed(video, np.array([2])).tolist() == [0, 1, 2, 3, 4], "a leading picture, which needs both groups"


def test_invisible_pictures_are_kept_and_not_counted():
    video = video_of([KEYFRAME, HIDDEN | INVISIBLE, 0, 0], [0, 1, 2, 3])
    keep = needed(video, np.array([1]))
    assert (keep.tolist(), _shown(video, keep).tolist()) == ([0, 1, 2], [0, 1, 1])


def segments(rng: np.random.Generator, frames: int, count: int = 8) -> np.ndarray:
    """Return one random frame of each of `count` equal segments, as TSN draws them."""
    return np.arange(count) * (frames // count) + rng.integers(0, frames // count, count)


def test_a_clip_of_300_frames_needs_eight_packets_if_all_are_keyframes(tmp_path):
    video = probe(str(write_video(tmp_path / "clip.mp4", "libx264", 300, gop=1)))
    rng = np.random.default_rng(0)
    assert {len(needed(video, segments(rng, 300))) for _ in range(100)} == {8}


def test_a_clip_of_300_frames_needs_66_packets_if_every_sixteenth_is_a_keyframe(tmp_path):
    video = probe(str(write_video(tmp_path / "clip.mp4", "libx264", 300, gop=16)))
    rng = np.random.default_rng(0)
    cost = [len(needed(video, segments(rng, 300))) for _ in range(2000)]
    assert np.mean(cost) == pytest.approx(66.2, abs=0.3)
