"""Iterates a graph as `Batch`: the only place that runs a DALI pipeline, and that brings one back to life.

One undecodable file makes DALI invalidate the whole pipeline without naming it. The loader therefore remembers what is
in flight, finds the culprit by running each video alone, remembers it as unreadable, and goes on from the same batch.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from configs.schema import Config
from dali_pipes.batch import Batch, InUse, Loader, Shard, Unreadable, to_device
from dali_pipes.catalog import Catalog
from dali_pipes.errors import DataError
from dali_pipes.feed import Feeder, Prepared, Sample, placeholder
from dali_pipes.graph import Head, clip_graph
from dali_pipes.host import clip_dtype, cores_of_rank, pick_device
from dali_pipes.plan import EvalPlan, TrainPlan
from dali_pipes.scan import open_catalog
from dali_pipes.synthetic import SyntheticLoader
from dali_pipes.views import shown_label

Split = Literal["train", "val", "test"]


def build_loader(
    config: Config, split: Split, shard: Shard | None = None, device: torch.device | str | None = None
) -> Loader:
    """The loader of one rank. Scanning is done before, once, by `scan.load_catalog`.

    `test` reads data.test, or data.val where that is empty. `device` defaults to config.runtime.device. Raises
    DataError when the list has no catalogue yet, too few readable videos, or labels beyond model.num_classes.
    """
    shard = shard or Shard()
    device = torch.device(device or pick_device(config.runtime.device))
    if config.data.source == "synthetic":
        return SyntheticLoader(config, split, shard, device)
    catalog = open_catalog(split_source(config, split), config.data)
    catalog.check_labels(config.model.num_classes)
    plan = (TrainPlan if split == "train" else EvalPlan)(config, catalog, shard)
    scanned_for_jpeg = catalog.video(int(catalog.usable[0])).access == "frames"
    if scanned_for_jpeg != (config.data.decoder == "jpeg"):
        raise DataError(f"{catalog.source}: was scanned for another data.decoder; scan it again with this one")
    return VideoLoader(config, catalog, plan, device)


def split_source(config: Config, split: Split) -> str:
    """The list or folder that a split is read from."""
    sources = {"train": config.data.train, "val": config.data.val, "test": config.data.test or config.data.val}
    if not sources[split]:
        raise DataError(f"data.{split}: the recipe names no list; set data.{split}=LIST")
    return sources[split]


def pick_head(config: Config, device: torch.device) -> Head:
    """The decode head that `data.decoder` asks for on this device."""
    if config.data.decoder == "auto":
        return "nvdec" if device.type == "cuda" else "pyav"
    if config.data.decoder == "nvdec" and device.type != "cuda":
        raise DataError("data.decoder: nvdec decodes on a GPU and there is none; use pyav, or auto")
    return config.data.decoder


def pick_threads(config: Config) -> int:
    """Threads of this rank: as asked for, or its share of the cores that this process may use."""
    return cores_of_rank() if config.runtime.threads == "auto" else int(config.runtime.threads)


class VideoLoader:
    """Batches of real videos. See `batch.Loader` for the contract."""

    def __init__(self, config: Config, catalog: Catalog, plan: TrainPlan | EvalPlan, device: torch.device):
        self.config = config
        self.catalog = catalog
        self.plan = plan
        self.device = device
        self.head = pick_head(config, device)
        self.num_rows = len(catalog)
        self.num_videos = len(catalog.usable)
        self.class_names = catalog.class_names
        self._feeder = Feeder(catalog, self.head, pick_threads(config))
        self._coming: Iterator[Prepared] = iter(())
        self._in_flight: deque[Prepared] = deque()
        self._in_use = InUse(device)
        self._pipeline = self._build(self._next_columns, plan.batch)

    def __len__(self) -> int:
        return len(self.plan)

    @property
    def unreadable(self) -> list[Unreadable]:
        """Videos found unreadable so far, by the scan and by this rank's reading."""
        return [*map(Unreadable._make, self.catalog.unreadable), *self._feeder.unreadable.values()]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on."""
        batches = self._feeder.batches(self.plan, epoch, start, self.config.runtime.prefetch)
        self._coming = batches
        try:
            while (clips_BVTHWC := self._run()) is not None:
                prepared = self._in_flight.popleft()
                clips_BVTCHW = clips_BVTHWC.permute(0, 1, 2, 5, 3, 4)
                label_B, row_B = (to_device(a, self.device) for a in (self._labels(prepared), prepared.row_B))
                yield Batch(clips_BVTCHW, label_B, row_B)
                self._in_use.hold(clips_BVTHWC)
        finally:
            batches.close()
            self._drain()

    def path(self, row: int) -> str:
        return self.catalog.path(row)

    def close(self) -> None:
        self._feeder.close()

    def _labels(self, prepared: Prepared) -> np.ndarray:
        """[B] int64; −1 where a video cannot be read, or where there is none."""
        label_B = np.where(prepared.row_B < 0, -1, self.catalog.label_N[prepared.row_B]).astype(np.int64)
        return shown_label(self.config.clip, label_B, prepared.mirror_B)

    def _build(self, source, batch: int):
        """A pipeline over `source` for batches of `batch` videos."""
        clip, views = self.config.clip, self.plan.views
        if self.head == "jpeg":  # each frame of each view is a video of its own
            batch, views = batch * views * self.plan.frames, 1
        pipeline = clip_graph(
            source,
            head=self.head,
            device="gpu" if self.device.type == "cuda" else "cpu",
            views=views,
            size=self.plan.size,
            antialias=clip.antialias,
            mean=clip.mean,
            std=clip.std,
            half=clip_dtype(self.config.runtime.precision, self.device) == torch.float16,
            batch_size=batch,
            num_threads=pick_threads(self.config),
            device_id=(self.device.index or 0) if self.device.type == "cuda" else None,
        )
        pipeline.build()
        return pipeline

    def _next_columns(self):
        """What the graph's source returns: the next batch, remembered as in flight."""
        prepared = next(self._coming)  # StopIteration ends the epoch
        self._in_flight.append(prepared)
        return prepared.columns(self.head)

    def _run(self) -> Tensor | None:
        """The next batch of clips, BVTHWC; None at the end of the epoch."""
        while True:
            try:
                (clips,) = self._pipeline.run()
                clips = torch.from_dlpack(clips.as_tensor())
                return clips.reshape(self.plan.batch, self.plan.views, -1, *clips.shape[-3:])
            except StopIteration:
                self._pipeline.reset()
                return None
            except RuntimeError as error:
                self._revive(error)

    def _drain(self) -> None:
        """Forget what is in flight when an epoch is left early, so that the next one starts clean."""
        self._coming = iter(())
        if self._in_flight:
            while self._run() is not None:
                pass
        self._in_flight.clear()  # not before: the pipeline was still using it

    def _revive(self, error: RuntimeError) -> None:
        """Rebuild the pipeline after DALI gave it up, without the videos that it cannot decode."""
        in_flight, self._in_flight = list(self._in_flight), deque()
        culprits = 0
        for prepared in in_flight:
            for place, row in enumerate(prepared.row_B):
                if row >= 0 and not self._decodes(prepared.samples[place]):
                    self._feeder.give_up(row, f"{self.catalog.path(int(row))}: {self.head} cannot decode it")
                    prepared.samples[place] = placeholder(self.head, *prepared.samples[place].order_VT.shape)
                    prepared.row_B[place] = -1
                    culprits += 1
        if not culprits:
            paths = [self.catalog.path(int(row)) for prepared in in_flight for row in prepared.row_B if row >= 0]
            raise DataError(
                f"decoding failed, but each video alone decodes: {', '.join(paths[:16])}: {error}"
            ) from error
        self._coming = itertools.chain(in_flight, self._coming)
        self._pipeline = self._build(self._next_columns, self.plan.batch)

    def _decodes(self, sample: Sample) -> bool:
        """Whether the decode head takes this video when it is alone."""
        once = iter([Prepared([sample], np.zeros(1, np.int64)).columns(self.head)])
        try:
            self._build(lambda: next(once), 1).run()
        except RuntimeError:
            return False
        return True
