"""When the frames of a video are shown. The scan keeps their order only; this reads their times from the file."""

from __future__ import annotations

import numpy as np

from dali_pipes import container
from dali_pipes.video import Video

USUAL_FPS = 25.0  # of a file that says nothing of its rate


def frame_times(video: Video) -> np.ndarray:
    """[frames] float64, ascending: seconds from the first frame shown.

    Where a file keeps no times, or none that order its frames, they follow from its frame rate. Raises DataError.
    """
    with container.open_video(video.path) as (source, stream):
        ticks_P = [packet.pts for packet in container.packets(source, stream)]
        seconds = float(stream.time_base)
    if None not in ticks_P and len(ticks_P) == len(video.packets) and len(video.decode_position) == video.frames:
        time_F = np.array(ticks_P)[video.decode_position] * seconds
        if (np.diff(time_F) > 0).all():
            return time_F - time_F[0]
    return np.arange(video.frames) / (video.fps or USUAL_FPS)


def duration(time_F: np.ndarray, fps: float) -> float:
    """Seconds until the last frame's time is over."""
    return float(time_F[-1]) + 1 / (fps or USUAL_FPS)
