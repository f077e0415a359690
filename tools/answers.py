"""What is answered of one video, in plain values: files, screen and labelled videos are all made from it.

start, end           seconds from the first frame
top                  the likeliest classes: [{label, name, probability}, ...], the likeliest first
clips                the frames that were looked at, by number from 0 and by time: [{frames, seconds}, ...]
windows, segments    of a video that was looked at part by part: what was found in each window, [{start, end, top,
                     clips}, ...], and where which class is the likeliest, [{start, end, label, ...}, ...]
video, views         what the file holds; how it was looked at (the recipe's eval section)
weights, ms          sha256 of the network's file; milliseconds that the answer took
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from configs import Config
from dali_pipes import times
from dali_pipes.video import Video
from engine import timeline
from engine.predict import Guess, Network, Prediction
from engine.timeline import Segment


def of_video(network: Network, video: Video, predictions: Sequence[Prediction], top_k: int) -> dict:
    """The answer to a video that was scored as a whole. Raises DataError where the file is not what it was."""
    (window,) = _windows(network, video, predictions, top_k)
    return window | _about(network, video, predictions)


def of_parts(network: Network, video: Video, predictions: Sequence[Prediction], top_k: int) -> dict:
    """The answer to a video that was scored window by window. Raises DataError where the file is not what it was."""
    windows = _windows(network, video, predictions, top_k)
    edge_W1 = timeline.edges(np.array([[window["start"], window["end"]] for window in windows]))
    best = [prediction.top(1)[0] for prediction in predictions]
    merged = timeline.segments(edge_W1, [guess.label for guess in best], [guess.probability for guess in best])
    return {"segments": segments(network, merged), "windows": windows, **_about(network, video, predictions)}


def segments(network: Network, found: Sequence[Segment]) -> list[dict]:
    """Segments, with the names of their classes."""
    return [
        {"start": _rounded(start), "end": _rounded(end), **_named(network, Guess(label, probability))}
        for start, end, label, probability in found
    ]


def _windows(network: Network, video: Video, predictions: Sequence[Prediction], top_k: int) -> list[dict]:
    time_F = times.frame_times(video)
    end_F = np.append(time_F[1:], times.duration(time_F, video.fps))

    def clip(frames_T: np.ndarray) -> dict:
        return {"frames": frames_T.tolist(), "seconds": [_rounded(second) for second in time_F[frames_T]]}

    return [
        {
            "start": _rounded(time_F[first]),
            "end": _rounded(end_F[first + frames - 1]),
            "top": [_named(network, guess) for guess in prediction.top(top_k)],
            "clips": [clip(frames_T) for frames_T in prediction.frames_NT],
        }
        for prediction in predictions
        for _, first, frames in [prediction.window]
    ]


def _about(network: Network, video: Video, predictions: Sequence[Prediction]) -> dict:
    """What every answer says of its video and of how it came about."""
    names = ("width", "height", "frames", "fps", "codec")
    return {
        "video": {name: getattr(video, name) for name in names},
        "views": _views(network.config),
        "weights": network.sha256,
        "ms": round(sum(prediction.ms for prediction in predictions), 3),
    }


def _views(config: Config) -> dict:
    names = ("crops", "clips", "sampling", "short_side", "average")
    chosen = {name: getattr(config.eval, name) for name in names}
    return chosen | {"frames": config.eval_frames, "size": config.eval_size}


def _named(network: Network, guess: Guess) -> dict:
    return {"label": guess.label, "name": network.name(guess.label), "probability": guess.probability}


def _rounded(seconds: float) -> float:
    """To microseconds, which is finer than any container's clock that matters."""
    return round(float(seconds), 6)
