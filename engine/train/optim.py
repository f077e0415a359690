"""The optimizer: which parameters share a rate and a decay, and the learning rate as a function of the step."""

from __future__ import annotations

import copy
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from configs.schema import Optim
from engine import apex

NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
DECAYING = {  # kinds of parameters, by optim.decay
    "weights": ("first conv weight", "weight", "fc weight"),
    "all": ("first conv weight", "weight", "bias", "norm", "fc weight", "fc bias"),
    "classifier": ("fc weight",),
}


def parameter_groups(model: nn.Module, optim: Optim) -> list[dict]:
    """Every parameter of `model`, in groups by the kind of module that owns it, as MIT's TSM divides them.

    A group holds `params`, `kind`, `lr_mult` (of the scheduled rate) and `weight_decay`. Raises TypeError where a
    parameter belongs to a module of no known kind: better than training it with the wrong decay.
    """
    fc_weight_mult, fc_bias_mult = optim.fc_lr_mult
    lr_mults = {
        "first conv weight": 1.0,
        "weight": 1.0,
        "bias": optim.bias_lr_mult,
        "norm": 1.0,
        "fc weight": fc_weight_mult,
        "fc bias": fc_bias_mult,
    }
    members: dict[str, list[nn.Parameter]] = {kind: [] for kind in lr_mults}
    for kind, parameter in _kinds(model):
        members[kind].append(parameter)
    return [
        {
            "params": members[kind],
            "kind": kind,
            "lr_mult": lr_mult,
            "weight_decay": optim.weight_decay if kind in DECAYING[optim.decay] else 0.0,
        }
        for kind, lr_mult in lr_mults.items()
        if members[kind]
    ]


def _kinds(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """(kind, parameter) of every parameter; the classifier is the last linear layer."""
    convolutions = [module for module in model.modules() if isinstance(module, CONVOLUTIONS)]
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(module, NORMS):
                yield "norm", parameter
            elif module in linears[-1:]:
                yield f"fc {name}", parameter
            elif isinstance(module, (*CONVOLUTIONS, nn.Linear)) and name == "bias":
                yield "bias", parameter
            elif isinstance(module, (*CONVOLUTIONS, nn.Linear)):
                yield "first conv weight" if module is convolutions[0] else "weight", parameter
            else:
                raise TypeError(f"{path}.{name}: no parameter group for a {type(module).__name__}")


def for_batch(optim: Optim, batch: int) -> Optim:
    """`optim` with its rate scaled linearly to a global batch, if it says for which batch its rate is meant.

    Source: Goyal et al., arXiv 1706.02677.
    """
    return replace(optim, lr=optim.lr * batch / optim.lr_for_batch) if optim.lr_for_batch else optim


def make_optimizer(model: nn.Module, optim: Optim, fused: bool = True) -> torch.optim.Optimizer:
    """SGD over `parameter_groups`, in one pass over the weights. Rates are set at every step, from the schedule."""
    groups = parameter_groups(model, optim)
    settings = {"lr": optim.lr, "momentum": optim.momentum, "nesterov": optim.nesterov}
    if optim.impl == "apex":
        return apex.fused_sgd(groups, **settings)
    optimizer = torch.optim.SGD(groups, **settings, fused=fused)
    lay_out_momenta(optimizer)
    return optimizer


def restore(optimizer: torch.optim.Optimizer, momenta: dict) -> None:
    """Take over the momenta of a checkpoint; multipliers and decay stay as they are set now."""
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": momenta, "param_groups": groups})
    lay_out_momenta(optimizer)


def lay_out_momenta(optimizer: torch.optim.Optimizer) -> None:
    """Let each momentum lie in memory as its parameter does, and let a fused optimizer have all of them.

    A fused one goes through both as they lie. What it lacks it would make in its first step, of memory as it comes, and
    leave so where a gradient scaler has that step left out.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else ():
            known = optimizer.state.get(parameter, {}).get("momentum_buffer")
            if known is not None or (group.get("fused") and parameter.requires_grad):
                momentum = torch.zeros_like(parameter)
                optimizer.state[parameter]["momentum_buffer"] = momentum if known is None else momentum.copy_(known)


def step_if(finite: Tensor, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
    """Take a step if the gradient is `finite`, a bool on the device, which decides: the host does not wait.

    With a scaler that is its business. torch's fused optimizers leave everything as it is where `found_inf` is 1, which
    apex's knows nothing of.
    """
    if scaler.is_enabled():
        scaler.step(optimizer)
        scaler.update()
        return
    optimizer.found_inf = finite.logical_not().float()
    optimizer.step()
    del optimizer.found_inf


def describe_groups(optimizer: torch.optim.Optimizer) -> list[str]:
    """One line a group: its kind, its tensors and values that are trained, its multiplier of the rate, its decay."""
    return [_describe(group) for group in optimizer.param_groups]


def _describe(group: dict) -> str:
    trained = [parameter.numel() for parameter in group["params"] if parameter.requires_grad]
    return (
        f"{group['kind']:>17}: {len(trained):3} tensors, {sum(trained):>10,} values,"
        f" lr x {group['lr_mult']:g}, decay {group['weight_decay']:g}"
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give each group its multiple of `lr`."""
    for group in optimizer.param_groups:
        rate = group["lr_mult"] * lr
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def keep_rates_on_device(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Turn the groups' rates into tensors, which a recorded step reads anew each time."""
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]), device=device)


def make_schedule(optim: Optim, steps_per_epoch: int, epochs: int) -> Callable[[int], float]:
    """`lr_at(step)`: the learning rate of a step, counted from 0 over the whole run.

    With e = step / steps_per_epoch, `step` gives lr * gamma^(milestones m with m <= floor(e)), so the rate falls with
    the first step of the 0-based epoch that a milestone names (MIT, PaddleVideo); `cosine` falls at every step,
    lr / 2 * (1 + cos(pi e / epochs)). A warm-up of W epochs rises at every step, linearly, from warmup_start * lr to
    what the schedule gives at W: on the cosine itself, as PaddleVideo's does, not on lr.
    """
    falling = _cosine(optim, epochs) if optim.schedule == "cosine" else _stairs(optim)
    start, top = optim.warmup_start * optim.lr, falling(optim.warmup_epochs)

    def lr_at(step: int) -> float:
        epoch = step / steps_per_epoch
        if epoch < optim.warmup_epochs:
            return start + epoch * (top - start) / optim.warmup_epochs
        return falling(epoch)

    return lr_at


def _cosine(optim: Optim, epochs: int) -> Callable[[float], float]:
    return lambda epoch: 0.5 * optim.lr * (1 + math.cos(math.pi * epoch / epochs))


def _stairs(optim: Optim) -> Callable[[float], float]:
    return lambda epoch: optim.lr * optim.gamma ** bisect_right(optim.milestones, epoch)


class EmaWeights:
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
