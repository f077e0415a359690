"""The running average against its recurrence written out."""

import pytest
import torch
from torch import nn

from benchmarks.network.launches import Launches
from engine.train.optim import EmaWeights


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_weights_and_statistics_follow_the_recurrence_written_out(decay):
    model = network()
    average = EmaWeights(model, decay)
    expected = {name: value.double() for name, value in model.state_dict().items()}
    for step in range(40):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(5, 3))
        average.update(step)
        kept = min(decay, (1 + step) / (10 + step))
        expected = {name: kept * expected[name] + (1 - kept) * now for name, now in model.state_dict().items()}
    for name, value in average.model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)


def test_the_network_itself_is_left_alone():
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    average = EmaWeights(model, 0.9)
    with torch.no_grad():
        average.model[0].weight.add_(1)
    average.update(100)
    assert model.training and not average.model.training
    torch.testing.assert_close(model.state_dict(), before)


def test_loading_into_the_network_or_the_average_does_not_part_them():
    """A resumed run loads both; later updates must still read the one and write the other."""
    model = network()
    average = EmaWeights(model, 0.0)
    other = network()
    with torch.no_grad():
        other[0].weight.fill_(7)
    model.load_state_dict(other.state_dict())
    average.model.load_state_dict(network().state_dict())
    average.update(100)
    assert torch.equal(average.model[0].weight, other[0].weight)


def test_a_compiled_network_is_averaged_too():
    model = network()
    model.compile(backend="eager")
    average = EmaWeights(model, 0.0)
    model(torch.randn(5, 3))
    average.update(100)
    inputs = torch.randn(5, 3)
    torch.testing.assert_close(average.model(inputs), model.eval()(inputs))


def test_an_update_is_one_operation_however_many_tensors_there_are():
    average = EmaWeights(network(), 0.9)
    with Launches() as seen:
        average.update(0)
    assert seen.launches == {"_foreach_lerp_.Scalar": 1}
