"""Networks in the files that tools/export.py writes, opened for use: `open_deployed(path).scores(clips)`.

One interface for every format; the library that runs it is imported when a file needs it.

Shapes: B clips, V views of a video, T frames, C channels, H W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from configs import Config, ConfigError
from engine.card import Card
from models import CheckpointError

Run = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Deployed:
    """A network that is ready to answer."""

    path: Path
    card: Card
    run: Run  # the file as it is: its inputs to its outputs, in the file's order, numbers as fp32

    @property
    def settings(self) -> Config:
        """What it was trained with; `settings.eval` says which views of a video to score."""
        return self.card.settings

    @property
    def class_names(self) -> tuple[str, ...]:
        """By label; empty where they are not known."""
        return self.card.class_names

    @property
    def uint8(self) -> bool:
        """Whether `run` takes pixels, [B, T, H, W, 3]. `scores` takes the same clips for either kind of file."""
        return self.card.uint8

    @property
    def online(self) -> bool:
        """Whether `run` takes one frame of a stream and caches. `scores` takes clips all the same."""
        return self.card.online

    @torch.inference_mode()
    def scores(self, clips: Tensor) -> Tensor:
        """Logits_BK of normalised clips_BTCHW, or logits_BVK of clips_BVTCHW, as the network itself gives them."""
        if clips.ndim == 6:
            return self.scores(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
        wanted = (self.settings.eval_frames, 3, self.settings.eval_size, self.settings.eval_size)
        if clips.shape[1:] != wanted:
            raise ValueError(f"{self.path}: takes clips of T C H W {wanted}, not of {tuple(clips.shape[1:])}")
        (logits_BK,) = self.run(self.pixels(clips) if self.uint8 else clips.float())
        return logits_BK

    def pixels(self, clips_BTCHW: Tensor) -> Tensor:
        """The pixels_BTHWC, uint8, that normalised clips were made from. Exact, for they were pixels, also in fp16."""
        mean_C11, std_C11 = (
            torch.tensor(values, device=clips_BTCHW.device).view(-1, 1, 1)
            for values in (self.settings.clip.mean, self.settings.clip.std)
        )
        pixels_BTCHW = (255 * (clips_BTCHW.float() * std_C11 + mean_C11)).round().clamp(0, 255)
        return pixels_BTCHW.to(torch.uint8).permute(0, 1, 3, 4, 2).contiguous()


def open_deployed(path: str | Path, device: str = "cpu") -> Deployed:
    """The network in a file of tools/export.py, on `cpu` or `cuda`.

    Raises CheckpointError for a file that is none, ConfigError where this machine cannot run it.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; tools/export.py writes {', '.join(OPENERS)}")
    if path.suffix not in OPENERS:
        raise CheckpointError(f"{path}: is none of the deployed formats {', '.join(OPENERS)}; see tools/export.py")
    texts, run = OPENERS[path.suffix](path, device)
    try:
        return Deployed(path, Card.from_texts(texts), run)
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: says nothing of its classes and settings; export it again") from error


def library(name: str) -> ModuleType:
    """An optional library. Raises ConfigError where it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(f"{name} is needed for this and not installed; pip install -e .[export]") from error


def _open_onnx(path: Path, device: str) -> tuple[dict[str, str], Run]:
    onnxruntime = library("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    providers = ["CUDAExecutionProvider"] if device == "cuda" else []
    try:
        session = onnxruntime.InferenceSession(path, options, [*providers, "CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common class
        raise CheckpointError(
            f"{path}: onnxruntime cannot open it on {device}: {str(error).splitlines()[0]}"
        ) from error
    names = [node.name for node in session.get_inputs()]

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        arrays = [tensor.cpu().numpy() for tensor in inputs]
        outputs = session.run(None, dict(zip(names, arrays, strict=True)))
        return tuple(torch.from_numpy(array).to(device) for array in outputs)

    return session.get_modelmeta().custom_metadata_map, run


OPENERS = {".onnx": _open_onnx}
