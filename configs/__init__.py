"""What was asked for: the settings, their checks, and the shipped recipes."""

from configs.batches import batch_per_rank, clips_at_once
from configs.checks import ConfigError
from configs.load import load, overridden, override
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
    "overridden",
    "override",
    "to_yaml",
]
