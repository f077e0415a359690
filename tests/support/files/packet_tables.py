"""Videos that have packets but no file, for tests of plans.

In a `stream` each reference picture refers to the one before it, B-pictures to the two references around them, leading
pictures to the last reference of the group before and to their keyframe.
"""

import numpy as np
from hypothesis import strategies as st

from dali_pipes.video.packet_table import DISPOSABLE, HIDDEN, KEYFRAME, PACKET, Video

GROUPS = st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 3), max_size=6)), min_size=1, max_size=5)
"""Arguments of `stream`."""


def stream(groups: list[tuple[int, list[int]]]) -> tuple[Video, list[set[int]]]:
    """Return a video and the references of each packet. A group: its leading pictures and the B-pictures of each P."""
    flags, order, references, shown, last = [], [], [], 0, None

    def add(flag: int, place: int, refers_to: set):
        flags.append(flag)
        order.append(place)
        references.append(refers_to - {None})
        return len(flags) - 1

    for leading, mini_groups in groups:
        before = last
        last = add(KEYFRAME, shown + leading, set())
        for number in range(leading):
            add(DISPOSABLE, shown + number, {before, last})
        shown += leading + 1
        for b_pictures in mini_groups:
            before, last = last, add(0, shown + b_pictures, {last})
            for number in range(b_pictures):
                add(DISPOSABLE, shown + number, {before, last})
            shown += b_pictures + 1
    return video_of(flags, order), references


def video_of(flags: list[int], order: list[int]) -> Video:
    """Return a video of these packets, which has no file."""
    packets = np.zeros(len(flags), PACKET)
    packets["flags"], packets["order"] = flags, order
    frames = sum(not flag & HIDDEN for flag in flags)
    return Video("none", 96, 48, frames, 30.0, "h264", "ranged", b"", 0, 0, packets)
