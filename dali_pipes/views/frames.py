"""Frame sampling: choose the frames of a clip. This module has no files, pixels or randomness.

Frames are numbered from 0 in display order. The rules are MIT TSM's, minus one, since MIT counts from 1. If a video has
fewer frames than a clip, its frames are repeated evenly under every rule; MIT repeats the first frame.

`N` clips of one video · `T` frames per clip.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from configs.schema import WINDOW
from dali_pipes.video.packet_table import Joined, Video


def uniform_draw(frames_B: np.ndarray, draw_BT: np.ndarray) -> np.ndarray:
    """Choose [B, T], one frame of each of T equal segments, by `draw_BT` in [0, 1). MIT's training rule.

    Segments are n // T frames long, so the last n % T frames are never drawn.
    """
    T = draw_BT.shape[1]
    chosen_BT = segment_starts(frames_B, T) + (draw_BT * (frames_B[:, None] // T)).astype(np.int64)
    return _repeat_if_short(frames_B, chosen_BT[:, None])[:, 0]


def segment_starts(frames_B: np.ndarray, T: int) -> np.ndarray:
    """Compute [B, T], the first frame of each segment of `uniform_draw`."""
    return np.arange(T) * (frames_B[:, None] // T)


def uniform_clips(frames_B: np.ndarray, T: int, clips: int) -> np.ndarray:
    """Choose [B, N, T], N fixed clips of one frame per segment; the clips are offset by 1/N of a segment.

    The first clip uses the centres. One clip is MIT's test rule, two are its "twice sample" (centres, left edges).
    """
    place_N = (clips + 2 * np.arange(clips)) % (2 * clips) / (2 * clips)
    length_B11 = (frames_B / T)[:, None, None]
    return (length_B11 * place_N[:, None] + length_B11 * np.arange(T)).astype(np.int64)


def dense_draw(frames_B: np.ndarray, T: int, draw_B: np.ndarray) -> np.ndarray:
    """Choose [B, T], every (64 // T)-th frame of a window positioned by `draw_B` in [0, 1). MIT's training rule.

    As in MIT's code, the last position is never used, and a window longer than the video wraps around.
    """
    start_B = (draw_B * _last_start(frames_B)).astype(np.int64)
    return _dense(frames_B, T, start_B[:, None])[:, 0]


def dense_clips(frames_B: np.ndarray, T: int, clips: int) -> np.ndarray:
    """Choose [B, N, T], N windows at even distances from the first to the last position (N = 1: the middle). MIT tests
    with 10.
    """
    step_N, steps = (np.arange(clips), clips - 1) if clips > 1 else (np.array([1]), 2)
    start_BN = _last_start(frames_B)[:, None] * step_N // steps
    return _dense(frames_B, T, start_BN)


def _last_start(frames_B: np.ndarray) -> np.ndarray:
    return np.maximum(frames_B - WINDOW, 0)


def _dense(frames_B: np.ndarray, T: int, start_BN: np.ndarray) -> np.ndarray:
    stride = max(WINDOW // T, 1)
    chosen_BNT = (start_BN[:, :, None] + stride * np.arange(T)) % frames_B[:, None, None]
    return _repeat_if_short(frames_B, chosen_BNT)


def _repeat_if_short(frames_B: np.ndarray, chosen_BNT: np.ndarray) -> np.ndarray:
    """For videos shorter than a clip, replace the chosen frames by all of their frames, evenly repeated."""
    T = chosen_BNT.shape[2]
    short_B = frames_B < T
    if short_B.any():
        chosen_BNT[short_B] = uniform_clips(frames_B[short_B], T, clips=1)
    return chosen_BNT


def towards_keyframes(videos: Sequence[Video], frames_BT: np.ndarray, lowest_BT: np.ndarray, most: int) -> np.ndarray:
    """Move each frame [B, T] back towards the preceding keyframe, by at most `most` frames.

    No frame is moved below its `lowest_BT`. Videos that are read whole are not allowed, since their numbers of packets
    and frames may differ. The result for one video does not depend on the others.
    """
    table = Joined(videos)
    first_B1 = table.first_frames[:, None]
    wanted_BT = frames_BT + first_B1
    earliest_BT = np.maximum(lowest_BT + first_B1, wanted_BT - most)
    starts = np.append(-1, np.flatnonzero(np.isin(table.decode_position, table.groups)))  # -1: no keyframe before it
    keyframe_BT = starts[starts.searchsorted(wanted_BT, "right") - 1]
    return np.maximum(keyframe_BT, earliest_BT) - first_B1
