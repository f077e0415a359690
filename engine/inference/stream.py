"""Predict streams: a causal network processes frame after frame.

Shapes: B streams (one), T frames, C channels, H W pixels, K classes.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dali_pipes import DataError
from dali_pipes.loader import VideoLoader
from dali_pipes.scan.catalog import Catalog
from dali_pipes.views.windows import FramePlan
from engine import runtime
from engine.inference.network import Network, Step
from engine.inference.predict import ClassScores


@dataclass(frozen=True)
class FramePrediction(ClassScores):
    """Scores after a frame of a stream: the mean logits of the newest frames."""

    frame: int
    ms: float  # latency from the frame on the device to the scores on the host


class StreamScorer:
    """Scores a stream with a network's stream function `step`, averaged over the newest `smooth` frames."""

    def __init__(self, network: Network, step: Step, smooth: int):
        self._runtime, self._step = network.info.config.runtime, step
        self._recent: deque[Tensor] = deque(maxlen=smooth)
        self._caches: tuple[Tensor, ...] = ()

    def add(self, frame_BCHW: Tensor) -> np.ndarray:
        """Process one more frame (B = 1) and return score_K, [K] float32 on the host."""
        with runtime.autocast(self._runtime):
            logits_BK, *self._caches = self._step(frame_BCHW, *self._caches)
        self._recent.append(logits_BK.float())
        return torch.cat([*self._recent]).mean(0).cpu().numpy()


@torch.inference_mode()
def predict_stream(
    network: Network, step: Step, catalog: Catalog, row: int, every: int, smooth: int
) -> list[FramePrediction]:
    """Predict every n-th frame of a video with a network's stream function `step`, averaged over `smooth` frames.

    Raises DataError if a frame cannot be read, or if its scores are not finite.
    """
    plan = FramePlan.of(network.info.config, catalog, row, every)
    loader = VideoLoader(plan, network.device)
    predictions, scorer = [], StreamScorer(network, step, smooth)
    try:
        for number, batch in enumerate(loader.epoch(0)):
            if batch.index_B.item() < 0:
                _, path, reason = loader.unreadable[-1]
                raise DataError(path, reason)
            for frame, frame_BCHW in zip(plan.at(number), batch.clips_BTCHW.unbind(1), strict=False):
                start = time.perf_counter()
                score_K = scorer.add(frame_BCHW)
                try:
                    predictions.append(FramePrediction(score_K, frame, 1000 * (time.perf_counter() - start)))
                except FloatingPointError as error:
                    raise DataError(catalog.path(row), f"frame {frame}: {error}") from error
    finally:
        loader.close()
    return predictions
