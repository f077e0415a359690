"""Every kind of network, trained by the same optimizer."""

import pytest
import torch
from torch.nn import functional as F

from configs.schema import Optim
from engine.train import optim
from tests.support import slim

KINDS = [
    {"frames": 16},
    {"causal": True},
    {"non_local": True},
    {"non_local": True, "name": "tsn"},
    {"backbone": "resnet101"},
    {"backbone": "mobilenet_v2", "width": 64},
    {"backbone": "mobilenet_v2", "width": 64, "causal": True},
    pytest.param({"backbone": "resnet101", "non_local": True}, marks=pytest.mark.slow),
    pytest.param({"backbone": "resnet34"}, marks=pytest.mark.slow),
]
IDLE = (".nl.phi.0.bias", ".nl.g.0.bias", ".nl.W.0.bias")  # a softmax or a norm removes the effect of these


def losses(model, clips_BTCHW, label_B, steps):
    """Yield the mean loss before each of `steps` steps on one batch."""
    optimizer = optim.make_optimizer(model, Optim(lr=0.01))
    for _ in range(steps):
        loss = F.cross_entropy(model(clips_BTCHW), label_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
def test_three_steps_move_every_parameter_and_lower_the_loss(kind):
    model = slim.network(dropout=0, **kind).train()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    first, *_, last = losses(model, slim.clips(4, model.settings.frames), torch.arange(4), 3)
    still = [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
    assert [name for name in still if not name.endswith(IDLE)] == []
    assert last < first
