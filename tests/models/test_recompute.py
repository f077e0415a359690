"""Activation checkpointing: the same results, gradients and statistics, with less memory for activations."""

import pytest
import torch
from torch.nn import functional as F

from tests.support import slim

KINDS = [
    {"backbone": "resnet50"},
    {"backbone": "resnet50", "shift": "folded"},
    pytest.param({"backbone": "resnet50", "non_local": True}, marks=pytest.mark.slow),
    {"backbone": "resnet50_vd", "leaky_slope": 0.01},
    {"backbone": "mobilenet_v2", "width": 64},
]


def step(model, clips_BTCHW, recompute):
    """Return logits, gradients and buffers of a step, and the bytes kept for its backward pass."""
    model.recompute_blocks = recompute
    model.zero_grad()
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits_BK = model(clips_BTCHW)
    forward = sum(kept.values())
    F.cross_entropy(logits_BK, torch.arange(len(logits_BK))).backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    return {"logits": logits_BK.detach()} | gradients | dict(model.named_buffers()), forward


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
def test_recomputing_changes_nothing_but_memory(kind):
    clips_BTCHW = slim.clips(2, 4)
    (expected, kept), (found, fewer) = (step(slim.network(dropout=0, **kind).train(), clips_BTCHW, on) for on in (0, 1))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=0, rtol=0, msg=name)
    assert fewer < 0.6 * kept


def test_evaluation_recomputes_nothing():
    model = slim.network(backbone="resnet18").eval()
    model.recompute_blocks = True
    with torch.no_grad():
        assert torch.equal(model(slim.clips(1, 4)), slim.network(backbone="resnet18").eval()(slim.clips(1, 4)))
