"""Frames that cost less: a training draw is moved a little towards the keyframe that it is decoded from (clip.snap).

A frame costs all pictures from its keyframe up to itself; those just before it cost less and show nearly the same. But
moved draws are no longer even over their segment, which is why nothing is moved unless a recipe asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dali_pipes.video.packet_table import Joined, Video


def towards_keyframes(videos: Sequence[Video], frames_BT: np.ndarray, lowest_BT: np.ndarray, most: int) -> np.ndarray:
    """[B, T]: each frame moved back to the last keyframe before it, or as far towards that as `most` frames.

    No frame is moved below its own `lowest_BT`. No video may be one that is read whole: its packets and its frames may
    differ in number. What becomes of a video's frames does not depend on the others.
    """
    table = Joined(videos)
    first_B1 = table.first_frames[:, None]
    wanted_BT = frames_BT + first_B1
    earliest_BT = np.maximum(lowest_BT + first_B1, wanted_BT - most)
    starts = np.append(-1, np.flatnonzero(np.isin(table.decode_position, table.groups)))  # -1: behind no keyframe
    keyframe_BT = starts[starts.searchsorted(wanted_BT, "right") - 1]
    return np.maximum(keyframe_BT, earliest_BT) - first_B1
