"""Counted memory traffic: single operators against arithmetic, and what each form of the shift adds to a step."""

from collections import defaultdict

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.network import bytes as traffic
from configs.schema import Model
from models import build_model
from models.shift import gpu_kernels
from models.shift.conv import ShiftedConv2d

CLIPS, SIZE = 2, 64
SETTINGS = {"backbone": "resnet50", "width": 16, "num_classes": 3, "frames": 4}


def counted(operation, *shapes):
    with FakeTensorMode():
        tensors = [torch.empty(shape) for shape in shapes]
        with traffic.Traffic() as seen:
            operation(*tensors)
    return seen.bytes.total()


@pytest.mark.parametrize(
    "operation, shapes, values",
    [
        (torch.add, [(2, 3), (2, 3)], 18),
        (torch.add, [(2, 3), (1, 3)], 15),
        (lambda x: x.expand(5, 3).sum(), [(1, 3)], 4),  # repeated values are read once
        (lambda x: x.view(6).t()[2:], [(2, 3)], 0),
        (lambda x: x[:, :1] + 1, [(2, 3)], 4),
        (torch.relu_, [(2, 3)], 12),
        (lambda x, y: x.copy_(y), [(2, 3), (2, 3)], 12),
        (lambda x, y: torch._foreach_copy_([x], [y]), [(2, 3), (2, 3)], 12),
        (lambda x, y: torch._foreach_add_([x], [y]), [(2, 3), (2, 3)], 18),
        (lambda x: torch.empty_like(x), [(2, 3)], 0),
        (lambda x: torch.zeros_like(x), [(2, 3)], 6),
        (lambda x, w: torch.conv2d(x, w), [(2, 3, 4, 4), (5, 3, 1, 1)], 2 * 3 * 16 + 15 + 2 * 5 * 16),
    ],
)
def test_an_operator_reads_its_inputs_and_writes_its_outputs_once(operation, shapes, values):
    assert counted(operation, *shapes) == 4 * values


def test_norms_read_their_input_twice_and_convolutions_gradients_that_of_their_output():
    def norm(x):
        return torch.nn.functional.batch_norm(x, None, None, training=True)

    assert counted(norm, (4, 3, 2, 2)) == 4 * (3 * 48 + 2 * 3)  # and statistics are written
    mask = [True, True, False]
    backward = torch.ops.aten.convolution_backward

    def gradients(dy, x, w):
        return backward(dy, x, w, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, mask)

    dy, x, w = 2 * 5 * 16, 2 * 3 * 16, 15
    assert counted(gradients, (2, 5, 4, 4), (2, 3, 4, 4), (5, 3, 1, 1)) == 4 * (2 * dy + x + w + x + w)


def test_a_compiler_fuses_operations_next_to_a_batch_norm():
    assert traffic.fused({"relu_": 30, "add_": 30, "threshold_backward": 30, "convolution": 30}) == 0 + 10 + 20 + 30


def step(form):
    """Count the bytes of a step of a small network with a form of the shift, or with none."""
    return traffic.count(Model(name="tsm" if form else "tsn", **SETTINGS), form, CLIPS, SIZE).total()


def test_the_folded_shift_moves_no_frame_of_its_own_and_spares_the_addition_of_two_gradients(monkeypatch):
    monkeypatch.setattr(traffic, "partial_sums", lambda *_: 0)
    read = []
    with torch.device("meta"):
        model = build_model(Model(**SETTINGS))
        shifted = [part for part in model.modules() if isinstance(part, ShiftedConv2d)]
        for conv in shifted:
            conv.form = lambda conv, x_NCHW: (read.append(x_NCHW.numel()), conv.convolve(x_NCHW), x_NCHW)[1:]
        model(torch.empty(CLIPS, model.settings.frames, 3, SIZE, SIZE))
    weights = sum(conv.weight.numel() for conv in shifted)
    casts = 2 * weights  # bytes: autocast's copies of weights in half precision, minus those that the operator reads
    additions = 2 * 2 * sum(read)  # the gradient of the convolution's input is not written and read to be added
    assert step(traffic.SHIFTS["folded into conv1"]) == step(None) - casts - additions


def test_partial_sums_are_counted_as_they_are_made(monkeypatch):
    made = []
    launch = defaultdict(lambda: lambda x, dy, parts, *_, **__: made.append(parts))
    monkeypatch.setattr(gpu_kernels, "launcher", lambda *_: launch)
    x_NCHW, dy_NOHW = torch.empty(16, 64, 28, 28, device="meta"), torch.empty(16, 32, 28, 28, device="meta")
    gpu_kernels.weight_grad(x_NCHW, dy_NOHW, 8, 8, 8)
    assert traffic.partial_sums("shift_conv1x1_weight_grad", (x_NCHW, dy_NOHW)) == 2 * made[0].nbytes


def test_copies_of_the_shifted_frames_cost_and_mits_form_makes_the_most():
    assert step(None) < step(traffic.SHIFTS["copied"]) < step(traffic.SHIFTS["as published by MIT"])
