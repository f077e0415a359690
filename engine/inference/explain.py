"""Explain a prediction by Grad-CAM: find the frames and regions of a clip that raised the score of its class.

Source: Selvaraju et al., arXiv 1610.02391, over all frames of the clip at once. Shapes: T frames, C channels,
H W pixels of the crop, h w cells of the last feature map.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from configs import ConfigError
from dali_pipes import DataError
from dali_pipes.batch import Shard
from dali_pipes.loader import VideoLoader
from dali_pipes.scan.catalog import Catalog
from dali_pipes.views.windows import WindowPlan, whole_windows
from engine.inference.network import Network
from models import Recognizer


@dataclass(frozen=True)
class Explanation:
    """The centre crop of a clip, and its heat map for a class."""

    label: int
    frames_T: np.ndarray  # numbers of the frames
    pictures_THWC: np.ndarray  # uint8: the input frames of the network
    heat_THW: np.ndarray  # float32, from 0 to 1, the maximum of the clip

    @property
    def weight_T(self) -> np.ndarray:
        """Return each frame's share of the total heat; equal shares if it is zero."""
        sum_T = self.heat_THW.sum((1, 2))
        return sum_T / sum_T.sum() if sum_T.sum() else np.full(len(sum_T), 1 / len(sum_T))


def check(network: Network) -> None:
    """Raise ConfigError if a network has no gradients."""
    if not isinstance(network.score, Recognizer):
        raise ConfigError(f"--explain: {network.info.weights} is an exported network; name its checkpoint instead")


def explain(network: Network, catalog: Catalog, row: int, label: int) -> Explanation:
    """Explain the score of a class in one video. Raises DataError if the video cannot be read."""
    config = replace(network.info.config, eval=replace(network.info.config.eval, crops="center", clips=1, batch=0))
    windows = [window for window in whole_windows(catalog) if window.row == row]
    plan = WindowPlan(config, catalog, Shard(), windows)
    with closing(VideoLoader(plan, network.device)) as loader:
        batch = next(iter(loader.epoch(0)))
        if batch.index_B[0] < 0:
            raise DataError(catalog.path(row), loader.unreadable[-1].reason)
        clip_TCHW = batch.clips_BVTCHW[0, 0].float().clone()
    heat_THW = grad_cam(network.score, clip_TCHW, label)
    mean_C11, std_C11 = (torch.tensor(values).view(-1, 1, 1) for values in (config.clip.mean, config.clip.std))
    pictures_TCHW = (255 * (clip_TCHW.cpu() * std_C11 + mean_C11)).round().clamp(0, 255).to(torch.uint8)
    frames_T = plan.draw(0, 0).frames_BVT[0, 0]
    return Explanation(label, frames_T, pictures_TCHW.permute(0, 2, 3, 1).numpy(), heat_THW.cpu().numpy())


def grad_cam(model: Recognizer, clip_TCHW: Tensor, label: int) -> Tensor:
    """Return heat_THW of a class: positive evidence at each position of each frame, scaled to a maximum of 1."""
    kept: list[Tensor] = []
    last = getattr(model, model.trunk[-1])
    handle = last.register_forward_hook(lambda module, inputs, output: kept.append(output))
    try:
        with torch.enable_grad():
            logits_BK = model(clip_TCHW[None].requires_grad_())
            (gradient_Tchw,) = torch.autograd.grad(logits_BK[0, label], kept)
    finally:
        handle.remove()
    features_Tchw = kept[0].detach()
    heat_Thw = (gradient_Tchw.mean((2, 3), keepdim=True) * features_Tchw).sum(1).relu()
    heat_THW = F.interpolate(heat_Thw[:, None].float(), clip_TCHW.shape[2:], mode="bilinear")[:, 0]
    return heat_THW / heat_THW.max().clamp(min=torch.finfo(torch.float32).tiny)
