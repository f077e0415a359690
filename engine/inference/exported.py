"""Open files of tools/export.py: `open_exported(path).scores(clips)`.

All formats have one interface; `backends` has the differences.

Shapes: B clips or streams, V views of a video, T frames, C channels, H W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from configs import ConfigError
from engine.inference.backends import OPENERS, Run, open_onnx
from engine.inference.metadata import ExportMetadata
from models import CheckpointError


@dataclass(frozen=True)
class ExportedNetwork:
    """An exported network, ready to score clips or frames."""

    path: Path
    device: str
    metadata: ExportMetadata
    run: Run
    """The file's own function: clip -> (logits_BK,), or, online, (frame, *caches) -> (logits_BK, *next caches).

    A clip is float32 [B, T, 3, H, W] or uint8 [B, T, H, W, 3] as `metadata.uint8` says; a frame the same without T.
    """

    @torch.inference_mode()
    def scores(self, clips: Tensor) -> Tensor:
        """Return logits_BK of normalised clips_BTCHW, or logits_BVK of clips_BVTCHW, for any input format of `run`.

        Raises ValueError for clips of a wrong shape.
        """
        if clips.ndim == 6:
            return self.scores(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
        self._check(clips)
        inputs = self.pixels(clips) if self.metadata.uint8 else clips.float()
        return self.stream(inputs).mean(1) if self.metadata.online else self.run(inputs)[0]

    def stream(self, frames: Tensor) -> Tensor:
        """Return logits_BTK of frames [B, T, ...] in the input format of `run`, computed frame by frame."""
        caches, logits = self.initial_caches(len(frames)), []
        for frame in frames.unbind(1):
            logits_BK, *caches = self.run(frame.contiguous(), *caches)
            logits.append(logits_BK)
        return torch.stack(logits, 1)

    def initial_caches(self, streams: int) -> tuple[Tensor, ...]:
        """Return the caches for the first frame of `streams` streams: zeros."""
        return tuple(torch.zeros(streams, *shape, device=self.device) for shape in self.metadata.caches)

    def pixels(self, clips_BTCHW: Tensor) -> Tensor:
        """Return the exact uint8 pixels_BTHWC of normalised clips, also of fp16 clips."""
        clip = self.metadata.config.clip
        mean_C11, std_C11 = (
            torch.tensor(values, device=clips_BTCHW.device).view(-1, 1, 1) for values in (clip.mean, clip.std)
        )
        pixels_BTCHW = (255 * (clips_BTCHW.float() * std_C11 + mean_C11)).round().clamp(0, 255)
        return pixels_BTCHW.to(torch.uint8).permute(0, 1, 3, 4, 2).contiguous()

    def _check(self, clips: Tensor) -> None:
        frames, size = self.metadata.config.eval_frames, self.metadata.config.eval_size
        online = self.metadata.online
        if clips.ndim != 5 or clips.shape[2:] != (3, size, size) or not (online or clips.shape[1] == frames):
            raise ValueError(
                f"{self.path}: takes clips [B, {'T' if online else frames}, 3, {size}, {size}] or views of videos "
                f"[B, V, ...], not {list(clips.shape)}"
            )


def open_exported(path: str | Path, device: str = "cpu", *, onnx_provider: str = "cuda") -> ExportedNetwork:
    """Open a file of tools/export.py on `cpu` or `cuda`. Log a warning if its precision is not supported there.

    `onnx_provider`: `cuda` or `tensorrt`, the provider with which onnxruntime runs an ONNX file on a GPU.

    Raises CheckpointError for an unusable file, ConfigError for a missing library or a file for another device. A
    package compiled by AOTInductor contains executable code: open only files that you trust.
    """
    path = Path(path)
    if path.suffix not in OPENERS:
        raise CheckpointError(f"{path}: not an exported network; tools/export.py writes {', '.join(OPENERS)}")
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; check the path")
    if onnx_provider != "cuda" and path.suffix != ".onnx":
        raise ConfigError(f"runtime.onnx_provider: {onnx_provider} is for ONNX files, and {path} is not one")
    opener = partial(open_onnx, tensorrt=True) if onnx_provider == "tensorrt" else OPENERS[path.suffix]
    return ExportedNetwork(path, device, *opener(path, device))
