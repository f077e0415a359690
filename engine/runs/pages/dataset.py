"""Describe the lists of a run: videos, classes, lengths, sizes and codecs, from their catalogues."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

import configs
from configs import ConfigError
from dali_pipes import DataError
from dali_pipes.scan.build import open_catalog
from dali_pipes.scan.catalog import Catalog
from engine.loaders import list_of
from engine.runs.pages.html import Table

logger = logging.getLogger(__name__)


def tables(recipe: Path) -> list[tuple[str, Table]]:
    """Return (title, table) for the training and the validation list; lists without a catalogue are omitted."""
    try:
        config = configs.load(recipe)
    except ConfigError as error:
        logger.warning(f"{recipe}: no table of the data: {error}")
        return []
    found = []
    for split, title in (("train", "Training list"), ("val", "Validation list")):
        try:
            found.append((title, describe(open_catalog(list_of(config.data, split), config.data))))
        except DataError:
            continue  # never scanned on this machine, or no such list
    return found


def describe(catalog: Catalog) -> Table:
    """Return a table that describes a list."""
    usable = catalog.usable
    label_U, frames_U, fps_U = catalog.label_N[usable], catalog.frames_N[usable], catalog.fps_N[usable]
    rows: list[tuple[str, object]] = [("list", catalog.source), ("videos", f"{len(usable)} of {len(catalog)} readable")]
    if len(usable):
        videos_K = np.bincount(label_U, minlength=len(catalog.class_names))
        used_K = videos_K[videos_K > 0]
        empty = f", {(videos_K == 0).sum()} without videos" if len(used_K) < len(videos_K) else ""
        rows += [
            ("classes", f"{len(videos_K)}{empty}"),
            ("videos per class", f"{used_K.min()} to {used_K.max()}, median {np.median(used_K):g}"),
            ("imbalance", f"{used_K.max() / used_K.min():.3g} (largest class / smallest class)"),
            ("frames", _spread(frames_U)),
            ("seconds", _spread(frames_U / np.maximum(fps_U, 1e-6))),
            ("sizes", _most_common(catalog)),
            ("codecs", ", ".join(f"{codec} {count}" for codec, count in catalog.codecs().items())),
        ]
    return Table([], rows)


def _spread(value_U: np.ndarray) -> str:
    """Return median and range of numbers."""
    low, middle, high = np.percentile(value_U, [5, 50, 95])
    return f"{middle:.3g} (5th to 95th percentile: {low:.3g} to {high:.3g})"


def _most_common(catalog: Catalog) -> str:
    """Return the three most frequent frame sizes with their counts."""
    size_U2 = np.stack([catalog.width_N[catalog.usable], catalog.height_N[catalog.usable]], axis=1)
    sizes, counts = np.unique(size_U2, axis=0, return_counts=True)
    shown = [f"{sizes[at][0]}x{sizes[at][1]} {counts[at]}" for at in np.argsort(-counts, kind="stable")[:3]]
    return ", ".join([*shown, *([f"and {len(sizes) - 3} others"] if len(sizes) > 3 else [])])
