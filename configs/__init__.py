"""Settings of a run: types, defaults and checks; the shipped recipes, and overrides of them."""

from configs.batches import batch_per_rank, clips_at_once, videos_per_rank
from configs.checks import ConfigError
from configs.load import load, moved, overridden, override
from configs.schema import Config
from configs.show import describe, fingerprint, flat, from_flat, to_yaml

__all__ = [
    "Config",
    "ConfigError",
    "batch_per_rank",
    "clips_at_once",
    "describe",
    "fingerprint",
    "flat",
    "from_flat",
    "load",
    "moved",
    "overridden",
    "override",
    "to_yaml",
    "videos_per_rank",
]
