"""`Batch`, the unit that a loader yields; `Shard`, the part of the work of a rank; `Loader`, their contract."""

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

FEW = 8  # labels and rows that a printed batch shows


@dataclass(frozen=True, slots=True)
class Shard:
    """Rank `index` of `count`."""

    index: int = 0
    count: int = 1


@dataclass(frozen=True, slots=True, repr=False)
class Batch:
    """B videos, each in V views of T frames. In training B clips (V = 1), of which clip.repeats are of one video.

    clips_BVTCHW: fp16 or fp32, normalised; logical NCHW order over NHWC memory, so that merging B, V and T gives a
    channels_last tensor without a copy. label_B, index_B: int64; the row of the list in `index_B`. Where a video could
    not be read, or a last batch is padded, both are −1 and the clip means nothing: it is never trained on or counted.
    """

    clips_BVTCHW: Tensor
    label_B: Tensor
    index_B: Tensor

    def __repr__(self) -> str:
        """Describe the shapes, the type and the labels in one line."""
        shape = " x ".join(f"{size} {axis}" for axis, size in zip("BVTCHW", self.clips_BVTCHW.shape, strict=True))
        kind = str(self.clips_BVTCHW.dtype).removeprefix("torch.")
        labels, rows = self.label_B.tolist(), self.index_B.tolist()
        return f"Batch({shape}, {kind} on {self.clips_BVTCHW.device}, labels {_few(labels)}, rows {_few(rows)})"

    @property
    def clips_BTCHW(self) -> Tensor:
        """The clips of a loader with one view a video."""
        return self.clips_BVTCHW.squeeze(1)


def _few(numbers: list[int]) -> str:
    """Write the first numbers of a list."""
    return str(numbers) if len(numbers) <= FEW else f"[{', '.join(map(str, numbers[:FEW]))}, ...]"


class Loader(Protocol):
    """The interface of a loader, against which training, evaluation and benchmarks are written."""

    num_rows: int  # rows of the list
    num_videos: int  # of them, those that the scan found readable
    class_names: tuple[str, ...]  # by label; empty where they are not known
    clip_dtype: torch.dtype
    note: str  # what is done otherwise than a user may expect; empty where nothing is

    @property
    def rows(self) -> Rows | None:
        """Return the rows of the list, None where there is no list."""

    @property
    def unreadable(self) -> list[Unreadable]:
        """Return the videos that the scan or this rank's reading found unreadable, in an evaluation that of the present
        pass.
        """

    @property
    def slow_part(self) -> str:
        """Name the part of the feed that is waited for when training waits for data."""

    def __len__(self) -> int:
        """Batches per epoch: the same on every rank."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on. The same arguments give the same batches, always."""

    def path(self, row: int) -> str:
        """The path of a row's video."""

    def span(self, row: int) -> Span:
        """The part of the video that a row is about."""

    @property
    def decoders(self) -> dict[str, int]:
        """Count the videos that each decoder takes, by its name."""

    def pause(self) -> None:
        """Drop what is in preparation, and prepare nothing until batches are asked for again."""

    def close(self) -> None:
        """Stop all threads."""


class InUse:
    """Keeps memory alive for as long as the GPU may still read it, without waiting for it.

    Memory that is lent (DALI's clips, over DLPack; pinned frames that are copied to the GPU) goes back to its owner as
    soon as the last reference dies, which the host may reach long before the GPU has done the work that it was asked
    for: torch's own allocator knows of its streams, other owners do not. On a CPU there is nothing to keep.
    """

    def __init__(self, device: torch.device):
        self._on_gpu = device.type == "cuda"
        self._held: deque[tuple[torch.cuda.Event, tuple]] = deque()

    def hold(self, *owners: object) -> None:
        """Keep `owners` until all work is done that was asked for so far; drop those whose work is."""
        if self._on_gpu:
            event = torch.cuda.Event()
            event.record()
            self._held.append((event, owners))
        while self._held and self._held[0][0].query():
            self._held.popleft()


def to_device(array, device: torch.device) -> Tensor:
    """Turn a NumPy array into a tensor on `device`; a copy to a GPU is not waited for."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
