"""Memory that is used again: a batch of clips is so large that the kernel takes it back and gives it out anew each
time, and touching fresh pages takes time.
"""

from __future__ import annotations

import math
import weakref

import numpy as np
import torch
from torch import Tensor


class Recycled:
    """Lends tensors to one thread, which may hand them on. The memory of one is lent again once nobody holds it, or a
    view of it, any more.
    """

    def __init__(self):
        self._free: list[np.ndarray] = []

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor."""
        count = math.prod(shape) * dtype.itemsize
        whole = self._free.pop() if self._free else np.empty(count, np.uint8)
        if len(whole) < count:  # of a smaller batch: let it go
            whole = np.empty(count, np.uint8)
        lent = whole[:count]
        weakref.finalize(lent, self._free.append, whole).atexit = False  # torch holds `lent` while anything uses it
        with torch.inference_mode(False):  # threads that are in no such mode are going to write to it
            return torch.from_numpy(lent).view(dtype).view(shape)
