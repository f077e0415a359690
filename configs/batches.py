"""Split a global batch over the ranks, and a rank's share into videos and passes through the network."""

from __future__ import annotations

from configs.checks import ConfigError
from configs.schema import Config

STRIDE = 32  # pixels of a frame per position in the last features of every backbone


def batch_per_rank(batch: int, ranks: int) -> int:
    """Return a rank's share of a global batch. Raises ConfigError, with the nearest valid batches, if it does not
    divide.
    """
    if batch % ranks == 0:
        return batch // ranks
    below, above = batch // ranks * ranks, -(-batch // ranks) * ranks
    nearest = f"the nearest that do are {below} and {above}" if below else f"the nearest that does is {above}"
    raise ConfigError(f"train.batch: {batch} clips do not split over {ranks} ranks; {nearest}")


def videos_per_rank(batch: int, repeats: int, ranks: int) -> int:
    """Return the number of videos in a rank's share of a batch, if each video gives `repeats` clips.

    Raises ConfigError, with the nearest valid batches, if the share is not made of whole videos.
    """
    share = batch_per_rank(batch, ranks)
    if share % repeats == 0:
        return share // repeats
    unit = repeats * ranks
    below, above = batch // unit * unit, -(-batch // unit) * unit
    nearest = f"try {below} or {above}" if below else f"try {above}"
    each = f" on each of {ranks} ranks" if ranks > 1 else ""
    raise ConfigError(
        f"train.batch: {share} clips{each} are not a whole number of videos with clip.repeats={repeats}; {nearest}"
    )


def clips_at_once(config: Config, ranks: int) -> int:
    """Return the number of clips in one forward pass on one rank. Raises ConfigError if the rank's share is not a whole
    number of videos, if train.accumulate does not divide it, or if it is too small for batch norms.
    """
    repeats, accumulate = config.clip.repeats, config.train.accumulate
    share = videos_per_rank(config.train.batch, repeats, ranks) * repeats
    if share % accumulate:
        possible = [str(parts) for parts in range(1, share + 1) if share % parts == 0]
        raise ConfigError(
            f"train.accumulate: the {share} clips of a rank do not split into {accumulate} equal parts; "
            f"use one of {', '.join(possible)}"
        )
    _check_norms(config, share // accumulate, ranks)
    return share // accumulate


def _check_norms(config: Config, clips: int, ranks: int) -> None:
    """Raise ConfigError if a batch norm would see a single value per channel, which has no variance: one frame, with
    one position in the last features.
    """
    frozen = config.train.partial_bn or config.train.freeze == "layer4"
    together = ranks if config.train.sync_bn else 1
    if not frozen and clips * config.model.frames * together == 1 and config.clip.size <= STRIDE:
        fewer = ", fewer parts (train.accumulate)" if config.train.accumulate > 1 else ""
        raise ConfigError(
            f"train.batch: one clip of one frame of {config.clip.size} px at a time leaves batch norms a single value "
            f"per channel; use train.batch={2 * config.train.batch}{fewer}, model.frames=2, or clip.size={STRIDE + 1} "
            "or more"
        )
