"""The optimizer, its parameter groups, the learning-rate schedule, and the EMA of weights."""

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
    """Return all parameters of `model`, grouped by the kind of their module, as in MIT's TSM.

    A group has `params`, `kind`, `lr_mult` (a factor of the scheduled rate) and `weight_decay`. Raises TypeError if a
    parameter belongs to an unknown kind of module, instead of training it with a wrong decay.
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
    """Yield (kind, parameter) of every parameter; the classifier is the last linear layer."""
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
    """Return `optim` with its rate scaled linearly to a global batch, if optim.lr_for_batch is set.

    Source: Goyal et al., arXiv 1706.02677.
    """
    return replace(optim, lr=optim.lr * batch / optim.lr_for_batch) if optim.lr_for_batch else optim


def make_optimizer(model: nn.Module, optim: Optim, fused: bool = True) -> torch.optim.Optimizer:
    """Make SGD over `parameter_groups`, fused if possible. The schedule sets the rates at every step."""
    groups = parameter_groups(model, optim)
    settings = {"lr": optim.lr, "momentum": optim.momentum, "nesterov": optim.nesterov}
    if optim.impl == "apex":
        return apex.fused_sgd(groups, **settings)
    optimizer = torch.optim.SGD(groups, **settings, fused=fused)
    lay_out_momenta(optimizer)
    return optimizer


def restore(optimizer: torch.optim.Optimizer, momenta: dict) -> None:
    """Load the momenta of a checkpoint; factors and decay keep their current settings."""
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": momenta, "param_groups": groups})
    lay_out_momenta(optimizer)


def lay_out_momenta(optimizer: torch.optim.Optimizer) -> None:
    """Give each momentum the strides of its parameter, and create missing momenta for a fused optimizer.

    The fused kernel ignores strides. It would create missing momenta in its first step, in uninitialised memory, and
    leave them uninitialised if the gradient scaler skips that step.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else ():
            known = optimizer.state.get(parameter, {}).get("momentum_buffer")
            if known is not None or (group.get("fused") and parameter.requires_grad):
                momentum = torch.zeros_like(parameter)
                optimizer.state[parameter]["momentum_buffer"] = momentum if known is None else momentum.copy_(known)


def step_if(finite: Tensor, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
    """Take a step if the gradient is `finite`, a bool on the device. The device decides, so the host does not wait.

    With a scaler, the scaler does this. torch's fused optimizers skip the step if `found_inf` is 1; apex's optimizer
    does not support that.
    """
    if scaler.is_enabled():
        scaler.step(optimizer)
        scaler.update()
        return
    optimizer.found_inf = finite.logical_not().float()
    optimizer.step()
    del optimizer.found_inf


def describe_groups(optimizer: torch.optim.Optimizer) -> list[str]:
    """Return one line per group: kind, number of trained tensors and values, factor of the rate, decay."""
    return [_describe(group) for group in optimizer.param_groups]


def _describe(group: dict) -> str:
    trained = [parameter.numel() for parameter in group["params"] if parameter.requires_grad]
    return (
        f"{group['kind']:>17}: {len(trained):3} tensors, {sum(trained):>10,} values,"
        f" lr x {group['lr_mult']:g}, decay {group['weight_decay']:g}"
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set each group's rate to its multiple of `lr`."""
    for group in optimizer.param_groups:
        rate = group["lr_mult"] * lr
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def keep_rates_on_device(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Replace the groups' rates by tensors, which a recorded step reads at each replay."""
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]), device=device)


def make_schedule(optim: Optim, steps_per_epoch: int, epochs: int) -> Callable[[int], float]:
    """Return `lr_at(step)`, the learning rate of a step, counted from 0 over the whole run.

    Let e = step / steps_per_epoch. `step` gives lr * gamma^(number of milestones m <= floor(e)), so the rate falls with
    the first step of the 0-based epoch m (as MIT and PaddleVideo). `cosine` gives lr / 2 * (1 + cos(pi e / epochs)) at
    every step. A warm-up of W epochs rises linearly at every step from warmup_start * lr to the schedule's value at W:
    to the cosine, as in PaddleVideo, not to lr.
    """
    falling = _cosine(optim, epochs) if optim.schedule == "cosine" else _stairs(optim)
    start, top = optim.warmup_start * optim.lr, falling(optim.warmup_epochs)

    def lr_at(step: int) -> float:
        epoch = step / steps_per_epoch
        if epoch < optim.warmup_epochs:
            return start + epoch * (top - start) / optim.warmup_epochs
        return falling(epoch)

    return lr_at


def describe_unreached(optim: Optim, epochs: int) -> list[str]:
    """Return a line for each part of the schedule that lies beyond the last epoch, such as after `train.epochs=1`."""
    late = [str(milestone) for milestone in optim.milestones if milestone >= epochs]
    lines = [f"the run ends before epoch {', '.join(late)} of optim.milestones"] if late else []
    if optim.warmup_epochs >= epochs:
        lines.append(f"the run ends within its warm-up, optim.warmup_epochs={optim.warmup_epochs:g}")
    return lines


def _cosine(optim: Optim, epochs: int) -> Callable[[float], float]:
    return lambda epoch: 0.5 * optim.lr * (1 + math.cos(math.pi * epoch / epochs))


def _stairs(optim: Optim) -> Callable[[float], float]:
    return lambda epoch: optim.lr * optim.gamma ** bisect_right(optim.milestones, epoch)


class EmaWeights:
    """Keeps `model`, a copy of a network with averaged weights: at each update w <- decay w + (1 - decay) new.

    Batch-norm statistics are averaged in the same way, so that they fit the weights. torch's AveragedModel is not used,
    because it copies its counter to the device at every update, and so waits for the device.
    """

    def __init__(self, network: nn.Module, decay: float):
        """Copy `network`, which must be on its device in its final form: later updates read its current tensors."""
        self.model = copy.deepcopy(network).eval()
        self._decay = decay
        self._averaged, self._current = _numbers(self.model), _numbers(network)

    def update(self, step: int) -> None:
        """Update the average with the network's weights after `step`, counted from 0. Never waits for the device.

        Early averages span only a tenth of the steps so far; longer ones would retain the initial random weights.
        """
        decay = min(self._decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(self._averaged, self._current, None)


def _numbers(model: nn.Module) -> list[Tensor]:
    """Return weights and statistics as views of the model's memory; batch counters are not included, as nothing reads
    them.
    """
    return [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
