"""Networks in the files that tools/export.py writes, opened for use: `open_deployed(path).scores(clips)`.

One interface for every format; `runners` has what differs between them.

Shapes: B clips or streams, V views of a video, T frames, C channels, H W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from configs import Config
from engine.inference.backends import OPENERS, Notify, Run
from engine.inference.metadata import ExportMetadata
from models import CheckpointError


@dataclass(frozen=True)
class Deployed:
    """A network that is ready to answer."""

    path: Path
    device: str
    card: ExportMetadata
    run: Run
    """The file as it is: clip -> (logits_BK,), or, online, (frame, *caches) -> (logits_BK, *caches for the next)."""

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
        """Whether `run` takes pixels, [B, T, H, W, 3] or [B, H, W, 3]. `scores` takes the same clips in any case."""
        return self.card.uint8

    @property
    def online(self) -> bool:
        """Whether `run` takes frames of streams, one at a time. `scores` takes clips in any case."""
        return self.card.online

    @torch.inference_mode()
    def scores(self, clips: Tensor) -> Tensor:
        """Logits_BK of normalised clips_BTCHW, or logits_BVK of clips_BVTCHW, as the network itself gives them.

        Raises ValueError for clips of another shape than the file takes.
        """
        if clips.ndim == 6:
            return self.scores(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
        self._check(clips)
        inputs = self.pixels(clips) if self.uint8 else clips.float()
        return self.stream(inputs).mean(1) if self.online else self.run(inputs)[0]

    def stream(self, frames: Tensor) -> Tensor:
        """Logits_BTK of each of T frames, [B, T, ...] as `run` takes them, each seen after those before it."""
        caches, answers = self.initial_caches(len(frames)), []
        for frame in frames.unbind(1):
            logits_BK, *caches = self.run(frame.contiguous(), *caches)
            answers.append(logits_BK)
        return torch.stack(answers, 1)

    def initial_caches(self, streams: int) -> tuple[Tensor, ...]:
        """What `run` takes beside the first frame of streams."""
        return tuple(torch.zeros(streams, *shape, device=self.device) for shape in self.card.caches)

    def pixels(self, clips_BTCHW: Tensor) -> Tensor:
        """The pixels_BTHWC, uint8, that normalised clips were made of. Exact even where the clips are fp16."""
        mean_C11, std_C11 = (
            torch.tensor(values, device=clips_BTCHW.device).view(-1, 1, 1)
            for values in (self.settings.clip.mean, self.settings.clip.std)
        )
        pixels_BTCHW = (255 * (clips_BTCHW.float() * std_C11 + mean_C11)).round().clamp(0, 255)
        return pixels_BTCHW.to(torch.uint8).permute(0, 1, 3, 4, 2).contiguous()

    def _check(self, clips: Tensor) -> None:
        frames, size = self.settings.eval_frames, self.settings.eval_size
        if clips.ndim != 5 or clips.shape[2:] != (3, size, size) or not (self.online or clips.shape[1] == frames):
            raise ValueError(
                f"{self.path}: takes clips [B, {'T' if self.online else frames}, 3, {size}, {size}] or views of videos "
                f"[B, V, ...], not {list(clips.shape)}"
            )


def open_deployed(path: str | Path, device: str = "cpu", notify: Notify = print) -> Deployed:
    """The network in a file of tools/export.py, on `cpu` or `cuda`; `notify` hears of precision that is not to be had.

    Raises CheckpointError for a file that cannot be used, ConfigError for a missing library or another device's file.
    A package compiled by AOTInductor is a program: open only what you trust.
    """
    path = Path(path)
    if path.suffix not in OPENERS:
        raise CheckpointError(f"{path}: is no deployed network, as tools/export.py writes them: {', '.join(OPENERS)}")
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; check the path")
    return Deployed(path, device, *OPENERS[path.suffix](path, device, notify))
