"""Split a global batch over the ranks, and a rank's share over passes through the network."""

from __future__ import annotations

from configs.checks import ConfigError
from configs.schema import Train


def batch_per_rank(batch: int, ranks: int) -> int:
    """Return a rank's share of a global batch. Raises ConfigError, with the nearest valid batches, if it has none."""
    if batch % ranks == 0:
        return batch // ranks
    below, above = batch // ranks * ranks, -(-batch // ranks) * ranks
    nearest = f"the nearest that do are {below} and {above}" if below else f"the nearest that does is {above}"
    raise ConfigError(f"train.batch: {batch} clips do not split over {ranks} ranks; {nearest}")


def clips_at_once(train: Train, ranks: int) -> int:
    """Return the clips in one pass on one rank. Raises ConfigError if train.accumulate does not divide its share."""
    share = batch_per_rank(train.batch, ranks)
    if share % train.accumulate:
        possible = [str(parts) for parts in range(1, share + 1) if share % parts == 0]
        raise ConfigError(
            f"train.accumulate: the {share} clips of a rank do not split into {train.accumulate} equal parts; "
            f"take one of {', '.join(possible)}"
        )
    return share // train.accumulate
