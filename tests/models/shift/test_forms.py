"""The temporal shift: its definition, and that its fast forms equal it exactly."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.shift.forms import (
    shift_auto,
    shift_concat,
    shift_copy,
    shift_where,
    temporal_shift,
    unshift_copy,
    unshift_where,
)

FAST = [shift_copy, shift_where]  # both ways, in NHWC
OTHERS = [*FAST, shift_concat]
FORMS = [temporal_shift, *OTHERS]


def numbered_frames(clips, frames, channels):
    """Return one pixel a frame, whose channels all hold the frame's number, counted from 1."""
    numbers_T111 = torch.arange(1.0, frames + 1).view(-1, 1, 1, 1)
    return numbers_T111.repeat(clips, channels, 1, 1)


def shift_by_hand(x_NCHW, frames, after, before):
    """Shift one channel of one frame at a time, by the definition."""
    out_NCHW = torch.zeros_like(x_NCHW)
    for n in range(len(x_NCHW)):
        for c in range(x_NCHW.shape[1]):
            source = n % frames + (1 if c < after else -1 if c < after + before else 0)
            if 0 <= source < frames:
                out_NCHW[n, c] = x_NCHW[n - n % frames + source, c]
    return out_NCHW


@pytest.mark.parametrize("shift", FORMS)
def test_the_first_fold_shows_the_next_frame_and_the_second_fold_the_previous_one(shift):
    shifted_TC = shift(numbered_frames(1, 3, 4), 3, 1, 1)[:, :, 0, 0]
    assert shifted_TC.tolist() == [[2, 0, 1, 1], [3, 1, 2, 2], [0, 2, 3, 3]]


@pytest.mark.parametrize("shift", FORMS)
def test_a_shift_without_backward_channels_uses_no_future_frame(shift):
    shifted_TC = shift(numbered_frames(1, 3, 4), 3, 0, 1)[:, :, 0, 0]
    assert shifted_TC.tolist() == [[0, 1, 1, 1], [1, 2, 2, 2], [2, 3, 3, 3]]


@pytest.mark.parametrize("shift", FORMS)
def test_clips_of_a_batch_are_shifted_independently(shift):
    two_NCHW = numbered_frames(2, 3, 4)
    two_NCHW[3:] += 10
    alone = [shift(clip_TCHW, 3, 1, 1) for clip_TCHW in two_NCHW.split(3)]
    assert torch.equal(shift(two_NCHW, 3, 1, 1), torch.cat(alone))


@st.composite
def cases(draw):
    """Draw x_NCHW of any size, type and layout, with its frames and two folds, which may be empty."""
    frames = draw(st.integers(1, 6))
    channels = draw(st.integers(1, 12))
    shape = (draw(st.integers(1, 3)) * frames, channels, draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    dtype = draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
    layout = draw(st.sampled_from([torch.channels_last, torch.contiguous_format]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    x_NCHW = torch.randn(shape, generator=generator).to(dtype).to(memory_format=layout)
    after = draw(st.integers(0, channels))
    return x_NCHW, frames, after, draw(st.integers(0, channels - after))


@given(cases())
def test_the_reference_shift_equals_a_shift_by_hand(case):
    assert torch.equal(temporal_shift(*case), shift_by_hand(*case))


@pytest.mark.parametrize("shift", OTHERS)
@given(cases())
def test_another_form_equals_the_reference_bit_by_bit_with_its_gradient(shift, case):
    x_NCHW, *sizes = case
    grad_NCHW = torch.randn(x_NCHW.shape).to(x_NCHW.dtype)
    x_NCHW.requires_grad_()
    expected, actual = temporal_shift(x_NCHW, *sizes), shift(x_NCHW, *sizes)
    assert torch.equal(actual, expected)
    gradients = [torch.autograd.grad(out_NCHW, x_NCHW, grad_NCHW)[0] for out_NCHW in (actual, expected)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("shift", FORMS)
def test_gradients_agree_with_finite_differences(shift):
    x_NCHW = torch.randn(6, 5, 2, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: shift(x, 3, 2, 1), x_NCHW)
    assert torch.autograd.gradgradcheck(lambda x: shift(x, 3, 2, 1), x_NCHW)


@pytest.mark.parametrize("shift", [temporal_shift, *FAST])
def test_shift_keeps_channels_last(shift):
    x_NCHW = torch.randn(6, 8, 3, 5).to(memory_format=torch.channels_last)
    assert shift(x_NCHW, 3, 1, 1).stride() == x_NCHW.stride()


@pytest.mark.parametrize("shift", FAST)
def test_gradients_of_the_fast_forms_keep_channels_last(shift):
    x_NCHW = torch.randn(6, 8, 3, 5).to(memory_format=torch.channels_last).requires_grad_()
    (grad_NCHW,) = torch.autograd.grad(shift(x_NCHW, 3, 1, 1), x_NCHW, torch.ones_like(x_NCHW))
    assert grad_NCHW.stride() == x_NCHW.stride()


@pytest.mark.parametrize("shift, unshift", [(shift_copy, unshift_copy), (shift_where, unshift_where)])
def test_the_opposite_shift_is_the_transpose(shift, unshift):
    x_NCHW, y_NCHW = torch.randn(2, 6, 8, 3, 5, dtype=torch.float64)
    there, back = shift(x_NCHW, 3, 2, 1) * y_NCHW, x_NCHW * unshift(y_NCHW, 3, 2, 1)
    torch.testing.assert_close(there.sum(), back.sum())


@pytest.mark.parametrize("shift", [shift_auto, temporal_shift, shift_where])
def test_a_compiled_shift_equals_the_reference_with_its_gradient(shift):
    compiled = torch.compile(shift, fullgraph=True, backend="aot_eager")
    x_NCHW = torch.randn(6, 8, 3, 5).to(memory_format=torch.channels_last).requires_grad_()
    grad_NCHW = torch.randn_like(x_NCHW)
    expected, actual = temporal_shift(x_NCHW, 3, 1, 1), compiled(x_NCHW, 3, 1, 1)
    assert torch.equal(actual, expected)
    gradients = [torch.autograd.grad(out_NCHW, x_NCHW, grad_NCHW)[0] for out_NCHW in (actual, expected)]
    assert torch.equal(*gradients)


def test_auto_gives_a_compiler_the_form_that_it_can_fuse():
    nodes = []

    def record(graph, example_inputs):
        nodes.extend(node.target for part in graph.modules() for node in part.graph.nodes)
        return graph

    torch.compile(shift_auto, fullgraph=True, backend=record)(torch.randn(6, 8, 3, 5, requires_grad=True), 3, 1, 1)
    assert "roll" in nodes
