"""Import the optional libraries that run exported files."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType

from torch import Tensor

from configs import ConfigError

Run = Callable[..., tuple[Tensor, ...]]  # inputs of an exported file -> its outputs


def library(name: str, install: str = "-e .[export]") -> ModuleType:
    """Import an optional library. If it is missing, raises ConfigError with the package that pip has to `install`."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"{name}: needed for this, and cannot be imported ({error}); pip install {install}"
        ) from error
