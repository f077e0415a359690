"""Choose example videos of an evaluation: confident mistakes, the hardest videos, and confident right predictions.

Shapes: B videos, K classes, N rows of the list.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dali_pipes.lists.formats.annotation import Span
from engine import distributed

MOST = 6  # of a kind
MISTAKE, HARD, RIGHT = "mistake", "hard", "right"


class Example(NamedTuple):
    """A video of an evaluation with its prediction. Probabilities are softmax outputs."""

    kind: str  # MISTAKE, HARD or RIGHT
    path: str
    label: int
    predicted: int
    confidence: float  # the probability of the predicted class
    truth: float  # the probability of the video's class
    start: float = 0.0  # seconds at which the part that was evaluated begins,
    end: float | None = None  # and ends; None: with the video


class Guesses:
    """The best class of each row, with its probability, on a device. Adding to them never waits for the device."""

    def __init__(self, rows: int, device: torch.device):
        self.label_N, self.predicted_N = (torch.zeros(rows, dtype=torch.int64, device=device) for _ in range(2))
        self.seen_N = torch.zeros(rows, dtype=torch.int64, device=device)
        self.confidence_N, self.truth_N = (torch.zeros(rows, dtype=torch.float64, device=device) for _ in range(2))

    def add(self, scores_BK: Tensor, label_B: Tensor, index_B: Tensor) -> None:
        """Add a batch. Rows with label −1, or with scores that are not finite, add zeros."""
        scored_B = scores_BK.isfinite().all(1)
        label_B, scores_BK = torch.where(scored_B, label_B, -1), torch.where(scored_B[:, None], scores_BK, 0)
        real_B, row_B, class_B = (label_B >= 0).long(), index_B.clamp(min=0), label_B.clamp(min=0)
        probability_BK = scores_BK.double().softmax(1)
        confidence_B, predicted_B = probability_BK.max(1)
        self.seen_N.scatter_add_(0, row_B, real_B)
        self.label_N.scatter_add_(0, row_B, class_B * real_B)
        self.predicted_N.scatter_add_(0, row_B, predicted_B * real_B)
        self.confidence_N.scatter_add_(0, row_B, confidence_B * real_B)
        self.truth_N.scatter_add_(0, row_B, probability_BK.gather(1, class_B[:, None])[:, 0] * real_B)

    def examples(self, path: Callable[[int], str], span: Callable[[int], Span]) -> tuple[Example, ...]:
        """Sum over the ranks and choose up to MOST videos of each kind; each video is chosen once."""
        columns = self.label_N, self.predicted_N, self.confidence_N, self.truth_N, self.seen_N
        label_N, predicted_N, confidence_N, truth_N, seen_N = map(distributed.all_sum, columns)
        wrong_N, right_N = (seen_N > 0) & (predicted_N != label_N), (seen_N > 0) & (predicted_N == label_N)
        chosen: dict[int, str] = {}
        for kind, candidate_N, order_N in (
            (MISTAKE, wrong_N, -confidence_N),
            (HARD, seen_N > 0, truth_N),
            (RIGHT, right_N, -confidence_N),
        ):
            rows = [row for row in order_N.argsort(stable=True).tolist() if candidate_N[row] and row not in chosen]
            chosen |= dict.fromkeys(rows[:MOST], kind)
        return tuple(
            Example(
                kind,
                path(row),
                int(label_N[row]),
                int(predicted_N[row]),
                float(confidence_N[row]),
                float(truth_N[row]),
                *_seconds(span(row)),
            )
            for row, kind in chosen.items()
        )


def _seconds(span: Span) -> tuple[float, float | None]:
    """Return the times of a part as JSON has them."""
    return span.start, None if span.end == math.inf else span.end
