"""Evaluate a network on every video of a list, on all ranks.

Every readable video counts once; unreadable ones are reported, never replaced. So are those whose scores are not
finite, which have no best class. `accuracy` does the counting.

Shapes: B videos, V views, T frames, K classes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from configs import Config, progress
from dali_pipes import Batch, Loader
from dali_pipes.cut import reading
from dali_pipes.errors import Unreadable
from engine import activity, distributed, runtime
from engine.evaluation.accuracy import NOT_FINITE, Counts, Result
from engine.evaluation.examples import Guesses


@torch.inference_mode()
def evaluate(
    model: nn.Module, loader: Loader, config: Config, keep: Callable[[Tensor, Batch], None] | None = None
) -> Result:
    """Score every video of `loader` with rank 0's model. `model` is not the DDP wrapper; its mode is restored.

    `keep` is called with the logits_BVK of each batch.
    """
    distributed.share_buffers(model)
    device = next(model.parameters()).device
    counts, guesses = Counts(config.model.num_classes, loader.num_rows, device), Guesses(loader.num_rows, device)
    was_training = model.training
    model.eval()
    batches = activity.waiting_for(loader.epoch(0), "waiting for a batch to evaluate", reading.in_progress)
    for batch in progress.with_progress(batches, len(loader), "evaluating (batches)"):
        logits_BVK = logits_of_views(model, batch, config)
        scores_BK = average(logits_BVK, config.eval.average)
        counts.add(scores_BK, batch.label_B, batch.index_B)
        guesses.add(scores_BK, batch.label_B, batch.index_B)
        if keep:
            keep(logits_BVK, batch)
    model.train(was_training)
    broken = [Unreadable(row, loader.path(row), NOT_FINITE) for row in counts.broken_rows()]
    left_out = sorted([*unreadable_of_all_ranks(loader), *broken])
    return replace(counts.result(left_out), examples=guesses.examples(loader.path, loader.span))


def logits_of_views(model: nn.Module, batch: Batch, config: Config) -> Tensor:
    """Return float32 logits_BVK, computed in parts of no more frames than this rank trains on at once.

    So a network that can be trained can be evaluated, however many views a video has. A part is at least one clip.
    """
    clips_NTCHW = batch.clips_BVTCHW.flatten(0, 1)
    frames = config.train.batch * config.model.frames // (distributed.world_size() * config.train.accumulate)
    clips_in_part = max(1, frames // clips_NTCHW.shape[1])
    with runtime.autocast(config.runtime):
        parts = clips_NTCHW.tensor_split(math.ceil(len(clips_NTCHW) / clips_in_part))
        logits_NK = torch.cat([model(part_NTCHW) for part_NTCHW in parts])
    return logits_NK.float().unflatten(0, batch.clips_BVTCHW.shape[:2])


def average(logits_BVK: Tensor, how: str) -> Tensor:
    """Return scores_BK of videos: the mean logits of the views, or (`probs`) the logarithm of their mean probabilities.

    The latter never takes the logarithm of zero, whatever the logits.
    """
    if how == "logits":
        return logits_BVK.mean(1)
    return logits_BVK.log_softmax(-1).logsumexp(1) - math.log(logits_BVK.shape[1])


def unreadable_of_all_ranks(loader: Loader) -> list[Unreadable]:
    """Return what any rank found unreadable, each row once, in the order of the list."""
    found = {bad.row: bad for bad in itertools.chain(*distributed.gather(list(loader.unreadable)))}
    return [found[row] for row in sorted(found)]


def describe_bad(unreadable: Iterable[Unreadable]) -> str:
    """Join paths and reasons to one line."""
    return "; ".join(f"{path}: {reason}" for _, path, reason in unreadable)
