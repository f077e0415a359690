"""Uncrop a cut: give a decoder the coded size of its pictures, so that videos of many sizes share a decoder."""

from __future__ import annotations

from dali_pipes.cut.cutter import Cut
from dali_pipes.video import mp4
from dali_pipes.video.bitstream import length_size, units
from dali_pipes.video.bitstream.cropping import is_sequence_set, uncropped


def uncrop(cut: Cut) -> bytes:
    """Return the file of a cut whose pictures decode with their padding at the right and at the bottom; the file as it
    is, if it has no such padding, or brings parameter sets of its own in its packets.
    """
    layout = cut.layout
    changed = uncropped(layout.codec, layout.description) if layout else None
    if changed is None or _has_sequence_set(cut):
        return cut.data
    head = mp4.write(changed.description, changed.width, changed.height, layout.sizes, layout.shown, layout.sync)
    return head + cut.data[layout.starts[0] :]


def _has_sequence_set(cut: Cut) -> bool:
    """Tell if a keyframe of the cut has a sequence parameter set."""
    layout = cut.layout
    box = b"avcC" if layout.codec == "h264" else b"hvcC"
    prefix = length_size(mp4.configuration(layout.description, box), layout.codec)
    starts, ends = layout.starts[layout.sync], (layout.starts + layout.sizes)[layout.sync]
    return any(
        is_sequence_set(layout.codec, cut.data[first])
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        for first, _ in units(cut.data, prefix, start, end)
    )
