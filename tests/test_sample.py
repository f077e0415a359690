"""What the threads prepare: each frame read once, and every view still sees its own."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dali_pipes.sample import distinct

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
