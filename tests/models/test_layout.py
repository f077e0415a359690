"""Frames stay in NHWC memory from the loader to the last convolution and back; no layout is ever changed."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from configs.schema import Model
from models import build_model

WATCHED = {"convolution", "native_batch_norm", "max_pool2d_with_indices", "threshold"}  # the last is ReLU's gradient
CLIPS, FRAMES, SIZE = 2, 4, 64  # large enough that the last stage has more than one pixel


class Watch(TorchDispatchMode):
    """A mode that notes calls on frames in another layout than channels_last, and calls that change a layout."""

    def __init__(self):
        super().__init__()
        self.seen, self.complaints = set(), []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        outputs = operator(*args, **(kwargs or {}))
        name = operator.overloadpacket.__name__
        kind = name.removesuffix("_backward").removesuffix("_input_grad").removesuffix("_weight_grad")
        if kind in WATCHED:
            self.seen.add(name)
            self.complaints += [name for tensor in frames_among((args, outputs)) if not is_nhwc(tensor)]
        if name in {"clone", "copy_", "_to_copy"}:
            source = args[1] if name == "copy_" else args[0]
            axes = [axis for axis, size in enumerate(source.shape) if size > 1 and source.stride(axis)]
            if order(source, axes) != order(outputs, axes):
                self.complaints.append(name)
        return outputs


def frames_among(tree):
    """Return the tensors that are frames of the batch, at any resolution: no weight has 8 filters."""
    tensors = (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
    return [tensor for tensor in tensors if tensor.ndim == 4 and len(tensor) == CLIPS * FRAMES]


def is_nhwc(tensor):
    return tensor.is_contiguous(memory_format=torch.channels_last)


def order(tensor, axes):
    """Return these axes in memory order, widest strides first. Axes of one element, or repeated, may be anywhere."""
    return sorted(axes, key=tensor.stride().__getitem__, reverse=True)


def step(form, backbone="resnet50", layout=torch.channels_last):
    """Return what was noted in a forward and backward pass over clips in the loader's layout."""
    model = build_model(Model(backbone=backbone, width=16, num_classes=2, frames=FRAMES, shift=form))
    clips_BTHWC = torch.randn(CLIPS, FRAMES, SIZE, SIZE, 3)
    model.to(memory_format=layout).train()
    with Watch() as watch:
        model(clips_BTHWC.movedim(-1, 2)).square().sum().backward()
    return watch


FOLDABLE = ["auto", "where", "folded"]


@pytest.mark.parametrize("backbone, form", [*(("resnet50", form) for form in FOLDABLE), ("resnet18", "auto")])
def test_every_layer_reads_and_writes_channels_last_both_ways(backbone, form):
    watch = step(form, backbone)
    assert watch.complaints == []
    assert {"convolution", "convolution_backward", "native_batch_norm_backward"} <= watch.seen


def test_the_plain_shift_would_lose_the_layout_on_the_way_back():
    assert step("reference").complaints


def test_a_network_in_nchw_would_be_noticed():
    assert step("auto", layout=torch.contiguous_format).complaints
