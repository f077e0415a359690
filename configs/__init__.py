"""What was asked for: the settings, their checks, and the shipped recipes."""

from configs.errors import ConfigError
from configs.load import load, override
from configs.schema import Config, batch_per_rank
from configs.show import describe, fingerprint, flat, from_flat, to_yaml

__all__ = [
    "Config",
    "ConfigError",
    "batch_per_rank",
    "describe",
    "fingerprint",
    "flat",
    "from_flat",
    "load",
    "override",
    "to_yaml",
]
