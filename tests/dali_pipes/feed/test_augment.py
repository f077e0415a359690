"""Augmentation of pixels: equal to torchvision's v2 transforms with the same draws, and to itself in all frames."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from configs import ConfigError, load
from configs.schema import Clip
from dali_pipes import Shard
from dali_pipes.feed.augment import Augmenter, operate
from dali_pipes.views import augment, crops
from dali_pipes.views.augment import JITTERS, OPERATIONS
from tests.support import tiny
from tests.support.loading import assert_same, make_config, read, with_section, write_set

SIZE = 48
ROUNDING = 0.01  # of normalised pixels: fp16 of values up to 2.7, against fp32
ALL = Clip(size=SIZE, color_jitter=(0.4, 0.4, 0.4, 0.1), randaugment=2, erase=0.5)


def pixels(frames=3):
    """Return [T, 3, H, W] bytes of coarse noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (frames, 3, SIZE // 4, SIZE // 4), generator=generator, dtype=torch.uint8)
    return coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)


def normalised(pixels_TCHW, dtype=torch.float32):
    """Return clips_BTHWC of one clip."""
    clip_TCHW = F.normalize(pixels_TCHW.float() / 255, ALL.mean, ALL.std)
    return clip_TCHW.permute(0, 2, 3, 1)[None].to(dtype)


def augmenter(clip):
    return Augmenter(replace(tiny.CONFIG, clip=clip), torch.device("cpu"))


@pytest.mark.parametrize("number", [0, 9, 30])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_of_randaugment_is_torchvisions(operation, number):
    transform = v2.RandAugment()
    magnitudes, signed = transform._AUGMENTATION_SPACE[operation]
    values = magnitudes(augment.BINS, SIZE, SIZE)
    theirs = 0.0 if values is None else float(values[number])
    ours = augment.magnitude(operation, number, SIZE)
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert signed == (operation in augment.SIGNED)
    for sign in (1, -1) if signed else (1,):
        expected = transform._apply_image_or_video_transform(
            tv_tensors.Video(pixels()), operation, sign * ours, InterpolationMode.NEAREST, {tv_tensors.Video: None}
        )
        assert torch.equal(operate(pixels(), operation, sign * ours), expected.as_subclass(torch.Tensor))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_clip_is_augmented_as_torchvision_does_with_the_same_draws(dtype):
    changes = {"brightness": F.adjust_brightness, "contrast": F.adjust_contrast, "saturation": F.adjust_saturation}
    positions = np.arange(12)
    for position, drawn in zip(positions, augment.draw(ALL, 0, 5, positions), strict=True):
        expected = tv_tensors.Video(pixels())
        for name, factor in drawn.jitters:
            expected = (changes | {"hue": F.adjust_hue})[name](expected, factor)
        for name, magnitude in drawn.operations:
            expected = v2.RandAugment()._apply_image_or_video_transform(
                expected, name, magnitude, InterpolationMode.NEAREST, {tv_tensors.Video: None}
            )
        expected = normalised(expected.as_subclass(torch.Tensor))
        if drawn.erased:
            left, top, right, bottom = drawn.erased
            expected[:, :, top:bottom, left:right] = 0
        found = augmenter(ALL)(normalised(pixels(), dtype), 5, np.array([position]))
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), expected, atol=ROUNDING, rtol=0)


def test_all_frames_of_a_clip_get_the_same_augmentation(monkeypatch):
    """Frames that are equal stay equal."""
    still = normalised(pixels(1).repeat(4, 1, 1, 1)).repeat(8, 1, 1, 1, 1)
    found = augmenter(ALL)(still, 0, np.arange(8))
    assert torch.equal(found, found[:, :1].expand_as(found))
    assert len({clip.numpy().tobytes() for clip in found}) == 8


def test_an_augmentation_draw_depends_only_on_seed_epoch_and_clip_number():
    whole = augment.draw(ALL, 3, 1, np.arange(100))
    assert whole[37:60] == augment.draw(ALL, 3, 1, np.arange(37, 60))
    assert whole != augment.draw(ALL, 3, 2, np.arange(100)) != augment.draw(ALL, 4, 2, np.arange(100))


def test_draws_have_the_ranges_of_the_recipe():
    drawn = augment.draw(ALL, 0, 0, np.arange(4000))
    factors = {name: [dict(one.jitters)[name] for one in drawn] for name in JITTERS}
    for name, (low, high) in {"brightness": (0.6, 1.4), "contrast": (0.6, 1.4), "hue": (-0.1, 0.1)}.items():
        assert low <= min(factors[name]) < low + 0.01 and high - 0.01 < max(factors[name]) <= high
    assert len({tuple(name for name, _ in one.jitters) for one in drawn}) == 24
    counts = np.unique([name for one in drawn for name, _ in one.operations], return_counts=True)[1]
    assert len(counts) == len(OPERATIONS) and abs(counts / 8000 - 1 / 14).max() < 0.015
    assert abs(np.mean([one.erased is not None for one in drawn]) - 0.5) < 0.03
    assert not any(one.jitters or one.operations or one.erased for one in augment.draw(Clip(), 0, 0, np.arange(9)))


@pytest.mark.parametrize("width, height, fits", [(320, 240, True), (240, 320, True), (2000, 20, False)])
def test_a_random_area_lies_in_the_picture_and_is_as_large_as_asked(width, height, fits):
    draws = np.random.default_rng(0).random((2000, 2 + 2 * crops.TRIES))
    box_B4, fits_B = crops.of_area(width, height, draws, area=(0.2, 0.6), ratio=(3 / 4, 4 / 3))
    size_B2 = box_B4[:, 2:] - box_B4[:, :2]
    assert (box_B4[:, :2] >= 0).all() and (box_B4[:, 2:] <= (width, height)).all() and (size_B2 > 0).all()
    assert fits_B.mean() > 0.999 if fits else not fits_B.any()
    if fits:
        share_B, ratio_B = size_B2.prod(1) / (width * height), size_B2[:, 0] / size_B2[:, 1]
        assert 0.195 < share_B.min() < 0.21 and 0.57 < share_B.max() < 0.605
        assert 0.73 < ratio_B.min() < 0.77 and 1.3 < ratio_B.max() < 1.36
        assert box_B4[:, 0].min() == 0 and box_B4[:, 2].max() == width


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return make_config(write_set(tmp_path_factory.mktemp("videos")))


def test_the_loader_augments_training_alike_on_any_number_of_ranks_and_threads(config):
    changes = {"randaugment": 2, "erase": 1.0, "train_crop": "resized"}
    augmented = with_section(config, "clip", **changes)
    whole = read(augmented)
    assert_same(whole, read(with_section(augmented, "runtime", threads=4, prefetch=3)))
    parts = [read(augmented, shard=Shard(rank, 2)) for rank in range(2)]
    joined = [tuple(map(np.concatenate, zip(*step, strict=True))) for step in zip(*parts, strict=True)]
    assert_same(whole, joined)
    plain = read(with_section(config, "clip", train_crop="resized"))
    assert all((one[0] != other[0]).any() for one, other in zip(whole, plain, strict=True))
    assert_same(read(augmented, "val"), read(config, "val"))


@pytest.mark.parametrize(
    "setting",
    ["clip.color_jitter=[0,0,0,0.6]", "clip.randaugment_magnitude=31", "clip.crop_area=[0.5,0.1]", "clip.erase=2"],
)
def test_settings_out_of_range_are_named(setting):
    with pytest.raises(ConfigError, match=setting.partition("=")[0].replace(".", r"\.")):
        load("tsm_sthv2", [setting])
