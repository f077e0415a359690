"""Plans: the videos of each batch, by arithmetic; test_loader.py tests the batches themselves."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest

import configs
from dali_pipes import DataError, Shard
from dali_pipes.views.plans import EvalPlan, TrainPlan


class Rows(SimpleNamespace):
    """The part of a catalogue that a plan uses."""

    def __len__(self):
        return len(self.frames_N)


def catalog_of(sizes, lost=()):
    """Return a catalogue of videos of 300 frames and these sizes in pixels; the rows in `lost` cannot be read."""
    width_N, height_N = np.array(sizes, np.int32).reshape(-1, 2).T.copy()
    frames_N = np.full(len(sizes), 300)
    for column_N in (frames_N, width_N, height_N):
        column_N[list(lost)] = 0
    return Rows(
        source="a.list",
        usable=np.flatnonzero(frames_N),
        frames_N=frames_N,
        width_N=width_N,
        height_N=height_N,
        orientation_N=np.zeros(len(sizes), np.uint8),
        first_frame_N=np.zeros(len(sizes), np.int32),
    )


def plan_of(sizes, *overrides):
    """Return the evaluation plan of such videos."""
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
def test_a_list_without_readable_videos_cannot_be_evaluated(overrides):
    with pytest.raises(DataError, match=r"a\.list: none of the videos can be read"):
        plan_of([], *overrides)


@pytest.mark.parametrize(
    ("videos", "ranks", "advice"),
    [(13, 1, "the largest that works is 13"), (13, 4, "works is 12"), (3, 4, "4 ranks need one video each at least")],
)
def test_too_few_videos_for_a_batch_are_refused_with_what_would_work(videos, ranks, advice):
    config = configs.load("tsm_k400_nhwc", ["train.batch=16"])
    with pytest.raises(DataError, match=rf"{videos} videos do not fill one .*train\.batch=16; .*{advice}"):
        TrainPlan(config, catalog_of([(340, 256)] * videos), Shard(0, ranks))


def draws_of(catalog, ranks=2, epochs=2):
    """Return the views of every step of the last rank."""
    config = configs.load("tsm_k400_nhwc", ["train.batch=12", "train.seed=7"])
    plan = TrainPlan(config, catalog, Shard(ranks - 1, ranks))
    return [plan.draw(epoch, step) for epoch in range(epochs) for step in range(len(plan))]


SIZES = [(340 + number % 7, 256 + number % 5) for number in range(50)]


def test_draws_of_a_complete_set_match_those_of_earlier_versions():
    """The numbers are those of a version without empty places; its checkpoints resume with them."""
    draws = draws_of(catalog_of(SIZES))
    assert len(draws) == 2 * 4
    assert draws[6].row_B.tolist() == [24, 3, 14, 27, 47, 39]
    assert draws[6].frames_BVT[0, 0].tolist() == [5, 53, 78, 111, 171, 210, 258, 268]
    everything = hashlib.sha256()
    for views in draws:
        for array in (views.row_B, views.frames_BVT, views.box_BV4, views.mirror_BV):
            everything.update(array.tobytes())
    assert everything.hexdigest() == "774c09d0363940ddd445585630ace2d250d2d221e0af4eaaaf40cafbae1a9315"


@pytest.mark.parametrize("lost", [[3], [0, 49], range(25), range(1, 50)])
def test_lost_videos_leave_empty_places_and_move_no_other_video(lost):
    for before, after in zip(draws_of(catalog_of(SIZES)), draws_of(catalog_of(SIZES, lost)), strict=True):
        lost_B = np.isin(before.row_B, lost)
        assert (after.row_B == np.where(lost_B, -1, before.row_B)).all()
        for name in ("frames_BVT", "box_BV4", "mirror_BV"):
            np.testing.assert_array_equal(getattr(before, name)[~lost_B], getattr(after, name)[~lost_B])


def test_a_list_without_readable_videos_cannot_be_trained_on():
    with pytest.raises(DataError, match=r"a\.list: none of the videos can be read"):
        draws_of(catalog_of(SIZES, range(50)))


def test_places_end_with_the_training_or_with_the_epoch_asked_for_beyond_it():
    config = configs.load("tsm_k400_nhwc", ["train.batch=2", "train.epochs=3"])
    plan = TrainPlan(config, catalog_of([(340, 256)] * 5), Shard())
    assert [*plan.places(1, 1)] == [(1, 1), (2, 0), (2, 1)]
    assert [*plan.places(3, 1)] == [(3, 1)]
