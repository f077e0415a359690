"""Samples of a batch: each frame is read once, each view has its own frames, and placeholders are blank."""

import io

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dali_pipes.feed.decoders import BLANK, GraphForm, example
from dali_pipes.feed.samples import columns, distinct, placeholder

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


@pytest.mark.parametrize("in_graph", ["", "cpu", "mixed"])
def test_a_placeholder_is_one_blank_picture_that_contains_its_box(in_graph):
    content = example(in_graph) if in_graph else BLANK
    blank = placeholder(views=3, frames=4, content=content)
    (order_VT,), (box_V4,), (mirror_V,), (frames,), (by_graph,), (encoded,), (position_U,), (shown_HW,) = columns(
        [blank], GraphForm("cpu")
    )
    assert by_graph == bool(in_graph)
    if in_graph:
        with av.open(io.BytesIO(encoded)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert position_U.tolist() == [0]
        assert shown_HW.tolist() == [64, 64]
    (picture_HWC,) = frames
    assert picture_HWC.max() < 20 and not order_VT.any() and not mirror_V.any()
    assert box_V4.tolist() == [[0, 0, *picture_HWC.shape[:2]]] * 3
