"""`Batch`, the output of a loader; `Shard`, the rank and the number of ranks; `Loader`, the interface of loaders."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dali_pipes.errors import Unreadable
from dali_pipes.lists.formats.annotation import Span
from dali_pipes.lists.rows import Rows

FEW = 8  # maximum of labels and rows in the repr of a batch


@dataclass(frozen=True, slots=True)
class Shard:
    """Rank `index` of `count`."""

    index: int = 0
    count: int = 1


@dataclass(frozen=True, slots=True, repr=False)
class Batch:
    """B videos, each with V views of T frames. In training, B clips (V = 1), clip.repeats of them from each video.

    clips_BVTCHW: fp16 or fp32, normalised; NCHW order with NHWC strides, so that merging B, V and T gives a
    channels_last tensor without a copy. label_B, index_B: int64; `index_B` is the row of the list. Both are −1 for an
    unreadable video and for padding of the last batch: such clips are neither trained on nor counted.
    """

    clips_BVTCHW: Tensor
    label_B: Tensor
    index_B: Tensor

    def __repr__(self) -> str:
        """Describe shapes, dtype and labels in one line."""
        shape = " x ".join(f"{size} {axis}" for axis, size in zip("BVTCHW", self.clips_BVTCHW.shape, strict=True))
        kind = str(self.clips_BVTCHW.dtype).removeprefix("torch.")
        labels, rows = self.label_B.tolist(), self.index_B.tolist()
        return f"Batch({shape}, {kind} on {self.clips_BVTCHW.device}, labels {_few(labels)}, rows {_few(rows)})"

    @property
    def clips_BTCHW(self) -> Tensor:
        """Return the clips of a loader with one view per video."""
        return self.clips_BVTCHW.squeeze(1)


def _few(numbers: list[int]) -> str:
    """Format the first numbers of a list."""
    return str(numbers) if len(numbers) <= FEW else f"[{', '.join(map(str, numbers[:FEW]))}, ...]"


class Loader(Protocol):
    """The interface of loaders, which training, evaluation and benchmarks use."""

    num_rows: int  # rows of the list
    num_videos: int  # rows that the scan could read
    class_names: tuple[str, ...]  # by label; empty if unknown
    clip_dtype: torch.dtype
    note: str  # a sentence about behaviour that a user may not expect; may be empty

    @property
    def rows(self) -> Rows | None:
        """Return the rows of the list, or None without a list."""

    @property
    def unreadable(self) -> list[Unreadable]:
        """Return the videos that the scan or this rank could not read; in an evaluation, those of the current pass."""

    @property
    def slow_part(self) -> str:
        """Name the slowest stage of the loader, for which training waits."""

    def __len__(self) -> int:
        """Return the number of batches per epoch, which is the same on every rank."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from step `start` on. The same arguments always give the same batches."""

    def path(self, row: int) -> str:
        """Return the path of a row's video."""

    def span(self, row: int) -> Span:
        """Return the part of the video that a row describes."""

    @property
    def decoders(self) -> dict[str, int]:
        """Return the number of videos of each decoder, by its name."""

    def pause(self) -> None:
        """Drop prepared batches, and prepare none until batches are requested again."""

    def close(self) -> None:
        """Stop all threads."""


class KeepAlive:
    """Keeps memory alive as long as the GPU may still read it, without waiting for the GPU.

    Memory that another library owns (DALI's clips, over DLPack) returns to its owner when the last reference dies. The
    host may drop that reference long before the GPU has finished its queued work. torch's allocator tracks its streams,
    other owners do not. On a CPU there is nothing to keep.
    """

    def __init__(self, device: torch.device):
        self._on_gpu = device.type == "cuda"
        self._held: deque[tuple[torch.cuda.Event, object]] = deque()

    def hold(self, owner: object) -> None:
        """Keep `owner` until the GPU has finished all work queued so far; drop those whose work is finished."""
        if self._on_gpu:
            event = torch.cuda.Event()
            event.record()
            self._held.append((event, owner))
        while self._held and self._held[0][0].query():
            self._held.popleft()


def to_device(array, device: torch.device) -> Tensor:
    """Return a NumPy array as a tensor on `device`; copies to a GPU are asynchronous."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
