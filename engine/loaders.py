"""Open the loaders of a run on every rank; each list is scanned by one rank per host."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import torch

from configs import Config
from configs.schema import Data
from dali_pipes import DataError, Loader, Shard, build_loader
from dali_pipes.lists.formats.class_names import some
from dali_pipes.lists.formats.source import Source
from dali_pipes.lists.rows import Rows
from dali_pipes.loader import VideoLoader
from dali_pipes.scan import build
from dali_pipes.scan.catalog import Catalog
from dali_pipes.scan.overlap import shared_videos
from dali_pipes.synthetic import SyntheticLoader
from engine import activity, distributed

logger = logging.getLogger(__name__)
FEW = 3  # classes named in a message
SCAN = 10.0  # multiple of runtime.timeout for the scan of one file, or for waiting for another scan


def has_val(config: Config) -> bool:
    """Return True if there are videos to evaluate on during training."""
    return bool(config.data.val) or config.data.source == "synthetic"


def check_val(config: Config) -> None:
    """Raise DataError if the list to evaluate on during training cannot be read. Training lists may take hours to scan,
    so this comes first.
    """
    if config.data.source != "synthetic" and has_val(config):
        distributed.first_of_each_host(lambda: Source.open(list_of(config.data, "val")))


def list_of(data: Data, split: str) -> str:
    """Return the list or folder of a split; `test` is data.val if data.test is empty. Raises DataError if there is
    none.
    """
    lists = {"train": data.train, "val": data.val, "test": data.test or data.val}
    if not lists[split]:
        raise DataError(f"data.{split}", f"the recipe names no list; set data.{split}=LIST")
    return lists[split]


def open_loader(
    config: Config, split: str, device: torch.device, class_names: Sequence[str] = (), before: Rows | None = None
) -> Loader:
    """Open this rank's loader of a split; `config` is resolved.

    `class_names` are those of a network; the list's classes get the same numbers. `before` has the rows of a resumed
    run, so that files lost from class folders do not change the order. Raises DataError, for example if the network
    lacks a class of the list, or if ranks see different lists.
    """
    shard = Shard(distributed.rank(), distributed.world_size())
    if config.data.source == "synthetic":
        return distributed.on_every_rank(lambda: SyntheticLoader(config, split, shard, device))
    with activity.doing(f"scanning data.{split}", factor=SCAN):
        catalog = _catalog(config.data, split, class_names, before)
    loader = distributed.on_every_rank(lambda: build_loader(config, split, catalog, shard, device, class_names))
    seen = distributed.gather((loader.num_rows, loader.num_videos, len(loader)))
    if len(set(seen)) > 1:
        distributed.raise_everywhere(
            DataError(f"data.{split}", f"ranks see different lists (rows, readable videos, steps): {sorted(set(seen))}")
        )
    if loader.note:
        logger.info(loader.note)
    if class_names and not loader.catalog.class_names:
        first = ", ".join(f"{label} for {name!r}" for label, name in enumerate(class_names[:FEW]))
        logger.warning(
            f"{loader.catalog.source} numbers its classes without names: its labels are taken as those of the network, "
            f"{first}{' ...' if len(class_names) > FEW else ''}; if they are others, set data.class_names=FILE"
        )
    if split == "train":
        _warn_of_empty_classes(loader, config.model.num_classes)
    return loader


def _warn_of_empty_classes(loader: VideoLoader, num_classes: int) -> None:
    """Log a warning, on rank 0, if classes have no training video, for example with labels from 1 or with gaps."""
    counts = np.bincount(loader.rows.labels, minlength=num_classes)
    empty = np.flatnonzero(counts == 0).tolist()
    if empty and not distributed.rank():
        names = [loader.class_names[label] if loader.class_names else str(label) for label in empty]
        hint = "; do the labels count from 1?" if empty == [0] and not loader.class_names else ""
        logger.warning(f"{len(empty)} of {num_classes} classes have no training video: {some(names)}{hint}")


def warn_of_overlap(data: Data, held_out: Loader) -> None:
    """Log a warning, on rank 0, if a held-out list and the training list share videos.

    There is no check if the training list was never scanned on this machine.
    """
    if distributed.rank() or not isinstance(held_out, VideoLoader) or not data.train:
        return
    with suppress(DataError):
        training = build.open_catalog(data.train, data)
        if training.source == held_out.catalog.source:
            logger.warning(f"{training.source} is both the training list and the held-out list")
            return
        shared = shared_videos(training, held_out.catalog, by_content=data.overlap == "content")
        if shared:
            logger.warning(
                f"{len(shared)} of {held_out.num_videos} videos of {held_out.catalog.source} are also in the training "
                f"list {training.source}, such as {held_out.path(shared[0])}: accuracy on them is too high"
            )


def _catalog(data: Data, split: str, class_names: Sequence[str], before: Rows | None) -> Catalog:
    """Open the catalogue of a split, after one rank per host has updated it."""
    source = list_of(data, split)
    return distributed.first_of_each_host(
        lambda: build.load_catalog(source, data, class_names=class_names, before=before),
        others=lambda: build.open_catalog(source, data),
    )
