"""Remove the cropping from a cut's header, so that videos with the same coded size share a decoder."""

from __future__ import annotations

from dali_pipes.cut.cutter import Cut
from dali_pipes.video import mp4
from dali_pipes.video.bitstream import length_size, units
from dali_pipes.video.bitstream.cropping import is_sequence_set, uncropped


def uncrop(cut: Cut) -> bytes:
    """Return the file of a cut without cropping: frames decode with their padding at the right and bottom. The file is
    unchanged if it has no cropping, or if its packets contain parameter sets.
    """
    layout = cut.layout
    changed = uncropped(layout.codec, layout.description) if layout else None
    if changed is None or _has_sequence_set(cut):
        return cut.data
    head = mp4.write(changed.description, changed.width, changed.height, layout.sizes, layout.shown, layout.sync)
    return head + cut.data[layout.starts[0] :]


def _has_sequence_set(cut: Cut) -> bool:
    """Return True if a keyframe of the cut contains a sequence parameter set."""
    layout = cut.layout
    box = b"avcC" if layout.codec == "h264" else b"hvcC"
    prefix = length_size(mp4.configuration(layout.description, box), layout.codec)
    starts, ends = layout.starts[layout.sync], (layout.starts + layout.sizes)[layout.sync]
    return any(
        is_sequence_set(layout.codec, cut.data[first])
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        for first, _ in units(cut.data, prefix, start, end)
    )
