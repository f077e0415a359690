"""The loaders of a run: opened on every rank alike, their lists scanned once and not by every rank."""

from __future__ import annotations

import logging

import torch

from configs import Config
from dali_pipes import DataError, Loader, Shard, build_loader
from dali_pipes.loader import split_source
from dali_pipes.scan import build
from engine import distributed

logger = logging.getLogger(__name__)


def has_val(config: Config) -> bool:
    """Whether there is something to evaluate on while training."""
    return bool(config.data.val) or config.data.source == "synthetic"


def open_loader(config: Config, split: str, device: torch.device) -> Loader:
    """This rank's loader of a split; `config` is resolved. Raises DataError, also where ranks see different lists."""
    if config.data.source == "video":
        distributed.one_rank_first(lambda: _scan(config, split))
    shard = Shard(distributed.rank(), distributed.world_size())
    loader = distributed.on_every_rank(lambda: build_loader(config, split, shard, device))
    seen = distributed.gather((loader.num_rows, loader.num_videos, len(loader)))
    if len(set(seen)) > 1:
        distributed.raise_everywhere(
            DataError(f"data.{split}", f"ranks see different lists (rows, readable videos, steps): {sorted(set(seen))}")
        )
    if loader.note:
        logger.info(loader.note)
    return loader


def _scan(config: Config, split: str) -> None:
    """Bring the catalogue up to date: by one rank of each host, since hosts may not share a disk."""
    if distributed.local_rank() == 0:
        build.load_catalog(split_source(config, split), config.data)
