"""Exact accuracy from scores.

Everything is counted in integers, and the loss of each video is kept until the end, so that neither the order of videos
nor the number of ranks changes a digit. Equal scores are ranked by label.

Shapes: B videos, K classes, N rows of the list.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from dali_pipes.errors import DataError, Unreadable
from engine import distributed
from engine.evaluation.examples import Example

BEST = 5  # classes of `top5`
NOT_FINITE = "the scores of the network are not finite; runtime.precision=fp32 may help"
"""The reason for which a video that was read is listed with the unreadable ones: it has no best class."""


@dataclass(frozen=True)
class Result:
    """The result of an evaluation. `confusion_KK[a, b]` counts the videos of class a that were predicted as b."""

    confusion_KK: Tensor
    top5_K: Tensor | None  # videos of each class with that class among their five best; None with up to five classes
    loss: float  # mean over the evaluated videos
    rows: int  # videos of the list
    unreadable: list[Unreadable]  # and those whose scores are not finite
    examples: tuple[Example, ...] = field(default=(), compare=False)  # videos to look at; not in `to_json`

    @property
    def evaluated(self) -> int:
        """Count the videos that were evaluated."""
        return int(self.confusion_KK.sum())

    @property
    def correct(self) -> int:
        """Count the videos whose best class is right."""
        return int(self.confusion_KK.trace())

    @property
    def top1(self) -> float:
        """Fraction of the evaluated videos."""
        return self.correct / self.evaluated

    @property
    def top5(self) -> float | None:
        """Fraction of the evaluated videos; None with up to five classes, where it could only be one."""
        return None if self.top5_K is None else int(self.top5_K.sum()) / self.evaluated

    @property
    def mean_class(self) -> float:
        """Mean top-1 of the classes that have videos."""
        videos_K = self.confusion_KK.sum(1).double()
        return float((self.confusion_KK.diagonal() / videos_K)[videos_K > 0].mean())

    def summary(self) -> str:
        """Return the totals as one line of text."""
        top5 = "" if self.top5 is None else f"top5 {100 * self.top5:.2f} "
        broken = sum(entry.reason == NOT_FINITE for entry in self.unreadable)
        unscored = f", {broken} with scores that are not finite" if broken else ""
        return (
            f"top1 {100 * self.top1:.2f} {top5}mean class {100 * self.mean_class:.2f} loss {self.loss:.4f} | "
            f"evaluated {self.evaluated} of {self.rows} videos, {len(self.unreadable) - broken} unreadable{unscored}"
        )

    def numbers(self) -> dict:
        """Return the totals as JSON values; accuracies are fractions."""
        names = ("top1", "top5", "mean_class", "loss", "correct", "evaluated", "rows")
        return _known({name: getattr(self, name) for name in names} | {"unreadable": len(self.unreadable)})

    def to_json(self) -> dict:
        """Return the totals, the counts of every class, and the unreadable videos as JSON values."""
        per_class = {
            "videos_per_class": self.confusion_KK.sum(1).tolist(),
            "top1_per_class": self.confusion_KK.diagonal().tolist(),
            "top5_per_class": None if self.top5_K is None else self.top5_K.tolist(),
            "confusion": self.confusion_KK.tolist(),
        }
        return self.numbers() | _known(per_class) | {"unreadable_videos": [list(entry) for entry in self.unreadable]}

    @classmethod
    def from_json(cls, content: dict) -> Result:
        """Read what `to_json` wrote."""
        confusion_KK = torch.tensor(content["confusion"])
        top5_K = torch.tensor(content["top5_per_class"]) if len(confusion_KK) > BEST else None
        unreadable = [Unreadable(*entry) for entry in content["unreadable_videos"]]
        return cls(confusion_KK, top5_K, content["loss"], content["rows"], unreadable)


def _known(values: dict) -> dict:
    """Return the values without those that are None."""
    return {name: value for name, value in values.items() if value is not None}


class Counts:
    """Counters on a device. Adding to them never waits for the device."""

    def __init__(self, classes: int, rows: int, device: torch.device):
        self.classes = classes
        self.confusion = torch.zeros(classes * classes, dtype=torch.int64, device=device)
        self.top5_K = torch.zeros(classes, dtype=torch.int64, device=device)
        self.seen_N, self.broken_N = (torch.zeros(rows, dtype=torch.int64, device=device) for _ in range(2))
        self.loss_N = torch.zeros(rows, dtype=torch.float64, device=device)

    def add(self, scores_BK: Tensor, label_B: Tensor, index_B: Tensor) -> None:
        """Count a batch. A row with label −1 adds zero to its counters, one with broken scores only to `broken_N`."""
        label_B, broken_B = finite_only(scores_BK, label_B)
        real_B = (label_B >= 0).long()
        class_B, row_B = label_B.clamp(min=0), index_B.clamp(min=0)
        in_top5_B = (_rank(scores_BK, class_B) < BEST).long()
        self.confusion.scatter_add_(0, class_B * self.classes + scores_BK.argmax(1), real_B)
        self.top5_K.scatter_add_(0, class_B, in_top5_B * real_B)
        self.seen_N.scatter_add_(0, row_B, real_B)
        self.broken_N.scatter_add_(0, row_B, broken_B.long())
        loss_B = F.cross_entropy(scores_BK.double(), label_B, ignore_index=-1, reduction="none")
        self.loss_N.scatter_add_(0, row_B, loss_B)

    def broken_rows(self) -> list[int]:
        """Return the rows with scores that are not finite, on all ranks."""
        return distributed.all_sum(self.broken_N).nonzero().flatten().tolist()

    def result(self, unreadable: list[Unreadable]) -> Result:
        """Sum over the ranks and check that every video but the `unreadable` and broken ones was counted once."""
        confusion, top5_K, seen_N, loss_N = map(
            distributed.all_sum, (self.confusion, self.top5_K, self.seen_N, self.loss_N)
        )
        wanted_N = torch.ones_like(seen_N)
        wanted_N[[row for row, _, _ in unreadable]] = 0
        if wrong := int((seen_N != wanted_N).sum()):
            raise RuntimeError(f"{wrong} videos were not evaluated exactly once")
        if not seen_N.any():
            first = ": ".join(unreadable[0][1:])
            distributed.raise_everywhere(
                DataError("evaluation", f"none of {len(seen_N)} videos could be evaluated: {first}")
            )
        confusion_KK, loss = confusion.view(self.classes, self.classes), math.fsum(loss_N.tolist()) / int(seen_N.sum())
        return Result(confusion_KK, top5_K if self.classes > BEST else None, loss, len(seen_N), unreadable)


def finite_only(scores_BK: Tensor, label_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return the labels, −1 where scores are not finite, and a bool [B]: the videos that have a label and no scores."""
    broken_B = ~scores_BK.isfinite().all(1) & (label_B >= 0)
    return torch.where(broken_B, -1, label_B), broken_B


def _rank(scores_BK: Tensor, class_B: Tensor) -> Tensor:
    """Return [B]: the number of classes ranked before this one."""
    score_B1 = scores_BK.gather(1, class_B[:, None])
    earlier_BK = torch.arange(scores_BK.shape[1], device=scores_BK.device) < class_B[:, None]
    return (~(scores_BK <= score_B1) | (scores_BK == score_B1) & earlier_BK).sum(1)
