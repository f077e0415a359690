"""Activation checkpointing: blocks whose activations are recomputed in the backward pass, to save memory."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def run_blocks(blocks: nn.Sequential, x_NCHW: Tensor) -> Tensor:
    """Apply the blocks of a stage; keep only their inputs for the backward pass. Results and gradients are the same."""
    for block in blocks:
        contexts = partial(_forward_and_recompute, block)
        x_NCHW = checkpoint(block, x_NCHW, use_reentrant=False, context_fn=contexts)
    return x_NCHW


def is_needed(model: nn.Module) -> bool:
    """Return True if a forward pass of `model` is followed by a backward pass."""
    return model.training and torch.is_grad_enabled()


def _forward_and_recompute(block: nn.Module) -> tuple:
    return nullcontext(), _without_statistics(block)


@contextmanager
def _without_statistics(block: nn.Module) -> Iterator[None]:
    """Keep batch norms from counting the same batch twice in their running statistics."""
    norms = [part for part in block.modules() if isinstance(part, _BatchNorm) and part.training]
    momenta, counts = [norm.momentum for norm in norms], [norm.num_batches_tracked for norm in norms]
    for norm, count in zip(norms, counts, strict=True):
        norm.momentum, norm.num_batches_tracked = 0.0, count.clone()
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
