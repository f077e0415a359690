"""Exact accuracy: over the views of a video, all videos of a list, and all ranks.

Everything is counted in integers and summed over the ranks; every readable video counts once, which is checked video by
video, and what could not be read is reported, never replaced.

Shapes: B videos, V views, K classes, N rows of the list.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dali_pipes import Batch, DataError, Loader
from engine import distributed


@dataclass(frozen=True)
class Result:
    """What an evaluation found. `confusion_KK[a, b]` counts the videos of class a that were taken for b."""

    confusion_KK: Tensor
    top5_K: Tensor  # videos of each class among whose five (or K, if fewer) best guesses it was
    loss: float  # mean over the evaluated videos
    rows: int  # videos of the list
    unreadable: list[tuple[int, str, str]]  # (row, path, reason)

    @property
    def evaluated(self) -> int:
        """Videos that were read and judged."""
        return int(self.confusion_KK.sum())

    @property
    def correct(self) -> int:
        """Of them, those whose best guess was right."""
        return int(self.confusion_KK.trace())

    @property
    def top1(self) -> float:
        """Fraction of the evaluated videos."""
        return self.correct / self.evaluated

    @property
    def top5(self) -> float:
        """Fraction of the evaluated videos."""
        return int(self.top5_K.sum()) / self.evaluated

    @property
    def mean_class(self) -> float:
        """Mean of the classes' own top-1, over the classes that have videos."""
        videos_K = self.confusion_KK.sum(1).double()
        return float((self.confusion_KK.diagonal() / videos_K)[videos_K > 0].mean())

    def summary(self) -> str:
        """One line for people."""
        k = min(5, len(self.top5_K))
        return (
            f"top1 {100 * self.top1:.2f} top{k} {100 * self.top5:.2f} mean class {100 * self.mean_class:.2f} "
            f"loss {self.loss:.4f} | "
            f"evaluated {self.evaluated} of {self.rows} videos, {len(self.unreadable)} unreadable"
        )

    def numbers(self) -> dict:
        """The totals, for programs; accuracies as fractions."""
        names = ("top1", "top5", "mean_class", "loss", "correct", "evaluated", "rows")
        return {**{name: getattr(self, name) for name in names}, "unreadable": len(self.unreadable)}

    def to_json(self) -> dict:
        """The totals, the counts of every class, and the videos that could not be read."""
        return {
            **self.numbers(),
            "videos_per_class": self.confusion_KK.sum(1).tolist(),
            "top1_per_class": self.confusion_KK.diagonal().tolist(),
            "top5_per_class": self.top5_K.tolist(),
            "confusion": self.confusion_KK.tolist(),
            "unreadable_videos": [list(entry) for entry in self.unreadable],
        }


class _Counts:
    """Counters on the device. Adding to them never waits for it."""

    def __init__(self, classes: int, rows: int, device: torch.device):
        self.classes = classes
        self.confusion = torch.zeros(classes * classes, dtype=torch.int64, device=device)
        self.top5_K = torch.zeros(classes, dtype=torch.int64, device=device)
        self.seen_N = torch.zeros(rows, dtype=torch.int64, device=device)
        self.loss = torch.zeros(1, dtype=torch.float64, device=device)

    def add(self, scores_BK: Tensor, label_B: Tensor, index_B: Tensor) -> None:
        """Count a batch. A row with label −1 adds zero to whatever it is filed under."""
        real_B = (label_B >= 0).long()
        class_B = label_B.clamp(min=0)
        best_B5 = scores_BK.topk(min(5, self.classes), dim=1).indices
        in_top5_B = (best_B5 == class_B[:, None]).any(1).long()
        self.confusion.scatter_add_(0, class_B * self.classes + best_B5[:, 0], real_B)
        self.top5_K.scatter_add_(0, class_B, in_top5_B * real_B)
        self.seen_N.scatter_add_(0, index_B.clamp(min=0), real_B)
        self.loss += F.cross_entropy(scores_BK, label_B, ignore_index=-1, reduction="sum")

    def result(self, unreadable: list[tuple[int, str, str]]) -> Result:
        """Sum over the ranks and check that every readable video was counted once."""
        confusion, top5_K, seen_N, loss = map(
            distributed.all_sum, (self.confusion, self.top5_K, self.seen_N, self.loss)
        )
        wanted_N = torch.ones_like(seen_N)
        wanted_N[[row for row, _, _ in unreadable]] = 0
        assert torch.equal(seen_N, wanted_N), (
            f"{int((seen_N != wanted_N).sum())} videos were not evaluated exactly once"
        )
        if not seen_N.any():
            distributed.raise_everywhere(
                DataError(f"none of {len(seen_N)} videos could be read: {describe_bad(unreadable[:1])}")
            )
        confusion_KK = confusion.view(self.classes, self.classes)
        return Result(confusion_KK, top5_K, float(loss) / int(seen_N.sum()), len(seen_N), unreadable)


def scores(model: nn.Module, batch: Batch, average: str, autocast: AbstractContextManager) -> Tensor:
    """[B, K] what a video is judged by: its views' mean logits, or the logarithm of their mean probabilities."""
    with autocast:
        logits_BVK = model(batch.clips_BVTCHW)
    if average == "probs":
        log_p_BVK = logits_BVK.float().log_softmax(-1)
        return log_p_BVK.logsumexp(1) - math.log(log_p_BVK.shape[1])  # never log(0), whatever the logits
    return logits_BVK.float().mean(1)


def unreadable_of_all_ranks(loader: Loader) -> list[tuple[int, str, str]]:
    """(row, path, reason) of what any rank found unreadable, each row once, in the order of the list."""
    found = {}
    for row, path, reason in itertools.chain(*distributed.gather(list(loader.unreadable))):
        found[row] = row, path, reason.removeprefix(f"{path}: ")
    return [found[row] for row in sorted(found)]


def describe_bad(unreadable: list[tuple[int, str, str]]) -> str:
    """Paths and reasons in a line."""
    return "; ".join(f"{path}: {reason}" for _, path, reason in unreadable)


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    loader: Loader,
    *,
    classes: int,
    average: str,
    autocast: Callable[[], AbstractContextManager],
) -> Result:
    """Score every video of `loader` with rank 0's model. `model` is not the DDP wrapper; its mode is left as it was."""
    distributed.share_buffers(model)
    device = next(model.parameters()).device
    counts = _Counts(classes, loader.num_rows, device)
    was_training = model.training
    model.eval()
    for batch in loader.epoch(0):
        counts.add(scores(model, batch, average, autocast()), batch.label_B, batch.index_B)
    model.train(was_training)
    return counts.result(unreadable_of_all_ranks(loader))
