"""A pool of reusable memory: allocating a large array costs more than filling it."""

from __future__ import annotations

import math
import weakref
from collections import defaultdict

import numpy as np
import torch
from torch import Tensor


class BufferPool:
    """Lends memory to any thread. Memory is reused when no array, tensor or view of it exists any more.

    Sizes are rounded up by at most a quarter, so that videos of many sizes share memory. It is not page-locked for a
    GPU, as DALI would copy it into page-locked memory of its own all the same.
    """

    def __init__(self):
        self._free: dict[int, list[np.ndarray]] = defaultdict(list)  # by size

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        """Lend an uninitialised uint8 array."""
        count = math.prod(shape)
        return self._lend(count).reshape(shape)

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Lend an uninitialised tensor."""
        lent = self._lend(math.prod(shape) * dtype.itemsize)
        with torch.inference_mode(False):  # outside inference mode: threads without inference mode write to it
            return torch.from_numpy(lent).view(dtype).view(shape)

    def _lend(self, count: int) -> np.ndarray:
        """Lend `count` bytes."""
        size = rounded(count)
        free = self._free[size]
        try:
            whole = free.pop()
        except IndexError:
            whole = np.empty(size, np.uint8)
        lent = np.frombuffer(memoryview(whole)[:count], np.uint8)  # views of whole[:count] would refer to `whole`
        weakref.finalize(lent, free.append, whole).atexit = False
        return lent


def rounded(count: int) -> int:
    """Round up to one of four sizes between adjacent powers of two."""
    step = 1 << max(count.bit_length() - 3, 0)
    return -(-count // step) * step
