"""Build the prediction record of a video from plain values; files, screen output and overlays use it.

`docs/predict.md` explains each value. Everything named start, end or seconds is in seconds from the first frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from dali_pipes.video import times
from dali_pipes.video.orientation import upright_size
from dali_pipes.video.packet_table import Video
from engine.inference.network import Network
from engine.inference.predict import ClassProbability, ClassScores, Prediction
from engine.inference.stream import FramePrediction

NO_ACTION = -1  # label of a segment in which no class reaches --min-score


def of_video(
    network: Network, video: Video, predictions: Sequence[Prediction], top_k: int, min_score: float = 0.0
) -> dict:
    """Build the record of a video that was scored as a whole. Raises DataError if its file can no longer be read."""
    (window,) = _windows(network, video, predictions, top_k, min_score)
    return window | _about(network, video, _clips(network), predictions[0].ms)


def of_parts(
    network: Network, video: Video, predictions: Sequence[Prediction], top_k: int, min_score: float = 0.0
) -> dict:
    """Build the record of a video that was scored window by window. Raises DataError as `of_video`."""
    windows = _windows(network, video, predictions, top_k, min_score)
    edge_W1 = edges(np.array([[window["start"], window["end"]] for window in windows]))
    ms = sum(prediction.ms for prediction in predictions)
    about = _about(network, video, _clips(network), ms)
    return {"segments": named_segments(network, edge_W1, predictions, min_score), "windows": windows, **about}


def of_stream(
    network: Network,
    video: Video,
    frames: Sequence[FramePrediction],
    views: dict,
    seconds: float,
    min_score: float = 0.0,
) -> dict:
    """Build the record of a video that was processed frame by frame in `seconds`. Raises DataError as `of_video`."""
    time_F = times.frame_times(video)
    edge_W1 = np.append(time_F[[frame.frame for frame in frames]], times.duration(time_F, video.fps))
    return {
        "segments": named_segments(network, edge_W1, frames, min_score),
        "frames": len(frames),
        "frames_per_s": round(len(frames) / seconds, 3),
        "latency_ms": latency([frame.ms for frame in frames]),
        **_about(network, video, {"crops": "center", **views}, 1000 * seconds),
    }


def latency(ms_F: Sequence[float]) -> dict:
    """Return median and 99th percentile, without the first value (warm-up) if there are others."""
    p50, p99 = np.percentile(ms_F[1:] or ms_F, [50, 99]).tolist()
    return {"p50": round(p50, 3), "p99": round(p99, 3)}


def _windows(
    network: Network, video: Video, predictions: Sequence[Prediction], top_k: int, min_score: float
) -> list[dict]:
    time_F = times.frame_times(video)
    end_F = np.append(time_F[1:], times.duration(time_F, video.fps))

    def clip(frames_T: np.ndarray) -> dict:
        return {"frames": frames_T.tolist(), "seconds": [_rounded(second) for second in time_F[frames_T]]}

    return [
        {
            "start": _rounded(time_F[first]),
            "end": _rounded(end_F[first + frames - 1]),
            "top": _top(network, prediction, top_k, min_score),
            "clips": [clip(frames_T) for frames_T in prediction.frames_NT],
        }
        for prediction in predictions
        for _, first, frames in [prediction.window]
    ]


def _top(network: Network, prediction: ClassScores, top_k: int, min_score: float) -> list[dict]:
    """Return the best classes that reach `min_score`, or `no action` with the probability of the best class."""
    likely = [guess for guess in prediction.top(top_k) if guess.probability >= min_score]
    return [_named(network, guess) for guess in likely or [ClassProbability(NO_ACTION, prediction.best.probability)]]


def named_segments(
    network: Network, edge_W1: np.ndarray, scores: Sequence[ClassScores], min_score: float
) -> list[dict]:
    """Return the segments with equal top class; score w is valid from `edge_W1[w]` to `edge_W1[w + 1]`."""
    best_W = [score.best for score in scores]
    label_W = [best.label if best.probability >= min_score else NO_ACTION for best in best_W]
    probability_W = [best.probability for best in best_W]
    return [
        {"start": _rounded(start), "end": _rounded(end), **_named(network, ClassProbability(label, probability))}
        for start, end, label, probability in segments(edge_W1, label_W, probability_W)
    ]


def _about(network: Network, video: Video, views: dict, ms: float) -> dict:
    """Return the fields of all records: video, views, weights and time."""
    width, height = upright_size(video.width, video.height, video.orientation)
    return {
        "video": {"width": width, "height": height, "frames": video.frames, "fps": video.fps, "codec": video.codec},
        "views": views | {"short_side": network.info.config.eval.short_side, "size": network.info.config.eval_size},
        "weights": network.info.sha256,
        "ms": round(ms, 3),
    }


def _clips(network: Network) -> dict:
    """Return the settings of the clips of a window, and of the average of their scores."""
    chosen = {name: getattr(network.info.config.eval, name) for name in ("crops", "clips", "sampling", "average")}
    return chosen | {"frames": network.info.config.eval_frames}


def _named(network: Network, guess: ClassProbability) -> dict:
    name = "no action" if guess.label == NO_ACTION else network.info.name(guess.label)
    return {"label": guess.label, "name": name, "probability": guess.probability}


def _rounded(seconds: float) -> float:
    """Round to microseconds, which is finer than the time base of common containers."""
    return round(float(seconds), 6)


class Segment(NamedTuple):
    """A part of a video, from `start` to `end` in seconds, with the top class `label`."""

    start: float
    end: float
    label: int
    probability: float  # mean over the windows or frames


def edges(span_W2: np.ndarray) -> np.ndarray:
    """Return [W + 1] seconds: the start of each window's segment, and the end of the last one.

    `span_W2`: start and end of each window, ascending. Adjacent segments meet midway between the centres of their
    windows.
    """
    middle_W = span_W2.mean(1)
    return np.concatenate([span_W2[:1, 0], (middle_W[:-1] + middle_W[1:]) / 2, span_W2[-1:, 1]])


def segments(edge_W1: np.ndarray, label_W: Sequence[int], probability_W: Sequence[float]) -> list[Segment]:
    """Merge adjacent windows with the same label; `edge_W1` is the result of `edges`."""
    merged = []
    for label, group in groupby(range(len(label_W)), key=lambda place: label_W[place]):
        places = list(group)
        mean = float(np.mean([probability_W[place] for place in places]))
        merged.append(Segment(float(edge_W1[places[0]]), float(edge_W1[places[-1] + 1]), int(label), mean))
    return merged
