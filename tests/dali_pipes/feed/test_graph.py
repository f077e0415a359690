"""The DALI graph: pixels against Pillow's and PaddleVideo's, frames, mirroring and layouts."""

import numpy as np
import pytest
from PIL import Image

from configs.schema import Clip, Config, Eval, Model
from dali_pipes.feed.decoders import GraphForm
from dali_pipes.feed.graph import clip_graph
from dali_pipes.views import draw


def run_graph(frames_UHWC, order_VT, box_V4, mirror_V, *, size=32, antialias=True, mean=(0, 0, 0), std=(1 / 255,) * 3):
    """Run the graph on the CPU for a video; return float32 [V, T, size, size, 3], in grey levels if not normalised."""
    inputs = np.int32(order_VT), np.float32(box_V4), np.int32(mirror_V), frames_UHWC
    batch = iter([[[each] for each in inputs]])
    pipeline = clip_graph(
        lambda: next(batch),
        form=GraphForm(),
        device="cpu",
        views=len(order_VT),
        size=size,
        antialias=antialias,
        mean=mean,
        std=std,
        half=False,
        batch_size=1,
        num_threads=1,
        device_id=None,
    )
    pipeline.build()
    return pipeline.run()[0].as_array()[0]


@pytest.fixture
def frames_UHWC():
    return np.random.default_rng(0).integers(0, 256, (5, 90, 120, 3), np.uint8)


def test_crop_and_resize_are_pillows_antialiased_bilinear_over_a_fractional_box(frames_UHWC):
    box = (10.25, 3.5, 100.75, 80.0)
    clips = run_graph(frames_UHWC, [[0, 4]], [box], [0])
    for frame, place in ((0, 0), (4, 1)):
        expected = Image.fromarray(frames_UHWC[frame]).resize((32, 32), Image.Resampling.BILINEAR, box=box)
        inner = np.s_[1:-1, 1:-1]  # Pillow's filter stops at the box, DALI's at the picture: the edge differs
        assert np.abs(clips[0, place] - np.asarray(expected, np.float32))[inner].max() <= 1


def test_every_view_has_its_own_frames_box_and_mirror(frames_UHWC):
    order_VT = [[0, 1, 2], [4, 4, 3]]
    clips = run_graph(frames_UHWC, order_VT, [(0, 0, 32, 32), (5, 6, 37, 38)], [0, 1])
    np.testing.assert_array_equal(clips[0], frames_UHWC[[0, 1, 2], 0:32, 0:32])
    np.testing.assert_array_equal(clips[1], frames_UHWC[[4, 4, 3], 6:38, 5:37][:, :, ::-1])


def test_pixels_are_normalised_by_mean_and_std_of_pictures_between_0_and_1(frames_UHWC):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    clips = run_graph(frames_UHWC, [[1]], [(0, 0, 32, 32)], [0], mean=mean, std=std)
    expected = (frames_UHWC[1, :32, :32] / 255 - mean) / std
    np.testing.assert_allclose(clips[0, 0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("reference", "antialias", "cropping"),
    [("tsm_val", True, "center"), ("tsn_val", False, "center"), ("tsn_test_tencrop", False, "ten")],
)
def test_evaluation_pixels_are_paddlevideos_within_one_grey_level(shared, reference, antialias, cropping):
    golden = np.load(shared / "conformance" / "paddle_pixels.npz")
    config = Config(Model(num_classes=2, frames=1), clip=Clip(antialias=antialias), eval=Eval(crops=cropping))
    view = draw.eval_views(config, *np.array([[0], [1], [640], [360]]))
    frames = golden["image"][None]
    clips = run_graph(frames, view.frames_BVT[0], view.box_BV4[0], view.mirror_BV[0], size=224, antialias=antialias)
    difference = np.abs(np.rint(clips[:, 0]) - golden[reference])
    assert difference.mean() < 1
    assert difference.max() <= 1


@pytest.mark.parametrize("decoder", ["mixed", ""])
def test_dali_accepts_all_operators_and_arguments_of_the_gpu_graph(decoder):
    """DALI checks names when the graph is serialised, which needs no GPU."""
    sizes = {"views": 2, "size": 32, "batch_size": 2, "num_threads": 1, "device_id": None}
    how = {"antialias": True, "mean": (0, 0, 0), "std": (1, 1, 1), "half": True}
    text = clip_graph(
        lambda: None, form=GraphForm(decoder, turned=True, recoloured=True), device="gpu", **sizes, **how
    ).serialize()
    assert b"gpu" in text and (b"mixed" in text) == (decoder == "mixed")
