"""Write the features of videos, for retrieval, clustering or another classifier.

A .npz of plain arrays, one row per window (per video without --sliding), in the order of the predictions:

    path            text [N]
    start, end      float64 [N], seconds
    clip            float32 [N, C], the mean over the views and frames of a window
    frame           float32 [N, V, T, C], of each frame of each view, averaged over H and W
    frame_numbers   int64 [N, clips, T]; all crops of a clip have the same

Shapes: N windows, V views, T frames, C channels before the classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.inference.predict import Prediction
from engine.outputs import Outputs


class FeatureFile:
    """Collects the features of predictions and writes them at the end."""

    def __init__(self, path: Path, outputs: Outputs):
        self.path, self._outputs = path, outputs
        self._paths: list[str] = []
        self._predictions: list[Prediction] = []
        self._seconds: list[tuple[float, float]] = []

    def add(self, path: str, predictions: Sequence[Prediction], seconds: Sequence[tuple[float, float]]) -> None:
        """Add the windows of a video, with the start and end of each."""
        self._paths += [path] * len(predictions)
        self._predictions += predictions
        self._seconds += seconds

    def save(self) -> None:
        """Write the file; no file is written without predictions."""
        if not self._predictions:
            return
        frame_NVTC = np.stack([prediction.features_VTC for prediction in self._predictions])
        start_N, end_N = np.array(self._seconds).T
        with self._outputs.replacing(self.path, "wb") as file:
            np.savez(
                file,
                path=np.array(self._paths, dtype=str),
                start=start_N,
                end=end_N,
                clip=frame_NVTC.mean((1, 2)),
                frame=frame_NVTC,
                frame_numbers=np.stack([prediction.frames_NT for prediction in self._predictions]),
            )
