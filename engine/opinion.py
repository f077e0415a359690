"""What a network thinks of something: scores of classes, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch


class Guess(NamedTuple):
    """A class, and how likely it is."""

    label: int
    probability: float


@dataclass(frozen=True)
class Opinion:
    """Of K classes."""

    score_K: np.ndarray  # float32: logits, or logarithms of probabilities

    @cached_property
    def probability_K(self) -> np.ndarray:
        """float32, summing to one."""
        return torch.from_numpy(self.score_K).softmax(0).numpy()

    @property
    def best(self) -> Guess:
        """The likeliest class."""
        return self.top(1)[0]

    def top(self, k: int) -> list[Guess]:
        """The k likeliest classes, or all where there are fewer; the likeliest first."""
        labels = np.argsort(-self.score_K, kind="stable")[:k].tolist()
        return [Guess(label, float(self.probability_K[label])) for label in labels]
