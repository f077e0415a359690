"""Autocast's casts of weights, made for all convolutions of a stage in one operation.

Autocast casts each weight in an operation of its own, and each gradient back in another: with 53 convolutions these are
106 kernels a step that take longer to launch than to run. The values are the same to the bit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from models.shift.conv import ShiftedConv2d, is_folded
from models.shift.folded import compute_type


def apply(part: nn.Module, x_NCHW: Tensor) -> Tensor:
    """Return part(x_NCHW). In training under autocast, the weights of its convolutions are cast together."""
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return part(x_NCHW)
    dtype = compute_type(x_NCHW)
    weights = _weights(part, x_NCHW.device, dtype)
    if len(weights) < 2:
        return part(x_NCHW)
    cast = _Cast.apply(dtype, *weights.values())
    return functional_call(part, dict(zip(weights, cast, strict=True)), (x_NCHW,))


def _weights(part: nn.Module, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the weights that autocast would cast, by name. Folded shifts cast theirs, and get gradients in fp32."""
    return {
        f"{name}.weight": module.weight
        for name, module in part.named_modules()
        if name
        and isinstance(module, nn.Conv2d)
        and module.weight.dtype != dtype
        and not _casts_itself(module, device, dtype)
    }


def _casts_itself(conv: nn.Conv2d, device: torch.device, dtype: torch.dtype) -> bool:
    return isinstance(conv, ShiftedConv2d) and is_folded(conv, device, dtype, compiled=False)


class _Cast(torch.autograd.Function):
    """Casts of several tensors in one operation; their gradients are cast back in one, too."""

    @staticmethod
    def forward(ctx, dtype: torch.dtype, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.dtypes = [weight.dtype for weight in weights]
        cast = [torch.empty_like(weight, dtype=dtype) for weight in weights]
        torch._foreach_copy_(cast, list(weights))
        return tuple(cast)

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        cast = [torch.empty_like(each, dtype=dtype) for each, dtype in zip(gradients, ctx.dtypes, strict=True)]
        torch._foreach_copy_(cast, list(gradients))
        return None, *cast
