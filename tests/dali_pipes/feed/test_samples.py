"""What the threads prepare: each frame read once, every view still sees its own, and what stands in for a video."""

import io

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dali_pipes.feed.samples import PreparedBatch, Sample, distinct, placeholder

BVT = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5))


@given(BVT, st.data())
def test_each_frame_is_read_once_whatever_the_views_show(shape, data):
    count = int(np.prod(shape))
    frames_BVT = np.array(data.draw(st.lists(st.integers(0, 9), min_size=count, max_size=count))).reshape(shape)
    wanted, order_BVT = distinct(frames_BVT)
    assert order_BVT.dtype == np.int32
    for frames_VT, frames_U, order_VT in zip(frames_BVT, wanted, order_BVT, strict=True):
        np.testing.assert_array_equal(frames_U, np.unique(frames_VT))
        np.testing.assert_array_equal(frames_U[order_VT], frames_VT)


def test_a_picture_of_a_folder_goes_through_the_graph_once_for_each_view_that_shows_it():
    pictures = tuple(np.full(1, number, np.uint8) for number in (7, 8))
    box_V4 = np.arange(8, dtype=np.float32).reshape(2, 4)
    sample = Sample(np.array([[0, 1, 1], [1, 0, 0]]), box_V4, np.array([0, 1]), pictures)
    order, box, mirror, shown = PreparedBatch([sample, sample], np.array([3, 4])).columns("jpeg")
    assert [each.tolist() for each in order] == [[[0]]] * 12
    assert [each.tolist() for each in box] == [box_V4[[view]].tolist() for view in [0, 0, 0, 1, 1, 1] * 2]
    assert [each.tolist() for each in mirror] == [[0], [0], [0], [1], [1], [1]] * 2
    assert [each.item() for each in shown] == [7, 8, 8, 8, 7, 7] * 2


def test_a_video_counts_as_mirrored_only_where_all_of_its_views_are():
    samples = [Sample(np.zeros((2, 1)), np.zeros((2, 4)), np.array(mirror_V), ()) for mirror_V in ([0, 1], [1, 1])]
    assert PreparedBatch(samples, np.array([0, 1])).mirror_B.tolist() == [False, True]


@pytest.mark.parametrize("head", ["nvdec", "dali_cpu", "pyav", "jpeg"])
def test_a_placeholder_is_one_blank_picture_that_its_box_lies_in(head):
    blank = placeholder(head, views=3, frames=4)
    for order_VT, box_V4, mirror_V, *video in blank.rows(head):
        picture_HWC = decoded(head, video)
        assert picture_HWC.max() < 20 and not order_VT.any() and not mirror_V.any()
        assert box_V4.tolist() == [[0, 0, *picture_HWC.shape[:2]]] * len(mirror_V)
    assert len(list(blank.rows(head))) == (12 if head == "jpeg" else 1)


def decoded(head, video) -> np.ndarray:
    """[H, W, 3]: the only picture of a sample's video."""
    if head == "pyav":
        ((picture_HWC,),) = video
    elif head == "jpeg":
        picture_HWC = np.asarray(Image.open(io.BytesIO(video[0])))
    else:
        with av.open(io.BytesIO(video[0])) as container:
            (picture_HWC,) = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert video[1].tolist() == [0]
    return picture_HWC
