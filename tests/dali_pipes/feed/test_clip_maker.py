"""Clips made by CPU threads: resized as by Pillow, and equal to those of the DALI graph."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dali_pipes.feed.clip_maker import ClipMaker, _Axis, resize
from dali_pipes.feed.cpu_runner import CpuRunner
from dali_pipes.feed.dali_runner import GraphRunner
from tests.support import loading
from tests.support.loading import build_loader, make_config, read, with_section, write_set

CPU = torch.device("cpu")
ROUNDING = 2  # grey levels: across and down, torch and Pillow round differently
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pictures(count: int, height: int, width: int) -> np.ndarray:
    """Return [count, height, width, 3] uint8 of strong contrasts."""
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def by_pillow(frames_THWC: np.ndarray, box, size: int) -> np.ndarray:
    made = [Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR, box) for frame in frames_THWC]
    return np.stack(made)


@settings(max_examples=200)
@given(st.data(), st.integers(8, 40), st.integers(8, 40), st.sampled_from([16, 24, 28]))
def test_a_box_on_whole_pixels_is_resized_as_by_pillow(data, width, height, size):
    frames_THWC = pictures(2, 44, 60)
    left, top = data.draw(st.integers(0, 60 - width)), data.draw(st.integers(0, 44 - height))
    box = (left, top, left + width, top + height)
    found = resize(frames_THWC, np.array(box, np.float32), size).numpy().astype(int)
    assert np.abs(found - by_pillow(frames_THWC, box, size)).max() <= ROUNDING


@pytest.mark.parametrize(
    "box", [(0, 0, 256, 256), (84, 0, 340, 256), (29, 8, 253, 232), (50, 60, 218, 228), (116, 32, 340, 256)]
)
def test_usual_crops_are_resized_without_pillow(box):
    left, top, right, bottom = map(float, box)
    assert _Axis.fit(left, right, 340, 224) and _Axis.fit(top, bottom, 256, 224)


def test_fractional_and_unaligned_boxes_are_resized_by_pillow():
    assert _Axis.fit(0.5, 240.5, 340, 224) is None
    assert _Axis.fit(3.0, 243.0, 340, 224) is None
    frames_THWC = pictures(2, 44, 60)
    for box in ((0.5, 2.25, 40.25, 42.0), (0, 0, 40.5, 42), (0, 0, 40, 42.5), (1, 1, 38, 38)):
        found = resize(frames_THWC, np.array(box, np.float32), 16)
        np.testing.assert_array_equal(found, by_pillow(frames_THWC, box, 16))


def test_a_box_that_rounding_put_beyond_the_edge_is_taken_to_the_edge():
    frames_THWC = pictures(1, 44, 60)
    box_4 = np.array([20.5, 0, np.nextafter(np.float32(60), np.float32(99)), 44], np.float32)
    np.testing.assert_array_equal(resize(frames_THWC, box_4, 16), by_pillow(frames_THWC, (20.5, 0, 60, 44), 16))


@pytest.mark.parametrize("half", [False, True])
def test_views_have_their_own_frames_mirroring_and_normalisation(half):
    maker, frames_UHWC = ClipMaker(16, MEAN, STD, half=half), pictures(3, 44, 60)
    order_VT = np.array([[0, 1, 2], [2, 2, 0]], np.int32)
    box_V4 = np.array([[4, 8, 20, 24], [8, 4, 40, 36]], np.float32)
    out_VTHWC = maker.empty(2, 3)
    maker.make(frames_UHWC, order_VT, box_V4, np.array([0, 1]), (False, False), out_VTHWC)
    plain = resize(frames_UHWC, box_V4[0], 16), resize(frames_UHWC[[2, 2, 0]], box_V4[1], 16).flip(2)
    expected = (np.stack(plain) / 255 - MEAN) / STD
    assert out_VTHWC.dtype == (torch.float16 if half else torch.float32)
    np.testing.assert_allclose(out_VTHWC, expected, atol=2e-3 if half else 1e-5)


config = loading.config


@pytest.mark.parametrize(("split", "crops"), [("train", "center"), ("val", "ten")])
def test_loaders_with_and_without_a_graph_give_the_same_clips(config, monkeypatch, split, crops):
    config = with_section(config, "eval", crops=crops)
    ours = read(config, split)
    monkeypatch.setattr(
        "dali_pipes.loader.CpuRunner",
        lambda plan, choice, threads, dtype: GraphRunner(plan, choice, CPU, threads, dtype),
    )
    for (clips, *rest), (graph_clips, *graph_rest) in zip(ours, read(config, split), strict=True):
        np.testing.assert_array_equal(rest, graph_rest)
        read_B = rest[1] >= 0
        apart = np.abs(clips - graph_clips)[read_B] * np.array(STD).reshape(3, 1, 1) * 255
        assert apart.max() < 3
        assert apart.mean() < 0.5


def test_clips_of_unreadable_videos_are_blank(config, tmp_path):
    config = make_config(write_set(tmp_path))
    (tmp_path / "5.mp4").unlink()
    batches = read(config, "val")
    bad = [clips[row_B < 0] for clips, _, row_B in batches]
    assert sum(map(len, bad)) > 1
    assert not np.concatenate(bad).any()


def test_only_antialiased_clips_of_a_cpu_need_no_graph(config):
    for antialias, kind in ((True, CpuRunner), (False, GraphRunner)):
        loader = build_loader(replace(config, clip=replace(config.clip, antialias=antialias)), "train")
        assert type(loader._runner) is kind
        loader.close()
