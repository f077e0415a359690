"""The TSM and TSN networks, their weights and their cost."""

from models.backbones import shift_step
from models.cost import describe
from models.errors import CheckpointError
from models.recognizer import Recognizer, build_model
from models.shift.conv import describe_shift
from models.streaming import Streaming
from models.weights.load import LoadReport, load_pretrained, load_weights
from models.weights.read import read_file

__all__ = [
    "CheckpointError",
    "LoadReport",
    "Recognizer",
    "Streaming",
    "build_model",
    "describe",
    "describe_shift",
    "load_pretrained",
    "load_weights",
    "read_file",
    "shift_step",
]
