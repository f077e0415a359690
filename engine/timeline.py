"""From what is said of many moments of a video to stretches of it in which the same is said."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np


class Segment(NamedTuple):
    """Seconds `start` to `end` of a video, in which `label` is the likeliest class."""

    start: float
    end: float
    label: int
    probability: float  # mean over what was merged


def edges(span_W2: np.ndarray) -> np.ndarray:
    """[W + 1] seconds: where the time that each window speaks for begins, and the last one's ends.

    `span_W2`: start and end of each window, ascending. Neighbours meet half way between their middles.
    """
    middle_W = span_W2.mean(1)
    return np.concatenate([span_W2[:1, 0], (middle_W[:-1] + middle_W[1:]) / 2, span_W2[-1:, 1]])


def segments(edge_W1: np.ndarray, label_W: Sequence[int], probability_W: Sequence[float]) -> list[Segment]:
    """Neighbours with the same label as one; `edge_W1` as `edges` returns it."""
    merged = []
    for label, group in groupby(range(len(label_W)), key=lambda place: label_W[place]):
        places = list(group)
        mean = float(np.mean([probability_W[place] for place in places]))
        merged.append(Segment(float(edge_W1[places[0]]), float(edge_W1[places[-1] + 1]), int(label), mean))
    return merged
