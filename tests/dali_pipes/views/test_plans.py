"""Plans: the videos of each batch, by arithmetic alone; test_loader.py tests the batches made from them."""

from types import SimpleNamespace

import numpy as np
import pytest

import configs
from dali_pipes import DataError, Shard
from dali_pipes.views.plans import EvalPlan, TrainPlan


def catalog_of(sizes):
    """What a plan asks of a catalogue, for readable videos of 300 frames and these sizes, in pixels."""
    width_N, height_N = np.array(sizes, np.int32).reshape(-1, 2).T
    frames_N = np.full(len(sizes), 300)
    return SimpleNamespace(
        source="a.list",
        usable=np.arange(len(sizes)),
        frames_N=frames_N,
        width_N=width_N,
        height_N=height_N,
        orientation_N=np.zeros(len(sizes), np.uint8),
    )


def plan_of(sizes, *overrides):
    """The evaluation plan of such videos."""
    return EvalPlan(configs.load("tsm_k400_nhwc", list(overrides)), catalog_of(sizes), Shard())


@pytest.mark.parametrize(
    ("size", "overrides", "videos"),
    [
        ((340, 256), [], 128),  # the frames of a training batch: 128 clips of 8
        ((340, 256), ["eval.clips=4"], 32),
        ((1920, 1080), [], 21),  # 2**30 // (8 * 1920 * 1080 * 3)
        ((1920, 1080), ["eval.clips=4"], 5),
        ((1920, 1080), ["eval.crops=three"], 21),  # crops share decoded frames
        ((65535, 65535), [], 1),
        ((1920, 1080), ["eval.batch=64"], 64),
    ],
)
def test_a_batch_of_evaluation_is_as_large_as_its_decoded_frames_allow(size, overrides, videos):
    assert plan_of([size] * 3, *overrides).batch == videos


def test_one_large_video_does_not_slow_an_evaluation_of_small_ones_down():
    assert plan_of([(340, 256)] * 999 + [(3840, 2160)]).batch == 128


def test_a_video_with_more_pixels_than_32_bits_can_count_is_large():
    assert plan_of([(1 << 16, 1 << 16), (340, 256)]).batch == 1


@pytest.mark.parametrize("overrides", [[], ["eval.batch=4"]])
def test_a_list_of_which_nothing_can_be_read_has_no_evaluation(overrides):
    with pytest.raises(DataError, match=r"a\.list: none of the videos can be read"):
        plan_of([], *overrides)


@pytest.mark.parametrize(
    ("videos", "ranks", "advice"),
    [(13, 1, "the largest that works is 13"), (13, 4, "works is 12"), (3, 4, "4 ranks need one video each at least")],
)
def test_too_few_videos_for_a_batch_are_refused_with_what_would_work(videos, ranks, advice):
    config = configs.load("tsm_k400_nhwc", ["train.batch=16"])
    with pytest.raises(DataError, match=rf"{videos} readable videos do not fill one .*train\.batch=16; .*{advice}"):
        TrainPlan(config, catalog_of([(340, 256)] * videos), Shard(0, ranks))
