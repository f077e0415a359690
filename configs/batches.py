"""How a global batch is shared out: over the ranks, and on a rank over passes through the network."""

from __future__ import annotations

from configs.checks import ConfigError
from configs.schema import Train


def batch_per_rank(batch: int, ranks: int) -> int:
    """A rank's share of a global batch. ConfigError, naming the nearest batches that split, where it does not."""
    if batch % ranks == 0:
        return batch // ranks
    below, above = batch // ranks * ranks, -(-batch // ranks) * ranks
    nearest = f"the nearest that do are {below} and {above}" if below else f"the nearest that does is {above}"
    raise ConfigError(f"train.batch: {batch} clips do not split over {ranks} ranks; {nearest}")


def clips_at_once(train: Train, ranks: int) -> int:
    """Clips that pass the network together on one rank. ConfigError where a rank's share has no such parts."""
    share = batch_per_rank(train.batch, ranks)
    if share % train.accumulate:
        possible = [str(parts) for parts in range(1, share + 1) if share % parts == 0]
        raise ConfigError(
            f"train.accumulate: the {share} clips of a rank do not split into {train.accumulate} equal parts; "
            f"take one of {', '.join(possible)}"
        )
    return share // train.accumulate
