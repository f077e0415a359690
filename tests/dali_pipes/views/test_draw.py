"""Views: reproducible, uniformly random, and valid for rows without a video."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import configs
from configs.schema import Clip, Config, Eval, Model, Train
from dali_pipes.views import draw
from tests.support.chance import SURPRISING, surprise

CONFIG = Config(model=Model(num_classes=4), train=Train(name="test", epochs=1, batch=1, seed=11))
DRAWS = 100_000

clips = st.builds(
    Clip,
    sampling=st.sampled_from(["uniform", "dense"]),
    train_crop=st.sampled_from(["multiscale", "random", "center"]),
    crop_positions=st.sampled_from([5, 13]),
    short_side=st.sampled_from([0, 224, 256]),
    squash=st.booleans(),
    multiscale_size=st.sampled_from([0, 256]),
)
evaluations = st.builds(
    Eval,
    crops=st.sampled_from(["center", "three", "ten"]),
    clips=st.integers(1, 10),
    sampling=st.sampled_from(["uniform", "dense"]),
    frames=st.sampled_from([0, 3, 25]),
    size=st.sampled_from([0, 256]),
)
sides = st.integers(16, 2000)
videos = st.lists(st.tuples(st.integers(1, 1000), sides, sides), min_size=1, max_size=12)


def catalogue(count: int) -> tuple[np.ndarray, ...]:
    """Return rows, frames, widths and heights of `count` different videos."""
    row_B = np.arange(count)
    return row_B, 5 + row_B * 7 % 300, 300 + row_B * 13 % 200, 200 + row_B * 17 % 150


def alike(count: int, width: int, height: int) -> tuple[np.ndarray, ...]:
    """Return the same for `count` videos of 300 frames and one size."""
    return np.arange(count), np.full(count, 300), np.full(count, width), np.full(count, height)


def drawn(clip: Clip, size: tuple[int, int]) -> draw.Views:
    """Return the views of one epoch for many videos of one size."""
    return draw.train_views(replace(CONFIG, clip=clip), 0, np.arange(DRAWS), *alike(DRAWS, *size))


def fields(batch: draw.Views) -> list[np.ndarray]:
    return [batch.row_B, batch.frames_BVT, batch.box_BV4, batch.mirror_BV]


@given(clips, st.permutations(range(24)), st.integers(1, 24))
def test_a_training_view_depends_only_on_its_position(clip, order, size):
    config, position_B = replace(CONFIG, clip=clip), 1000 + np.arange(24)
    whole = draw.train_views(config, 2, position_B, *catalogue(24))
    for first in range(0, 24, size):
        part = np.array(order[first : first + size])
        some = draw.train_views(config, 2, position_B[part], *(column[part] for column in catalogue(24)))
        for ours, expected in zip(fields(some), fields(whole), strict=True):
            np.testing.assert_array_equal(ours, expected[part])


@pytest.mark.parametrize("change", ["epoch", "position", "seed"])
def test_another_epoch_position_or_seed_gives_other_views(change):
    config, epoch, position_B = CONFIG, 0, np.arange(100)
    first = draw.train_views(config, epoch, position_B, *alike(100, 340, 256))
    if change == "epoch":
        epoch = 1
    elif change == "position":
        position_B = position_B + 100
    else:
        config = replace(config, train=replace(config.train, seed=12))
    second = draw.train_views(config, epoch, position_B, *alike(100, 340, 256))
    assert np.all(first.frames_BVT != second.frames_BVT, axis=2).mean() > 0.5
    assert np.any(first.box_BV4 != second.box_BV4, axis=2).mean() > 0.9
    assert 0.3 < (first.mirror_BV != second.mirror_BV).mean() < 0.7


@given(clips, videos)
def test_training_views_lie_inside_their_videos(clip, some):
    frames_B, width_B, height_B = np.array(some).T
    count_B = np.arange(len(some))
    assert_lies_inside(
        draw.train_views(replace(CONFIG, clip=clip), 0, count_B, count_B, frames_B, width_B, height_B),
        shape=(len(some), 1, CONFIG.model.frames),
        video=(frames_B, width_B, height_B),
    )


@given(evaluations, videos)
def test_evaluation_views_lie_inside_their_videos(evaluation, some):
    config = replace(CONFIG, eval=evaluation)
    frames_B, width_B, height_B = np.array(some).T
    assert_lies_inside(
        draw.eval_views(config, np.arange(len(some)), frames_B, width_B, height_B),
        shape=(len(some), draw.num_views(config), config.eval_frames),
        video=(frames_B, width_B, height_B),
    )


def test_each_of_the_ten_multiscale_sizes_is_equally_likely():
    box_B4 = drawn(Clip(), (340, 256)).box_BV4[:, 0]
    sizes, times = np.unique(box_B4[:, 2:] - box_B4[:, :2], axis=0, return_counts=True)
    assert len(sizes) == 10
    assert surprise(times) < SURPRISING


@pytest.mark.parametrize("positions", [5, 13])
def test_each_multiscale_position_is_equally_likely(positions):
    box_B4 = drawn(Clip(crop_positions=positions), (340, 256)).box_BV4[:, 0]
    smallest = np.all(box_B4[:, 2:] - box_B4[:, :2] == 168, axis=1)  # the positions of larger crops may coincide
    corners, times = np.unique(box_B4[smallest, :2], axis=0, return_counts=True)
    assert len(corners) == positions
    assert surprise(times) < SURPRISING


def test_pp_tsm_squashes_then_draws_multiscale_crops_and_every_square_in_them_equally_often():
    """1280 x 720 becomes 341 x 256; its largest crop has 256 pixels a side, with 33 x 33 places for one of 224."""
    box_B4 = drawn(configs.load("pptsm_k400").clip, (1280, 720)).box_BV4[:, 0] * np.tile((341 / 1280, 256 / 720), 2)
    sizes, times = np.unique(np.rint(box_B4[:, 2:] - box_B4[:, :2]).astype(int), axis=0, return_counts=True)
    sides = np.rint(np.array((256, 224, 192, 168)) * 224 / 256).astype(int).tolist()
    near = [(w, h) for a, w in enumerate(sides) for b, h in enumerate(sides) if abs(a - b) <= 1]
    assert sorted(map(tuple, sizes.tolist())) == sorted(near) and surprise(times) < SURPRISING
    largest = box_B4[np.isclose(box_B4[:, 2] - box_B4[:, 0], 224) & np.isclose(box_B4[:, 3] - box_B4[:, 1], 224)]
    left_top_B2 = np.rint(largest[:, :2]).astype(int)
    np.testing.assert_allclose(largest[:, :2], left_top_B2, atol=1e-3)
    assert surprise(np.bincount(left_top_B2[:, 1], minlength=33)) < SURPRISING
    assert set(left_top_B2[:, 0].tolist()) == set(range(341 - 256 - 1 + 33))


def test_every_pixel_of_a_random_crop_is_equally_likely():
    clip = Clip(size=64, train_crop="random")
    corner = drawn(clip, (73, 68)).box_BV4[:, 0, :2].astype(int)
    assert surprise(np.bincount(corner[:, 0] * 5 + corner[:, 1], minlength=50)) < SURPRISING


@pytest.mark.parametrize("frames", [1, 8])
def test_every_frame_of_a_segment_is_equally_likely(frames):
    config = replace(CONFIG, model=replace(CONFIG.model, frames=frames))
    chosen = draw.train_views(config, 0, np.arange(DRAWS), *alike(DRAWS, 340, 256)).frames_BVT
    length = 300 // frames
    for segment in range(frames):
        assert surprise(np.bincount(chosen[:, 0, segment] - segment * length, minlength=length)) < SURPRISING


@pytest.mark.parametrize("flip", [0.0, 0.2, 0.5, 1.0])
def test_mirroring_has_its_probability(flip):
    spread = np.sqrt(flip * (1 - flip) / DRAWS)
    assert abs(drawn(Clip(flip=flip), (340, 256)).mirror_BV.mean() - flip) <= SURPRISING * spread


def test_a_mirrored_view_shows_the_other_label_of_its_pair():
    label_B, mirror_B = np.array([0, 1, 2, 3, 3, -1, 1]), np.array([1, 1, 1, 1, 0, 1, 0], bool)
    shown_B = draw.shown_label(Clip(flip_pairs=(3, 0, 1, 4)), label_B, mirror_B)
    assert shown_B.tolist() == [3, 4, 2, 0, 3, -1, 1]
    assert draw.shown_label(Clip(), label_B, mirror_B).tolist() == label_B.tolist()


def test_frames_crop_and_mirror_are_drawn_independently():
    batch = drawn(Clip(size=64, train_crop="random"), (79, 79))
    early = batch.frames_BVT[:, 0, 0] * 2 // 37.5
    left = batch.box_BV4[:, 0, 0] // 8
    combination = early * 4 + left * 2 + batch.mirror_BV[:, 0]
    outcomes = np.bincount(combination.astype(int), minlength=8).reshape(2, 4)
    expected = np.array([[19], [18]]) / 37 * DRAWS / 4  # a segment of 37 frames has 19 in its first half
    np.testing.assert_allclose(outcomes, np.tile(expected, 4), atol=SURPRISING * np.sqrt(DRAWS / 8))


def test_a_training_crop_is_chosen_on_the_scaled_picture():
    stored = drawn(Clip(short_side=256), (1280, 720)).box_BV4
    scaled = drawn(Clip(), (455, 256)).box_BV4
    np.testing.assert_allclose(stored, scaled * ((1280 / 455, 720 / 256) * 2), rtol=1e-6)


def test_a_stored_picture_of_the_right_short_side_is_cut_at_whole_pixels():
    config = replace(CONFIG, eval=Eval(crops="ten"))
    boxes = draw.eval_views(config, *alike(1, 455, 256)).box_BV4
    np.testing.assert_array_equal(boxes, np.rint(boxes))


def test_evaluation_views_run_through_the_crops_of_one_clip_before_the_next():
    config = replace(CONFIG, eval=Eval(crops="three", clips=2, size=256))
    batch = draw.eval_views(config, *alike(1, 455, 256))
    assert draw.num_views(config) == 6
    assert batch.frames_BVT[0, :, 0].tolist() == [18, 18, 18, 0, 0, 0]
    assert batch.box_BV4[0, :, 0].tolist() == [0, 196, 98, 0, 196, 98]


def test_ten_crops_are_mirrored_every_second_time():
    config = replace(CONFIG, eval=Eval(crops="ten", clips=3))
    batch = draw.eval_views(config, *catalogue(2))
    assert batch.mirror_BV.tolist() == [[False, True] * 15] * 2
    np.testing.assert_array_equal(batch.box_BV4[:, 0::2], batch.box_BV4[:, 1::2])


@pytest.mark.parametrize("cropping", ["center", "three"])
def test_other_crops_are_never_mirrored(cropping):
    config = replace(CONFIG, eval=Eval(crops=cropping, clips=2))
    assert not draw.eval_views(config, *catalogue(3)).mirror_BV.any()


def test_padding_gets_valid_views_for_any_values():
    nonsense = [np.array([0, 0, 999]), np.array([0, 7, 1]), np.array([0, -3, 0])]
    row_B = np.array([-1, -1, -1])
    for batch in (
        draw.train_views(CONFIG, 0, np.arange(3), row_B, *nonsense),
        draw.eval_views(replace(CONFIG, eval=Eval(crops="ten", clips=3)), row_B, *nonsense),
    ):
        assert batch.row_B.tolist() == [-1, -1, -1]
        assert not batch.frames_BVT.any()
        assert np.all(batch.box_BV4[..., :2] < batch.box_BV4[..., 2:])


def assert_lies_inside(batch: draw.Views, shape: tuple[int, int, int], video: tuple[np.ndarray, ...]):
    frames_B, width_B, height_B = (column[:, None, None] for column in video)
    B, V, T = shape
    assert batch.frames_BVT.shape == (B, V, T)
    assert batch.box_BV4.shape == (B, V, 4)
    assert batch.mirror_BV.shape == (B, V)
    types = [field.dtype for field in fields(batch)]
    assert types == [np.int64, np.int64, np.float32, np.bool_]
    assert np.all((batch.frames_BVT >= 0) & (batch.frames_BVT < frames_B))
    assert np.all((batch.box_BV4[..., :2] >= 0) & (batch.box_BV4[..., :2] < batch.box_BV4[..., 2:]))
    assert np.all(batch.box_BV4[..., 2:] <= np.concatenate([width_B, height_B], axis=2))
