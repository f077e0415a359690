"""Predict a running camera or network stream, frame by frame or window by window.

Shapes: B clips (one), T frames, C channels, H W pixels, K classes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from dali_pipes.feed.live import LiveCropper
from dali_pipes.views.frames import uniform_clips
from engine import runtime
from engine.inference.network import Network, Step
from engine.inference.predict import ClassScores
from engine.inference.stream import StreamScorer

Frames = Iterable[tuple[float, np.ndarray]]  # (seconds since the first frame, picture_HWC)


@dataclass(frozen=True)
class LivePrediction(ClassScores):
    """Scores of an interval of a stream."""

    start: float  # seconds since the first frame
    end: float
    ms: float  # latency from the last frame to the scores on the host


@torch.inference_mode()
def predict_frames(network: Network, step: Step, frames: Frames, every: int, smooth: int) -> Iterator[LivePrediction]:
    """Yield the prediction after every n-th frame with a network's stream function, averaged over `smooth` frames.

    Raises FloatingPointError for scores that are not finite, as `predict_windows` does.
    """
    cropper, scorer = LiveCropper(network.info.config), StreamScorer(network, step, smooth)
    for number, (seconds, picture_HWC) in enumerate(frames):
        if number % every:
            continue
        start = time.perf_counter()
        frame_BCHW = cropper.clips_BTCHW([cropper.crop(picture_HWC)])[:, 0].to(network.device)
        score_K = scorer.add(frame_BCHW)
        yield LivePrediction(score_K, seconds, seconds, 1000 * (time.perf_counter() - start))


@torch.inference_mode()
def predict_windows(network: Network, frames: Frames, length: float, stride: float) -> Iterator[LivePrediction]:
    """Yield the prediction of the newest `length` seconds, every `stride` seconds, from evenly spaced frames."""
    config = network.info.config
    cropper, window, due = LiveCropper(config), deque(), length
    for seconds, picture_HWC in frames:
        window.append((seconds, cropper.crop(picture_HWC)))
        while window[0][0] < seconds - length:
            window.popleft()
        if seconds < due:
            continue
        due = seconds + stride
        start = time.perf_counter()
        (places_T,) = uniform_clips(np.array([len(window)]), config.eval_frames, 1)[0]
        clips_BTCHW = cropper.clips_BTCHW([window[place][1] for place in places_T]).to(network.device)
        with runtime.autocast(config.runtime):
            score_K = network.score(clips_BTCHW)[0].float().cpu().numpy()
        yield LivePrediction(score_K, window[0][0], seconds, 1000 * (time.perf_counter() - start))
