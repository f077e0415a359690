"""Compute the presentation times of a video's frames, in seconds from the first."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from dali_pipes.storage.opening import open_source
from dali_pipes.video import container, sample_table
from dali_pipes.video.packet_table import Video
from dali_pipes.video.sample_table import Unsettled

USUAL_FPS = 25.0  # assumed if a file has no frame rate
ROUNDING = 1e-6  # seconds


def frame_times(video: Video) -> np.ndarray:
    """Return the time of each frame in seconds from the first: [frames] float64, ascending. Raises DataError.

    If the file has no timestamps, or they contradict the order of its frames, times are computed from the frame rate.
    Folders of frames have none, so USUAL_FPS is assumed.
    """
    if video.access == "frames":
        return np.arange(video.frames) / USUAL_FPS
    ticks_P, tick = _packet_times(video)
    if len(ticks_P) == len(video.packets) and len(video.decode_position) == video.frames:
        ticks_F = ticks_P[video.decode_position]
        if (np.diff(ticks_F) > 0).all():
            return (ticks_F - ticks_F[0]) * tick
    return np.arange(video.frames) / (video.fps or USUAL_FPS)


def _packet_times(video: Video) -> tuple[np.ndarray, float]:
    """Return the presentation time of each packet in ticks, and the seconds per tick; no times if some are missing.

    For H.264 and HEVC in mp4 and mov, the index has both, if it is unambiguous. Other files are read completely,
    because FFmpeg changes timestamps for codecs that do not reorder pictures.
    """
    if video.codec in ("h264", "hevc"):
        with suppress(Unsettled, OSError), open_source(video.path) as source:  # the demuxer will report an OSError
            return sample_table.picture_times(source)
    with container.open_video(video.path) as (opened, stream):
        ticks_P = [packet.pts for packet in container.packets(opened, stream)]
        return np.array([] if None in ticks_P else ticks_P), float(stream.time_base)


def frames_between(time_F: np.ndarray, start_W: np.ndarray, end_W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first frame of each window, and the frame after its last: frames with start <= time < end."""
    return time_F.searchsorted(start_W - ROUNDING), time_F.searchsorted(end_W - ROUNDING)


def duration(time_F: np.ndarray, fps: float) -> float:
    """Return the seconds from the first frame to the end of the last one."""
    return float(time_F[-1]) + 1 / (fps or USUAL_FPS)
