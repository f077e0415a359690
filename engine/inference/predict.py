"""Predict the classes of videos with the code of evaluation: same views, decoding and averaging.

Shapes: B videos, V views of a video, N clips of a window, T frames, K classes.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from configs import ConfigError, progress
from dali_pipes import DataError
from dali_pipes.batch import Shard
from dali_pipes.loader import VideoLoader
from dali_pipes.scan import build
from dali_pipes.scan.catalog import Catalog
from dali_pipes.storage.objects import absolute
from dali_pipes.views.draw import CROPS
from dali_pipes.views.windows import Window, WindowPlan, whole_windows
from engine.evaluation.accuracy import NOT_FINITE
from engine.evaluation.evaluate import average, logits_of_views
from engine.inference.network import Network
from models import Recognizer


class ClassProbability(NamedTuple):
    """A class and its probability."""

    label: int
    probability: float


@dataclass(frozen=True)
class ClassScores:
    """Scores of K classes. Raises FloatingPointError for scores that are not finite, since they have no best class."""

    score_K: np.ndarray  # float32: logits or log-probabilities

    def __post_init__(self) -> None:
        if not np.isfinite(self.score_K).all():
            raise FloatingPointError(NOT_FINITE)

    @cached_property
    def probability_K(self) -> np.ndarray:
        """Return probabilities, float32."""
        return torch.from_numpy(self.score_K).softmax(0).numpy()

    @property
    def best(self) -> ClassProbability:
        """Return the most likely class."""
        return self.top(1)[0]

    def top(self, k: int) -> list[ClassProbability]:
        """Return the k most likely classes (or all if there are fewer), the most likely first."""
        labels = np.argsort(-self.score_K, kind="stable")[:k].tolist()
        return [ClassProbability(label, float(self.probability_K[label])) for label in labels]


@dataclass(frozen=True)
class Prediction(ClassScores):
    """Scores of a window of a video, averaged over its views as in evaluation."""

    window: Window
    frames_NT: np.ndarray  # frame numbers of each clip of the window; all crops of a clip have the same
    ms: float  # the window's share of the time of its batch
    features_VTC: np.ndarray | None = None  # float32: inputs of the classifier for each frame, if requested


def predict(
    network: Network, catalog: Catalog, windows: Sequence[Window], unreadable: dict[int, str], features: bool = False
) -> Iterator[list[Prediction]]:
    """Yield the predictions of each video if all its windows are readable. Windows of a video are adjacent in
    `windows`.

    At the end, rows that proved unreadable are in `unreadable`, with the reason. With `features`, predictions have
    features; raises ConfigError for exported networks.
    """
    if not windows:
        return
    wanted = Counter(window.row for window in windows)
    predictions = _predictions(network, catalog, windows, unreadable, features)
    for row, group in groupby(predictions, lambda prediction: prediction.window.row):
        found = list(group)
        if len(found) == wanted[row]:
            yield found


@torch.inference_mode()
def _predictions(
    network: Network, catalog: Catalog, windows: Sequence[Window], unreadable: dict[int, str], features: bool
) -> Iterator[Prediction]:
    """Yield the prediction of each readable window, and add others to `unreadable`."""
    config = network.info.config
    plan = WindowPlan(config, catalog, Shard(), windows)
    loader = VideoLoader(plan, network.device)
    start, broken = time.perf_counter(), {}
    try:
        for step, batch in enumerate(progress.with_progress(loader.epoch(0), len(loader), "predicting (batches)")):
            with _features(network) if features else nullcontext() as found:
                logits_BVK = logits_of_views(network.score, batch, config)
            features_BVTC = torch.cat(found).float().cpu().numpy() if features else None
            if features:
                features_BVTC = features_BVTC.reshape(*batch.clips_BVTCHW.shape[:3], -1)
            score_BK = average(logits_BVK, config.eval.average).cpu().numpy()
            ms = 1000 * (time.perf_counter() - start) / len(plan.at(step))
            frames_BNT = plan.draw(0, step).frames_BVT[:, :: CROPS[config.eval.crops]]
            for place, (window, row) in enumerate(zip(plan.at(step), batch.index_B.tolist(), strict=False)):
                if row == window.row and not np.isfinite(score_BK[place]).all():
                    broken[row] = NOT_FINITE
                elif row == window.row:
                    features_VTC = features_BVTC[place] if features else None
                    yield Prediction(score_BK[place], window, frames_BNT[place], ms, features_VTC)
            start = time.perf_counter()
    finally:
        loader.close()
    unreadable |= broken | {bad.row: bad.reason for bad in loader.unreadable[len(catalog.unreadable) :]}


@contextmanager
def _features(network: Network) -> Iterator[list[Tensor]]:
    """Collect the features [frames, C] that the network computes in the block, averaged over H and W."""
    if not isinstance(network.score, Recognizer):
        raise ConfigError(f"--features: {network.info.weights} is an exported network; name its checkpoint instead")
    found: list[Tensor] = []
    last = getattr(network.score, network.score.trunk[-1])
    handle = last.register_forward_hook(lambda module, inputs, output: found.append(output.mean((2, 3))))
    try:
        yield found
    finally:
        handle.remove()


def predict_video(network: Network, path: str | Path, top_k: int = 5) -> list[tuple[str, float]]:
    """Return the most likely classes of a video with their probabilities, from the views of evaluation.

    Raises DataError if the video cannot be read.
    """
    unreadable: dict[int, str] = {}
    with tempfile.TemporaryDirectory(prefix="predict-") as folder:
        data = network.info.config.data
        catalog = build.scan_videos([absolute(str(path))], Path(folder), data.check, data.frame_pattern)
        found = list(predict(network, catalog, whole_windows(catalog), unreadable))
    reasons = [*unreadable.values(), *(bad.reason for bad in catalog.unreadable)]
    if not found:
        raise DataError(path, reasons[0])
    return [(network.info.name(guess.label), guess.probability) for guess in found[0][0].top(top_k)]
