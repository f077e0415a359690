"""Other containers and layouts for the packets of a cut, for decoders that do not accept the standard one."""

from __future__ import annotations

import io
from collections.abc import Callable

import av
import numpy as np

from benchmarks.nvdec.streams import Stream
from dali_pipes.cut import cutter
from dali_pipes.video import mp4
from dali_pipes.video.packet_table import Video

_TAIL = 4  # pictures put behind the last: what a decoder may hold back for reordering


def join(video: Video, clips: list[np.ndarray]) -> Stream:
    """Join clips of videos with the same encoding into one stream, so that a decoder is opened once for all of them."""
    cuts = [cutter.cut(video, frames) for frames in clips]
    packets, positions, first = [], [], 0
    for small in cuts:
        packets += [(data, first + shown, key) for data, shown, key in _packets(small.data)]
        positions.append(first + small.positions)
        first += small.packets
    return Stream(_write(video, packets), np.concatenate(positions), np.concatenate(clips), len(packets))


def _packets(data: bytes) -> list[tuple[bytes, int, bool]]:
    """Return (content, presentation index, is keyframe) of each packet of a cut, in decode order."""
    with av.open(io.BytesIO(data)) as container:
        return [(bytes(p), p.pts // mp4.DURATION, p.is_keyframe) for p in container.demux(video=0) if p.size]


def _write(video: Video, packets: list[tuple[bytes, int, bool]]) -> bytes:
    contents, shown, key = zip(*packets, strict=True)
    sizes = np.fromiter(map(len, contents), np.int64)
    head = mp4.write(video.description, video.width, video.height, sizes, np.array(shown), np.flatnonzero(key))
    return head + b"".join(contents)


def _tailed(video: Video, data: bytes) -> bytes:
    """Append copies of the cut's first keyframe to its end."""
    packets = _packets(data)
    tail = [(packets[0][0], len(packets) + place, True) for place in range(_TAIL)]
    return _write(video, packets + tail)


def _remuxed(format: str, *, from_zero: bool = True, **options: str) -> Callable[[Video, bytes], bytes]:
    """Return a writer that uses FFmpeg. `from_zero`: presentation times start at zero; otherwise decoding times do."""

    def write(video: Video, data: bytes) -> bytes:
        target = io.BytesIO()
        with av.open(io.BytesIO(data)) as source, av.open(target, "w", format=format, options=options) as out:
            stream = source.streams.video[0]
            copy = out.add_stream_from_template(stream)
            packets = [packet for packet in source.demux(stream) if packet.size]
            later = 0 if from_zero else -packets[0].dts
            for packet in packets:
                packet.pts += later
                packet.dts += later
                packet.stream = copy
                out.mux(packet)
        return target.getvalue()

    return write


VARIANTS: dict[str, Callable[[Video, bytes], bytes]] = {
    "tail": _tailed,
    "mp4-edit-list": _remuxed("mp4"),
    "mp4-lead": _remuxed("mp4", from_zero=False, use_editlist="0"),
    "mp4-fragmented": _remuxed("mp4", movflags="frag_keyframe+empty_moov+default_base_moof"),
    "matroska": _remuxed("matroska", from_zero=False),
}
IN_BAND = ("h264", "hevc")  # codecs whose parameter sets may stand before every keyframe, as in the streams below


def variants(codec: str) -> dict[str, Callable[[Video, bytes], bytes]]:
    """Return all variants for a codec."""
    if codec not in IN_BAND:
        return VARIANTS
    return VARIANTS | {"mpegts": _remuxed("mpegts", from_zero=False), "annex-b": _remuxed(codec)}
