"""The running average of a network's weights over its training steps, which often does better than the last ones."""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average:
    """`model` is a copy of a network whose weights follow the network's: at each update w <- decay w + (1 - decay) new.

    The statistics of batch norms are averaged as the weights are, so that they fit them. Not torch's AveragedModel,
    which copies its own counter to the device at every update and so waits for it.
    """

    def __init__(self, network: nn.Module, decay: float):
        """`network` is on its device and in its final form: later updates read the tensors that it has now."""
        self.model = copy.deepcopy(network).eval()
        self._decay = decay
        self._averaged, self._current = _numbers(self.model), _numbers(network)

    def update(self, step: int) -> None:
        """Take in the network's weights after `step`, counted from 0. Never waits for the device.

        Early averages reach back over a tenth of the steps so far only: longer ones would hold on to the random weights
        that training starts from.
        """
        decay = min(self._decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(self._averaged, self._current, None)


def _numbers(model: nn.Module) -> list[Tensor]:
    """Weights and statistics, in the model's own memory; batch norms' counts of batches are read by nothing."""
    return [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
