"""The order of an epoch with equally frequent classes (data.balance=classes)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from dali_pipes.views import randomness


class BalancedOrder:
    """Maps (epoch, position) to rows of a list: N positions per epoch, the same number for each class, or one more.

    Within a class, the rows take turns across epochs: each row is used once before any is used again, and each turn has
    a new random order. Like all draws, it depends only on seed, epoch and position.
    """

    def __init__(self, label_N: np.ndarray, seed: int):
        self._seed, self._count = seed, len(label_N)
        _, class_N = np.unique(label_N, return_inverse=True)
        starts = np.cumsum(np.bincount(class_N))[:-1]
        self._rows_of_class = np.split(np.argsort(class_N, kind="stable"), starts)
        self._turn = lru_cache(maxsize=4 * len(self._rows_of_class))(self._draw_turn)

    def rows(self, epoch: int, position_B: np.ndarray) -> np.ndarray:
        """Return the row at each position of an epoch, [B] int64."""
        place_B = randomness.permute(self._seed, epoch, position_B, self._count)
        round_B, class_B = np.divmod(place_B, len(self._rows_of_class))
        pairs = zip(class_B.tolist(), round_B.tolist(), strict=True)
        return np.array([self._row(label, epoch, number) for label, number in pairs], np.int64)

    def _row(self, label: int, epoch: int, number: int) -> int:
        """Return the row for the `number`-th occurrence of a class in an epoch."""
        rounds, rest = divmod(self._count, len(self._rows_of_class))
        times = rounds + (label < rest)  # occurrences of the class in an epoch
        turn, place = divmod(epoch * times + number, len(self._rows_of_class[label]))
        return int(self._turn(label, turn)[place])

    def _draw_turn(self, label: int, turn: int) -> np.ndarray:
        """Draw the order of the rows of a class in a turn."""
        rows = self._rows_of_class[label]
        return rows[np.argsort(randomness.uniform(self._seed, turn, rows, randomness.BALANCE))]
