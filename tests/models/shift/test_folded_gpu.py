"""The folded shift on a GPU: its kernels against double precision, alone and in a network, eager and compiled."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F

from configs.schema import Model
from engine.runtime import exact_fp32
from models import build_model
from models.shift.folded import shift_conv1x1
from models.shift.forms import temporal_shift

pytestmark = pytest.mark.gpu

WIDTHS = [(64, 64), (256, 64), (256, 128), (512, 128), (512, 256), (1024, 256), (1024, 512), (2048, 512)]
# Relative to the norm: one rounding; in fp32 the sum of up to 2048 terms in sequence, which gives 8e-7.
ROUNDING = {torch.float32: 2e-6, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
FRAMES = 8
LARGE = 24 << 30  # bytes that the test of large tensors needs


def example(channels, filters, dtype, clips=2, side=7):
    torch.manual_seed(0)
    count, weight_OC11 = clips * FRAMES, torch.randn(filters, channels, 1, 1, device="cuda") / channels**0.5
    x_NCHW, dy_NOHW = (
        torch.randn(count, width, side, side, device="cuda").to(dtype).to(memory_format=torch.channels_last)
        for width in (channels, filters)
    )
    return x_NCHW, weight_OC11.to(dtype), torch.randn(filters, device="cuda").to(dtype), dy_NOHW


def with_gradients(convolve, x_NCHW, weight_OC11, bias_O, dy_NOHW, after, before):
    inputs = [value.detach().requires_grad_() for value in (x_NCHW, weight_OC11, bias_O)]
    y_NOHW = convolve(*inputs, FRAMES, after, before)
    return y_NOHW.detach(), *torch.autograd.grad(y_NOHW, inputs, dy_NOHW)


def separately(x_NCHW, weight_OC11, bias_O, frames, after, before):
    return F.conv2d(temporal_shift(x_NCHW, frames, after, before), weight_OC11, bias_O)


def assert_rounded(actual, expected, dtype):
    for ours, exact in zip(actual, expected, strict=True):
        assert (ours.double() - exact).norm() <= ROUNDING[dtype] * exact.norm()


@pytest.mark.parametrize("dtype, causal", [*product(ROUNDING, [False, True])])
def test_kernels_are_right_at_every_width_of_resnets(dtype, causal):
    for channels, filters in WIDTHS:
        tensors, fold = example(channels, filters, dtype), channels // 8
        shift = (0 if causal else fold, fold)
        exact = with_gradients(separately, *(tensor.double() for tensor in tensors), *shift)
        assert_rounded(with_gradients(shift_conv1x1, *tensors, *shift), exact, dtype)


def test_unaligned_tensors_are_read_correctly():
    x_NCHW, *rest = example(64, 64, torch.float16)
    room = torch.empty(x_NCHW.numel() + 1, device="cuda", dtype=torch.float16)
    odd_NCHW = room[1:].as_strided(x_NCHW.shape, x_NCHW.stride(), 1).copy_(x_NCHW)
    assert odd_NCHW.data_ptr() % 16
    expected, actual = (with_gradients(shift_conv1x1, values, *rest, 8, 8) for values in (x_NCHW, odd_NCHW))
    assert all(torch.equal(*pair) for pair in zip(actual, expected, strict=True))


def test_folded_results_are_deterministic():
    tensors = example(256, 64, torch.bfloat16, clips=8, side=28)
    first, second = (with_gradients(shift_conv1x1, *tensors, 32, 32) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_properties(0).total_memory < LARGE, reason="a small GPU"
)
def test_tensors_of_more_than_two_thousand_million_values_are_addressed_right():
    side, clips = 112, 2**31 // (FRAMES * 64 * 112 * 112) + 1
    x_NCHW, *parameters, dy_NOHW = example(64, 64, torch.float16, clips, side)
    assert x_NCHW.numel() > 2**31
    y_NOHW, dx_NCHW, *_ = with_gradients(shift_conv1x1, x_NCHW, *parameters, dy_NOHW, 8, 8)
    last = slice(-FRAMES, None)
    alone = with_gradients(shift_conv1x1, x_NCHW[last], *parameters, dy_NOHW[last], 8, 8)
    assert torch.equal(y_NOHW[last], alone[0]) and torch.equal(dx_NCHW[last], alone[1])


def network(shift):
    torch.manual_seed(0)
    model = build_model(Model(num_classes=5, shift=shift, dropout=0.0)).cuda().to(memory_format=torch.channels_last)
    clips_BTCHW = torch.randn(2, FRAMES, 112, 112, 3, device="cuda").movedim(-1, 2)
    return model, clips_BTCHW


@exact_fp32()
def test_a_folded_network_gives_the_logits_of_the_reference():
    logits = []
    for shift in ("reference", "folded"):
        model, clips_BTCHW = network(shift)
        with torch.no_grad():
            logits.append(model.eval()(clips_BTCHW))
    torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-5 * logits[0].abs().max().item())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_compiled_in_one_graph_a_folded_network_is_as_near_to_fp32_as_eager(dtype):
    """Both round in each of fifty layers, at different places."""
    model, clips_BTCHW = network("folded")
    model.fc = torch.nn.Identity()  # the logits of a new classifier are nearly 0, so features are compared
    with exact_fp32():
        exact = model(clips_BTCHW).detach()
    compiled = torch.compile(model, fullgraph=True)
    with torch.autocast("cuda", dtype):
        answers = compiled(clips_BTCHW), model(clips_BTCHW)
    of_compiled, of_eager = ((answer.detach().float() - exact).norm() / exact.norm() for answer in answers)
    assert of_compiled < 1.5 * of_eager
    answers[0].float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.slow
def test_gradients_of_a_compiled_network_have_the_strides_of_their_parameters():
    model, clips_BTCHW = network("folded")
    torch.compile(model, fullgraph=True)(clips_BTCHW).sum().backward()
    assert all(parameter.grad.stride() == parameter.stride() for parameter in model.parameters())
