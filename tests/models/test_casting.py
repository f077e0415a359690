"""Casts of weights made together: the values of autocast, in one operation a stage each way."""

import pytest
import torch

from benchmarks.network.launches import Launches
from configs.schema import Model
from models import build_model, casting


def step(shift, **settings):
    """Return logits, gradients and launches of a pass of a small network in bf16."""
    torch.manual_seed(0)
    model = build_model(Model(backbone="resnet50", width=8, num_classes=3, frames=2, shift=shift, dropout=0.0))
    for name, value in settings.items():
        setattr(model, name, value)
    model.to(memory_format=torch.channels_last)
    with Launches() as seen, torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.randn(2, 2, 32, 32, 3).movedim(-1, 2))
        logits.float().square().sum().backward()
    return logits, [parameter.grad for parameter in model.parameters()], seen.launches


@pytest.mark.parametrize("shift", ["where", "folded"])
def test_casts_made_together_change_no_value(monkeypatch, shift):
    logits, gradients, launches = step(shift)
    monkeypatch.setattr(casting, "apply", lambda part, x_NCHW: part(x_NCHW))
    plain_logits, plain_gradients, plain_launches = step(shift)
    assert torch.equal(logits, plain_logits)
    assert all(map(torch.equal, gradients, plain_gradients))
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    assert launches["_foreach_copy_"] == 2 * 4  # stages, both ways
    assert plain_launches["_to_copy"] - launches["_to_copy"] >= 2 * 36


def test_recomputed_blocks_cast_their_weights_themselves():
    logits, gradients, launches = step("where", recompute_blocks=True)
    plain_logits, plain_gradients, _ = step("where")
    assert launches["_foreach_copy_"] == 0
    assert torch.equal(logits, plain_logits)
    assert all(map(torch.equal, gradients, plain_gradients))


def test_inference_and_fp32_cast_nothing_here(monkeypatch):
    monkeypatch.setattr(casting._Cast, "apply", None)
    model = build_model(Model(backbone="resnet18", width=8, num_classes=3, frames=2))
    clips_BTCHW = torch.randn(1, 2, 3, 32, 32)
    model(clips_BTCHW).sum().backward()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        model.eval()(clips_BTCHW)
