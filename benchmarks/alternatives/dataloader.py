"""The usual way to feed video: a torch DataLoader over torchcodec, with torchvision's transforms.

It uses the views that the project's loader draws, so that the batches can be compared: decode, crop, resize
(antialiased), flip, normalise, NHWC in memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as TF

from dali_pipes.loader import VideoLoader
from dali_pipes.views.draw import Views


class TorchcodecClips(Dataset):
    """A dataset with one item per step and position: a clip [T, 3, S, S] fp32, normalised."""

    def __init__(self, loader: VideoLoader, epoch: int, steps: int):
        self.catalog, self.plan = loader.catalog, loader.plan
        self.clip = loader.config.clip
        self.views: list[Views] = [self.plan.draw(epoch, step) for step in range(steps)]

    def __len__(self) -> int:
        return len(self.views) * self.plan.batch

    def __getitem__(self, index: int) -> Tensor:
        from torchcodec.decoders import VideoDecoder

        views, place = self.views[index // self.plan.batch], index % self.plan.batch
        path = self.catalog.path(int(views.row_B[place]))
        decoder = VideoDecoder(path, num_ffmpeg_threads=1, seek_mode="approximate")
        frames_TCHW = decoder.get_frames_at(views.frames_BVT[place, 0].tolist()).data
        left, top, right, bottom = np.rint(views.box_BV4[place, 0]).astype(int).tolist()
        size = [self.plan.size] * 2
        frames_TCHW = TF.resized_crop(frames_TCHW, top, left, bottom - top, right - left, size, antialias=True)
        if views.mirror_BV[place, 0]:
            frames_TCHW = TF.horizontal_flip(frames_TCHW)
        frames_TCHW = TF.to_dtype(frames_TCHW, torch.float32, scale=True)
        return TF.normalize(frames_TCHW, list(self.clip.mean), list(self.clip.std))


def batches(loader: VideoLoader, epoch: int, steps: int, workers: int) -> Iterator[Tensor]:
    """Yield clips_BTCHW of `steps` batches, channels_last when frames are merged into the batch."""
    clips = TorchcodecClips(loader, epoch, steps)
    for clips_BTCHW in DataLoader(
        clips, loader.plan.batch, num_workers=workers, multiprocessing_context="spawn" if workers else None
    ):
        B, T = clips_BTCHW.shape[:2]
        frames_NCHW = clips_BTCHW.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        yield frames_NCHW.unflatten(0, (B, T))
