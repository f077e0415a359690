"""The shift folded into a 1x1 convolution, as an operator: on a CPU, in compilers, and as a GPU's compiler sees it."""

from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
import triton
from hypothesis import given
from hypothesis import strategies as st
from torch._functorch.aot_autograd import aot_function
from torch._higher_order_ops.triton_kernel_wrap import TraceableTritonKernelWrapper
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.backends.compiler import GPUTarget

from models.shift import cpu_products, folded, gpu_kernels
from models.shift.folded import shift_conv1x1, shift_conv1x1_with_skip
from models.shift.forms import temporal_shift

NHWC = torch.channels_last


def separately(x_NCHW, weight_OC11, bias_O, frames, after, before):
    """Compute the definition: shift, then convolve."""
    return F.conv2d(temporal_shift(x_NCHW, frames, after, before), weight_OC11, bias_O)


def random_inputs(count=6, channels=8, filters=4, height=3, width=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x_NCHW = torch.randn(count, channels, height, width, generator=generator).to(dtype, memory_format=NHWC)
    weight_OC11, bias_O = (
        torch.randn(shape, generator=generator).to(dtype) for shape in ((filters, channels, 1, 1), (filters,))
    )
    return x_NCHW.requires_grad_(), weight_OC11.requires_grad_(), bias_O.requires_grad_()


def with_gradients(convolve, inputs, *shift):
    """Return the result and the gradients of all inputs, for a fixed gradient of the result."""
    y_NOHW = convolve(*inputs, *shift)
    dy_NOHW = torch.randn(y_NOHW.shape, generator=torch.Generator().manual_seed(1)).to(y_NOHW)
    return y_NOHW, *torch.autograd.grad(y_NOHW, inputs, dy_NOHW)


@st.composite
def cases(draw):
    """Draw inputs of any size and layout, with or without a bias, and a shift of none to all of the channels."""
    frames, channels = draw(st.integers(1, 5)), draw(st.integers(1, 9))
    sizes = (draw(st.integers(1, 3)) * frames, channels, *(draw(st.integers(1, 4)) for _ in range(3)))
    after = draw(st.integers(0, channels))
    layout = draw(st.sampled_from([NHWC, torch.contiguous_format]))
    *inputs, bias_O = random_inputs(*sizes)
    inputs = [value.detach().to(memory_format=layout).requires_grad_() for value in inputs]
    return (inputs, draw(st.sampled_from([bias_O, None]))), frames, after, draw(st.integers(0, channels - after))


@given(cases())
def test_folded_is_shifted_and_convolved_with_its_gradients(case):
    (inputs, bias_O), *shift = case
    given = inputs if bias_O is None else [*inputs, bias_O]

    def with_or_without(convolve):
        return lambda x_NCHW, weight_OC11, bias_O=None: convolve(x_NCHW, weight_OC11, bias_O, *shift)

    torch.testing.assert_close(
        with_gradients(with_or_without(shift_conv1x1), given), with_gradients(with_or_without(separately), given)
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("reads", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("layout", [NHWC, torch.contiguous_format])
def test_the_skip_connection_contributes_to_the_gradient_of_the_input(dtype, reads, layout):
    inputs = [value.detach().to(dtype).requires_grad_() for value in random_inputs()]
    inputs[0] = inputs[0].detach().to(memory_format=layout).requires_grad_()
    dx_NCHW = random_inputs(height=5, width=3)[0].detach().transpose(2, 3).to(dtype)  # with other strides

    def gradients(y_NOHW, x_NCHW):
        answers = [value for value, read in zip((y_NOHW, x_NCHW), reads, strict=True) if read]
        given = [value for value, read in zip((torch.ones_like(y_NOHW), dx_NCHW), reads, strict=True) if read]
        return torch.autograd.grad(answers, inputs, given, allow_unused=True)

    actual = gradients(*shift_conv1x1_with_skip(*inputs, 3, 2, 1))
    torch.testing.assert_close(actual, gradients(separately(*inputs, 3, 2, 1), inputs[0]))


def test_the_skip_output_needs_no_gradient_if_the_input_needs_none():
    x_NCHW, *weights = random_inputs()
    _, same_NCHW = shift_conv1x1_with_skip(x_NCHW.detach(), *weights, 3, 2, 1)
    assert not same_NCHW.requires_grad


def test_the_skip_output_is_the_input_before_autocast():
    x_NCHW, *weights = random_inputs(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        _, same_NCHW = shift_conv1x1_with_skip(x_NCHW, *weights, 3, 2, 1)
    assert same_NCHW.dtype == torch.float32 and torch.equal(same_NCHW, x_NCHW)


def test_gradients_agree_with_finite_differences():
    assert torch.autograd.gradcheck(lambda *inputs: shift_conv1x1(*inputs, 3, 2, 1), random_inputs(width=1))


def test_results_are_channels_last_and_gradients_have_the_strides_of_what_they_are_of():
    x_NCHW, weight_OC11, bias_O = random_inputs()
    for layout in (NHWC, torch.contiguous_format):
        inputs = x_NCHW, weight_OC11.detach().to(memory_format=layout).requires_grad_(), bias_O
        y_NOHW, dx_NCHW, dweight_OC11, _ = with_gradients(shift_conv1x1, inputs, 3, 1, 1)
        assert y_NOHW.is_contiguous(memory_format=NHWC)
        assert (dx_NCHW.stride(), dweight_OC11.stride()) == tuple(value.stride() for value in inputs[:2])


def test_gradients_are_computed_only_where_they_are_wanted():
    x_NCHW, weight_OC11, _ = random_inputs()
    with patch.object(cpu_products, "input_grad") as input_grad:
        shift_conv1x1(x_NCHW.detach(), weight_OC11, None, 3, 1, 1).sum().backward()
    with patch.object(cpu_products, "weight_grad") as weight_grad:
        shift_conv1x1(x_NCHW, weight_OC11.detach(), None, 3, 1, 1).sum().backward()
    assert not input_grad.called and not weight_grad.called


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("compiled", [False, True])
def test_under_autocast_it_computes_in_half_precision_and_weights_keep_theirs(dtype, compiled):
    inputs = random_inputs(dtype=torch.float32)
    convolve = torch.compile(shift_conv1x1, fullgraph=True, backend="aot_eager") if compiled else shift_conv1x1
    expected = with_gradients(separately, inputs, 3, 1, 1)
    with torch.autocast("cpu", dtype):
        actual = with_gradients(convolve, inputs, 3, 1, 1)
    assert [value.dtype for value in actual] == [dtype, *[torch.float32] * 3]
    assert actual[2].stride() == inputs[1].stride()
    torch.testing.assert_close(actual, expected, rtol=0.02, atol=0.1, check_dtype=False)


OPERATORS = {
    "forward": (folded._conv, lambda x, weight, bias, dy: (x, weight, bias)),
    "input_grad": (folded._input_grad, lambda x, weight, bias, dy: (dy.detach(), weight.detach(), x.detach())),
    "weight_grad": (folded._weight_grad, lambda x, weight, bias, dy: (x.detach(), dy.detach(), weight.detach())),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_keep_the_contract_of_pytorch(name):
    operator, inputs = OPERATORS[name]
    values = random_inputs()
    torch.library.opcheck(operator, (*inputs(*values, separately(*values, 3, 1, 1)), 3, 2, 1))


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_in_one_graph_it_computes_the_same(backend):
    inputs = random_inputs()
    compiled = torch.compile(shift_conv1x1, fullgraph=True, backend=backend)
    torch.testing.assert_close(with_gradients(compiled, inputs, 3, 2, 1), with_gradients(separately, inputs, 3, 2, 1))


class OnClips(torch.nn.Module):
    """A module from clips_BTCHW to y_NOHW."""

    def __init__(self, weight_OC11):
        super().__init__()
        self.weight = weight_OC11

    def forward(self, clips_BTCHW):
        return shift_conv1x1(clips_BTCHW.flatten(0, 1), self.weight, None, clips_BTCHW.shape[1], 2, 1)


def test_exported_it_stays_one_operator_for_any_number_of_clips():
    x_NCHW, weight_OC11, _ = (value.detach() for value in random_inputs(count=12))
    clips_BTCHW = x_NCHW.unflatten(0, (-1, 3))
    batch = torch.export.Dim("B")
    program = torch.export.export(OnClips(weight_OC11), (clips_BTCHW,), dynamic_shapes=[{0: batch}])
    assert torch.ops.tsm.shift_conv1x1.default in [node.target for node in program.graph.nodes]
    for clips in (1, 3):
        some = clips_BTCHW[:clips]
        torch.testing.assert_close(program.module()(some), separately(some.flatten(0, 1), weight_OC11, None, 3, 2, 1))


@pytest.mark.parametrize(
    "count, weight, shift, message",
    [
        (7, (4, 8, 1, 1), (3, 1, 1), "7 frames are not a multiple of 3"),
        (6, (4, 8, 3, 3), (3, 1, 1), r"\(4, 8, 3, 3\) is not that of a 1x1 convolution of 8 channels"),
        (6, (4, 9, 1, 1), (3, 1, 1), r"\(4, 9, 1, 1\) is not that of a 1x1 convolution of 8 channels"),
        (6, (4, 8, 1, 1), (3, 5, 4), "9 channels cannot be shifted: there are only 8"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(count, weight, shift, message):
    with pytest.raises(ValueError, match=message):
        shift_conv1x1(torch.zeros(count, 8, 2, 2), torch.zeros(weight), None, *shift)


@pytest.fixture
def h100(monkeypatch):
    """Let Triton's compiler compile for an H100."""

    class Driver:
        def get_current_target(self):
            return GPUTarget("cuda", 90, 32)

    monkeypatch.setattr(triton.runtime.driver, "_active", Driver())


def test_a_compiler_for_gpus_sees_the_kernels_and_what_each_one_writes(h100):
    def all_three(x_NCHW, weight_OC11, dy_NOHW):
        y_NOHW = folded._conv(x_NCHW, weight_OC11, None, 8, 8, 8)
        dx_NCHW = folded._input_grad(dy_NOHW, weight_OC11, x_NCHW, 8, 8, 8)
        return y_NOHW, dx_NCHW, folded._weight_grad(x_NCHW, dy_NOHW, weight_OC11, 8, 8, 8)

    graphs = []
    with FakeTensorMode(), torch.device("cuda"):
        x_NCHW = torch.empty(16, 64, 6, 6, dtype=torch.bfloat16).to(memory_format=NHWC)
        dy_NOHW = torch.empty(16, 32, 6, 6, dtype=torch.bfloat16).to(memory_format=NHWC)
        weight_OC11 = torch.empty(32, 64, 1, 1).to(memory_format=NHWC)
        compiled = aot_function(all_three, fw_compiler=lambda graph, _: graphs.append(graph) or graph)
        y_NOHW, dx_NCHW, dweight_OC11 = compiled(x_NCHW, weight_OC11, dy_NOHW)
    kernels = [node.kwargs for node in graphs[0].graph.nodes if "triton_kernel_wrapper" in str(node.target)]
    assert [kernel["tensors_to_clone"] for kernel in kernels] == [["y_ptr"], ["dx_ptr"], ["parts_ptr"]]
    created = [node for node in graphs[0].graph.nodes if node.target is torch.ops.aten.empty.memory_format]
    assert created and not any("memory_format" in node.kwargs for node in created)  # Inductor fills such with zeros
    assert (y_NOHW.stride(), dx_NCHW.stride()) == (dy_NOHW.stride(), x_NCHW.stride())
    assert (dweight_OC11.stride(), dweight_OC11.dtype) == (weight_OC11.stride(), torch.float32)


def test_a_kernel_is_wrapped_only_for_a_compiler():
    with FakeTensorMode():
        fake = torch.empty(1, device="cuda")
    assert gpu_kernels.launcher(gpu_kernels.forward_kernel, torch.empty(1)) is gpu_kernels.forward_kernel
    assert isinstance(gpu_kernels.launcher(gpu_kernels.forward_kernel, fake), TraceableTritonKernelWrapper)
