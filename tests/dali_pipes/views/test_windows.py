"""Windows of a video: their frames and times, and how they are fed."""

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from dali_pipes import Shard
from dali_pipes.loader import VideoLoader
from dali_pipes.scan import build
from dali_pipes.scan.probe import probe
from dali_pipes.video.times import duration, frame_times
from dali_pipes.views import windows
from dali_pipes.views.windows import FramePlan, Window, WindowPlan, sliding
from tests.support import tiny
from tests.support.videos import number_in, picture, write_video
from tools.prediction import answer
from tools.prediction.answer import Segment


def scanned(folder, *paths):
    return build.scan_videos([str(path) for path in paths], folder, "demux")


def test_windows_lie_a_stride_apart_and_the_last_ends_with_the_video():
    time_F = np.arange(100) / 10
    found = sliding(3, time_F, 10.0, seconds=4, stride=2.5)
    assert found == [Window(3, 0, 40), Window(3, 25, 40), Window(3, 50, 40), Window(3, 60, 40)]
    assert sliding(0, time_F, 10.0, seconds=4, stride=3) == [Window(0, n, 40) for n in (0, 30, 60)]


def test_a_video_shorter_than_a_window_is_one():
    assert sliding(0, np.arange(7) / 10, 0.7, seconds=4, stride=2) == [Window(0, 0, 7)]
    assert sliding(0, np.zeros(1), 0.04, seconds=0.01, stride=0.01)[0] == Window(0, 0, 1)


def test_windows_are_seconds_not_frames_where_the_rate_changes():
    time_F = np.concatenate([np.arange(10) / 10, 1 + np.arange(40) / 40])
    found = sliding(0, time_F, 2.0, seconds=0.5, stride=0.5)
    assert [frames for _, _, frames in found] == [5, 5, 20, 20]


def test_a_gap_without_frames_has_no_window():
    time_F = np.array([0.0, 0.1, 5.0, 5.1])
    assert sliding(0, time_F, 5.2, seconds=1, stride=1) == [Window(0, 0, 2), Window(0, 2, 2)]


def test_times_of_uneven_frames_are_those_of_the_file(tmp_path):
    ticks = np.cumsum([0, 1, 5, 1, 1, 9, 2, 2, 3, 30, 1, 1])
    with av.open(str(tmp_path / "uneven.mkv"), "w") as out:
        stream = out.add_stream("libx264", rate=30, options={"bf": "2", "preset": "veryfast"})
        stream.width, stream.height, stream.codec_context.time_base = 96, 48, Fraction(1, 100)
        for number, tick in enumerate(ticks.tolist()):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = tick + 700, Fraction(1, 100)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    video = probe(str(tmp_path / "uneven.mkv"))
    assert video.reordered
    np.testing.assert_allclose(frame_times(video), ticks / 100, atol=1e-9)


@pytest.mark.parametrize("name", ["steady.mp4", "steady.avi", "steady.ts", "raw.h264"])
def test_times_of_a_steady_video_follow_from_its_rate(tmp_path, name):
    video = probe(str(write_video(tmp_path / name, "libx264", 20, b_frames=0)))
    time_F = frame_times(video)
    np.testing.assert_allclose(time_F, np.arange(20) / video.fps, atol=1e-3)
    assert duration(time_F, video.fps) == pytest.approx(20 / video.fps, abs=1e-3)


@pytest.fixture
def two_videos(tmp_path):
    """Return a catalogue of two square videos, of 40 and 41 frames, and settings that show them whole."""
    paths = [write_video(tmp_path / f"{n}.mp4", "libx264", 40 + n, gop=8, size=(96, 96)) for n in range(2)]
    config = tiny.config(
        model={"frames": 4},
        data={"decoder": "pyav"},
        clip={"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},
        eval={"short_side": 96, "size": 96},
        runtime={"threads": 1},
    )
    return scanned(tmp_path, *paths), config


def test_a_plan_feeds_the_frames_of_its_windows_and_pads_the_last_batch(two_videos):
    catalog, config = two_videos
    config = replace(config, eval=replace(config.eval, batch=2))
    plan = WindowPlan(config, catalog, Shard(), [Window(1, 20, 16), Window(0, 0, 40), Window(1, 33, 8)])
    loader = VideoLoader(plan, torch.device("cpu"))
    shown, rows = [], []
    for batch in loader.epoch(0):
        rows += batch.index_B.tolist()
        shown += [[number_in(255 * frame.permute(1, 2, 0).numpy()) for frame in clip[0]] for clip in batch.clips_BVTCHW]
    loader.close()
    assert rows == [1, 0, 1, -1]
    assert shown[:3] == [[22, 26, 30, 34], [5, 15, 25, 35], [34, 36, 38, 40]]


def test_consecutive_frames_are_fed_in_chunks_and_the_last_chunk_repeats_its_last_frame(two_videos, monkeypatch):
    catalog, config = two_videos
    monkeypatch.setattr(windows, "CHUNK", 8)
    plan = FramePlan.of(config, catalog, row=1, every=2)
    assert (len(plan), plan.numbers) == (3, range(0, 41, 2))
    fed = [plan.draw(0, step).frames_BVT[0, 0].tolist() for step in range(len(plan))]
    assert fed == [list(range(0, 16, 2)), list(range(16, 32, 2)), [32, 34, 36, 38, 40, 40, 40, 40]]
    assert list(plan.at(2)) == [32, 34, 36, 38, 40]


def test_a_batch_of_windows_is_limited_by_eval_batch_window_count_and_memory(two_videos, monkeypatch):
    catalog, config = two_videos
    evaluation = config.train.batch  # as many frames as a training batch
    many = [Window(0, 0, 40)] * 100
    assert WindowPlan(config, catalog, Shard(), many).batch == evaluation == 4
    assert WindowPlan(config, catalog, Shard(), many[:3]).batch == 3
    monkeypatch.setattr(windows, "BATCH_BYTES", 2 * 4 * 96 * 96 * 3 + 1)
    assert WindowPlan(config, catalog, Shard(), many).batch == 2
    monkeypatch.setattr(windows, "BATCH_BYTES", 1)
    assert WindowPlan(config, catalog, Shard(), many).batch == 1
    asked = replace(config, eval=replace(config.eval, batch=6))
    assert WindowPlan(asked, catalog, Shard(), many[:3]).batch == 6


def test_neighbouring_windows_of_one_class_merge_and_segments_fill_the_video():
    edge_W1 = answer.edges(np.array([[0, 4], [2, 6], [4, 8], [5, 9.0]]))
    assert edge_W1.tolist() == [0, 3, 5, 6.5, 9]
    found = answer.segments(edge_W1, [7, 7, 2, 7], [0.5, 0.7, 0.9, 0.4])
    assert found == [Segment(0, 5, 7, pytest.approx(0.6)), Segment(5, 6.5, 2, 0.9), Segment(6.5, 9, 7, 0.4)]
