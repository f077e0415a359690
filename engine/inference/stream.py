"""Predict streams: a causal network sees one frame after the other.

Shapes: B streams (one), T frames, C channels, H W pixels, K classes.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch

from dali_pipes import DataError
from dali_pipes.loader import VideoLoader
from dali_pipes.scan.catalog import Catalog
from dali_pipes.views.plans import FramePlan
from engine import runtime
from engine.evaluation.accuracy import NOT_FINITE
from engine.inference.network import Network, Step
from engine.inference.predict import ClassScores


@dataclass(frozen=True)
class FramePrediction(ClassScores):
    """Scores after a frame of a stream: mean logits of the newest frames."""

    frame: int
    ms: float  # from the frame on the device to the scores on the host


@torch.inference_mode()
def predict_stream(
    network: Network, step: Step, catalog: Catalog, row: int, every: int, smooth: int
) -> list[FramePrediction]:
    """Predict every n-th frame of a video with a network's stream function `step`, averaged over `smooth` frames.

    Raises DataError if a frame cannot be read, or if its scores are not finite.
    """
    config = network.info.config
    plan = FramePlan.of(config, catalog, row, every)
    loader = VideoLoader(plan.config, catalog, plan, network.device)
    predictions, recent, caches = [], deque(maxlen=smooth), ()
    try:
        for number, batch in enumerate(loader.epoch(0)):
            if batch.index_B.item() < 0:
                _, path, reason = loader.unreadable[-1]
                raise DataError(path, reason)
            for frame, frame_BCHW in zip(plan.at(number), batch.clips_BTCHW.unbind(1), strict=False):
                start = time.perf_counter()
                with runtime.autocast(config.runtime):
                    logits_BK, *caches = step(frame_BCHW, *caches)
                recent.append(logits_BK.float())
                score_K = torch.cat([*recent]).mean(0).cpu().numpy()
                if not np.isfinite(score_K).all():
                    raise DataError(catalog.path(row), f"frame {frame}: {NOT_FINITE}")
                predictions.append(FramePrediction(score_K, frame, 1000 * (time.perf_counter() - start)))
    finally:
        loader.close()
    return predictions
