"""The TSM and TSN networks, their weights and their cost."""

from importlib import import_module

from models.errors import CheckpointError

_HOME = {
    "LoadReport": "weights.load",
    "Recognizer": "recognizer",
    "Streaming": "streaming",
    "build_model": "recognizer",
    "describe": "cost",
    "describe_shift": "shift.conv",
    "load_pretrained": "weights.load",
    "load_weights": "weights.load",
    "read_file": "weights.read",
    "shift_step": "backbones",
}

__all__ = ["CheckpointError", *_HOME]


def __getattr__(name: str):
    """Import on first use: programs that only look at files start without torch."""
    if name in _HOME:
        return getattr(import_module(f"models.{_HOME[name]}"), name)
    raise AttributeError(f"module 'models' has no attribute {name!r}")
