"""Turn lists of video files into batches of clips on the device."""

from importlib import import_module

from dali_pipes.errors import DataError

_HOME = {"Batch": "batch", "Loader": "batch", "Shard": "batch", "build_loader": "loader"}

__all__ = ["Batch", "DataError", "Loader", "Shard", "build_loader"]


def __getattr__(name: str):
    """Import on first use: scanning runs in many processes, and needs neither torch nor DALI."""
    if name in _HOME:
        return getattr(import_module(f"dali_pipes.{_HOME[name]}"), name)
    raise AttributeError(f"module 'dali_pipes' has no attribute {name!r}")
