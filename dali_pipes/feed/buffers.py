"""Memory that is used again: large arrays cost more to get from the system, or to pin for a GPU, than to fill."""

from __future__ import annotations

import math
import weakref
from collections import defaultdict

import numpy as np
import torch
from torch import Tensor


class BufferPool:
    """Lends memory to any thread. It is lent again once nobody holds the array or tensor, or a view of it, any more.

    Sizes are rounded up by at most a quarter, so that videos of many sizes share what they lend. `pinned`: page-locked,
    from where a GPU copies by itself while the host goes on.
    """

    def __init__(self, *, pinned: bool = False):
        self._pinned = pinned
        self._free: dict[int, list[np.ndarray]] = defaultdict(list)  # by size

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        """Lend an uninitialised uint8 array."""
        count = math.prod(shape)
        return self._lend(count).reshape(shape)

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Lend an uninitialised tensor."""
        lent = self._lend(math.prod(shape) * dtype.itemsize)
        with torch.inference_mode(False):  # threads that are in no such mode are going to write to it
            return torch.from_numpy(lent).view(dtype).view(shape)

    def _lend(self, count: int) -> np.ndarray:
        """Lend `count` bytes."""
        size = rounded(count)
        free = self._free[size]
        try:
            whole = free.pop()
        except IndexError:
            whole = self._new(size)
        lent = np.frombuffer(memoryview(whole)[:count], np.uint8)  # views of a plain slice would hold `whole` instead
        weakref.finalize(lent, free.append, whole).atexit = False
        return lent

    def _new(self, size: int) -> np.ndarray:
        if self._pinned:
            return torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()
        return np.empty(size, np.uint8)


def rounded(count: int) -> int:
    """Round up to one of four sizes between two powers of two."""
    step = 1 << max(count.bit_length() - 3, 0)
    return -(-count // step) * step
