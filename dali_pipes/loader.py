"""The loader of videos: threads prepare a plan's batches, the graph turns them into clips, and `Batch` holds the
result.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from configs.schema import Config
from dali_pipes.batch import Batch, KeepAlive, Shard, to_device
from dali_pipes.device import clip_dtype, cores_of_rank
from dali_pipes.errors import DataError, Unreadable
from dali_pipes.feed.choice import Choice
from dali_pipes.feed.cpu_runner import CpuRunner
from dali_pipes.feed.samples import PreparedBatch
from dali_pipes.lists.formats.annotation import Span
from dali_pipes.lists.formats.class_names import class_numbers
from dali_pipes.lists.rows import Rows
from dali_pipes.scan.catalog import Catalog
from dali_pipes.views.augment import augments
from dali_pipes.views.draw import clip_numbers, shown_label
from dali_pipes.views.plans import EvalPlan, Place, Plan, TrainPlan

if TYPE_CHECKING:
    from dali_pipes.feed.dali_runner import GraphRunner

    Runner = GraphRunner | CpuRunner
NO_DALI = "makes clips with NVIDIA DALI, which cannot be imported ({}); pip install nvidia-dali-cuda130"
Split = Literal["train", "val", "test"]


def build_loader(
    config: Config,
    split: Split,
    catalog: Catalog,
    shard: Shard,
    device: torch.device,
    class_names: Sequence[str] = (),
) -> VideoLoader:
    """Build the loader of one rank for a split, from the catalogue of `scan.build.load_catalog`.

    Raises DataError if the list has too few readable videos, or labels beyond model.num_classes.
    """
    if not (class_names and catalog.class_names):
        catalog.check_labels(config.model.num_classes)
    plan = (TrainPlan if split == "train" else EvalPlan)(config, catalog, shard)
    return VideoLoader(plan, device, class_names)


def map_labels(catalog: Catalog, names: Sequence[str]) -> np.ndarray:
    """Map the labels of a list to those of a network with these class names. Without names on either side, keep them.

    Raises DataError if the network lacks a class of the list.
    """
    if not (names and catalog.class_names):
        return catalog.label_N
    used = np.unique(catalog.label_N).tolist()
    return class_numbers(catalog.source, catalog.class_names, used, names)[catalog.label_N]


def fill_blanks(clips_BVTHWC: Tensor, row_B: np.ndarray) -> None:
    """Replace unreadable clips (row −1) by readable clips of the batch, in turn, if there are any.

    Otherwise blank frames would enter batch-norm statistics.
    """
    readable = np.flatnonzero(row_B >= 0)
    if not len(readable):
        return
    for number, place in enumerate(np.flatnonzero(row_B < 0).tolist()):
        clips_BVTHWC[place] = clips_BVTHWC[int(readable[number % len(readable)])]


class VideoLoader:
    """Batches of real videos. See `batch.Loader` for the contract.

    Training continues from epoch to epoch without a gap: while the last batches of one epoch are in use, the first ones
    of the next are in preparation. They are dropped if another place is requested.
    """

    def __init__(self, plan: Plan, device: torch.device, class_names: Sequence[str] = ()):
        self.plan, self.config, self.catalog = plan, plan.config, plan.catalog
        self.device = device
        self.num_rows = len(self.catalog)
        self.num_videos = len(self.catalog.usable)
        self.class_names = tuple(class_names) or self.catalog.class_names
        self._label_N = map_labels(self.catalog, class_names)
        self.clip_dtype = clip_dtype(self.config.runtime.precision, device)
        self.choice = Choice(self.catalog, self.config.data, device)
        self.note = self.choice.note
        self._runner = self._make_runner()
        self._augment = self._make_augment()
        self._next: Place | None = None  # place of the runner's next batch; None: the runner has to restart
        self._places: Iterator[Place] = iter(())  # places of the batches after it
        self._in_use = KeepAlive(device)

    def __len__(self) -> int:
        return len(self.plan)

    @cached_property
    def rows(self) -> Rows:
        """Return the rows of the list, with the labels of the network."""
        return Rows.of(self.catalog.names(), self._label_N.tolist(), self.catalog.video_bytes().tolist())

    @property
    def unreadable(self) -> list[Unreadable]:
        """Return the videos that the scan or this rank could not read; in an evaluation, those of the current pass."""
        return [*self.catalog.unreadable, *self._runner.unreadable.values()]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from step `start` on."""
        for step in range(start, len(self)):
            if self._next != (epoch, step):
                self._runner.begin(self.plan.places(epoch, step))
                if not isinstance(self.plan, TrainPlan):
                    self._runner.unreadable.clear()  # an evaluation reports its own unreadable videos
                self._places = itertools.islice(self.plan.places(epoch, step), 1, None)
            self._next = None  # if decoding fails, the next call restarts the runner
            produced = self._runner.next()
            assert produced, "the places are not at their end"
            prepared, clips_BVTHWC = produced
            self._next = next(self._places, None)
            try:
                yield self._batch(prepared, clips_BVTHWC, epoch, step)
            finally:
                self._in_use.hold(clips_BVTHWC)

    def pause(self) -> None:
        """Drop prepared batches, and prepare none until batches are requested again."""
        self._runner.begin(iter(()))
        self._places, self._next = iter(()), None

    @property
    def slow_part(self) -> str:
        """Name the slowest stage of the loader, for which training waits."""
        return self._runner.slow_part

    def path(self, row: int) -> str:
        return self.catalog.path(row)

    @property
    def decoders(self) -> dict[str, int]:
        return self.choice.counts()

    def span(self, row: int) -> Span:
        return self.catalog.span(row)

    def close(self) -> None:
        self._runner.close()

    def _make_runner(self) -> Runner:
        """Make the runner; without a graph if threads decode everything on a CPU, because that is faster."""
        asked = self.config.runtime.threads
        threads = cores_of_rank() if asked == "auto" else asked
        if self.choice.in_graph or self.device.type == "cuda" or not self.config.clip.antialias:
            try:
                from dali_pipes.feed.dali_runner import GraphRunner  # imports DALI, which may not be installed
            except ImportError as error:
                raise DataError(self._asked_for_dali, NO_DALI.format(error)) from error
            return GraphRunner(self.plan, self.choice, self.device, threads, self.clip_dtype)
        return CpuRunner(self.plan, self.choice, threads, self.clip_dtype)

    @property
    def _asked_for_dali(self) -> str:
        """Return the setting because of which DALI makes the clips, or the GPU."""
        if self.device.type == "cuda":
            return "cuda"
        return f"data.decoder={self.config.data.decoder}" if self.choice.in_graph else "clip.antialias=false"

    def _make_augment(self) -> Callable[[Tensor, int, int], Tensor] | None:
        """Return the function (clips_BTHWC, epoch, step) -> augmented clips, or None if the recipe has no
        augmentation.
        """
        if not isinstance(self.plan, TrainPlan) or not augments(self.config.clip):
            return None
        from dali_pipes.feed.augment import Augmenter  # torchvision takes a second to import

        plan, augmenter = self.plan, Augmenter(self.config, self.device)
        return lambda clips_BTHWC, epoch, step: augmenter(
            clips_BTHWC, epoch, clip_numbers(plan.position_B(step), plan.views)
        )

    def _batch(self, prepared: PreparedBatch, clips_BVTHWC: Tensor, epoch: int, step: int) -> Batch:
        """Make the batch of a step. In training, each view becomes a clip of the batch, with its own augmentation and
        label.
        """
        row_B = prepared.row_B
        label_B = np.where(row_B < 0, -1, self._label_N[row_B]).astype(np.int64)  # −1: unreadable, or padding
        if isinstance(self.plan, TrainPlan):
            fill_blanks(clips_BVTHWC, row_B)
            row_B, label_B = row_B.repeat(self.plan.views), label_B.repeat(self.plan.views)
            label_B = shown_label(self.config.clip, label_B, prepared.views.mirror_BV.ravel())
            clips_BTHWC = clips_BVTHWC.flatten(0, 1)
            clips_BVTHWC = (self._augment(clips_BTHWC, epoch, step) if self._augment else clips_BTHWC)[:, None]
        clips_BVTCHW = clips_BVTHWC.permute(0, 1, 2, 5, 3, 4)
        return Batch(clips_BVTCHW, to_device(label_B, self.device), to_device(row_B, self.device))
