"""A loader that returns one random batch, to test if a run waits for the real loader."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from configs.schema import Config
from dali_pipes.batch import Batch, Shard
from dali_pipes.device import clip_dtype
from dali_pipes.errors import Unreadable
from dali_pipes.lists.formats.annotation import WHOLE, Span
from dali_pipes.views import draw

VIDEOS = 1024  # rows of the imaginary list


class SyntheticLoader:
    """Yields the same random batch at every step, made once on the device. See `batch.Loader` for the interface."""

    def __init__(self, config: Config, split: str, shard: Shard, device: torch.device):
        train = split == "train"
        frames, size = (config.model.frames, config.clip.size) if train else (config.eval_frames, config.eval_size)
        view_count = 1 if train else draw.num_views(config)
        self.num_rows = self.num_videos = max(VIDEOS, config.train.batch)
        self.class_names: tuple[str, ...] = ()
        self.rows = None
        self.unreadable: list[Unreadable] = []
        self.clip_dtype = clip_dtype(config.runtime.precision, device)
        self.note = self.slow_part = ""
        self._batch = config.train.batch // shard.count
        self._shard = shard
        self._classes = config.model.num_classes
        self._steps = self.num_videos // config.train.batch if train else -(-self.num_videos // config.train.batch)
        generator = torch.Generator(device).manual_seed(config.train.seed)
        shape_BVTHWC = (self._batch, view_count, frames, size, size, 3)
        clips_BVTHWC = torch.randn(shape_BVTHWC, generator=generator, device=device, dtype=self.clip_dtype)
        self._clips_BVTCHW = clips_BVTHWC.permute(0, 1, 2, 5, 3, 4)

    def __len__(self) -> int:
        return self._steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield batches with the same clips; rows count up, and a row's label is the row modulo the number of
        classes.
        """
        device = self._clips_BVTCHW.device
        for step in range(start, self._steps):
            first = (step * self._shard.count + self._shard.index) * self._batch
            index_B = torch.arange(first, first + self._batch, device=device)
            index_B = torch.where(index_B < self.num_videos, index_B, -1)
            yield Batch(self._clips_BVTCHW, torch.where(index_B < 0, -1, index_B % self._classes), index_B)

    def path(self, row: int) -> str:
        """Return a made-up name: there is no file."""
        return f"synthetic-{row}"

    @property
    def decoders(self) -> dict[str, int]:
        """Nothing is decoded."""
        return {}

    def span(self, row: int) -> Span:
        """Return the whole."""
        return WHOLE

    def pause(self) -> None:
        """Nothing is in preparation."""

    def close(self) -> None:
        """Nothing runs."""
