"""Cast the weights of all convolutions of a stage in one operation, instead of autocast's one by one.

Autocast casts each weight in a separate operation, and each gradient back in another: with 53 convolutions, these are
106 kernels per step, which take longer to launch than to run. The values are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from models.shift.conv import ShiftedConv2d, is_folded
from models.shift.folded import compute_type

_convolutions: WeakKeyDictionary[nn.Module, list[nn.Conv2d]] = WeakKeyDictionary()  # convolutions to cast of each part


def apply(part: nn.Module, x_NCHW: Tensor) -> Tensor:
    """Return part(x_NCHW). In training under autocast, the weights of its convolutions are cast together."""
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return part(x_NCHW)
    convs = _to_cast(part, x_NCHW.device, compute_type(x_NCHW))
    if len(convs) < 2:
        return part(x_NCHW)
    with _hidden_weights(convs, _Cast.apply(compute_type(x_NCHW), *(conv.weight for conv in convs))):
        return part(x_NCHW)


def _to_cast(part: nn.Module, device: torch.device, dtype: torch.dtype) -> list[nn.Conv2d]:
    """Return the convolutions whose weights autocast would cast.

    Convolutions with a folded shift cast their own weight, and get gradients in fp32.
    """
    if part not in _convolutions:
        _convolutions[part] = [module for module in part.modules() if isinstance(module, nn.Conv2d)]
    return [
        conv for conv in _convolutions[part] if conv.weight.dtype != dtype and not _casts_itself(conv, device, dtype)
    ]


@contextmanager
def _hidden_weights(convs: Sequence[nn.Conv2d], weights: Sequence[Tensor]) -> Iterator[None]:
    """Make convolutions use other weights in the block: an instance attribute hides the parameter.

    torch.func.functional_call does the same, but takes longer on the host than the saved launches.
    """
    for conv, weight in zip(convs, weights, strict=True):
        vars(conv)["weight"] = weight
    try:
        yield
    finally:
        for conv in convs:
            del vars(conv)["weight"]


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
