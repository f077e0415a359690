"""Every kind of network there is, trained by the same step."""

import contextlib
import math

import pytest
import slim
import torch

from configs.schema import Optim
from dali_pipes.batch import Batch
from engine import optim
from engine.step import Tally, train_step

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
IDLE = (".nl.phi.0.bias", ".nl.g.0.bias", ".nl.W.0.bias")  # move what a softmax or a norm takes away again


def losses(model, batch, steps):
    """The mean loss before each of `steps` steps on one batch."""
    optimizer, tally = optim.make_optimizer(model, Optim(lr=0.01)), Tally(torch.device("cpu"))
    for step in range(steps):
        train_step(
            model,
            optimizer,
            torch.amp.GradScaler("cpu", enabled=False),
            batch,
            step,
            lr_at=lambda step: 0.01,
            autocast=contextlib.nullcontext(),
            smoothing=0.0,
            max_norm=math.inf,
            tally=tally,
        )
        loss_sum, _, clips = tally.read().tolist()
        yield loss_sum / clips


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
def test_three_steps_move_every_parameter_and_lower_the_loss(kind):
    model = slim.network(dropout=0, **kind).train()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    clips_BTCHW = slim.clips(4, model.settings.frames)
    batch = Batch(clips_BTCHW.unsqueeze(1), torch.tensor([0, 1, 2, 3]), torch.arange(4))
    first, *_, last = losses(model, batch, 3)
    still = [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
    assert [name for name in still if not name.endswith(IDLE)] == []
    assert last < first
