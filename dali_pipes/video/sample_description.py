"""Get the sample description (`stsd`) of a stream: the box of an mp4 with the decoder configuration.

It is copied from mp4 and mov files; for other containers, the scan creates it.
"""

from __future__ import annotations

import io
import struct

import av
from av.video.stream import VideoStream

from dali_pipes.video import container, mp4

_FIRST_ENTRY = 16  # bytes of a `stsd` box before its first entry
_NO_COLOURS = (2, 2, 2, 0)  # unspecified in ITU-T H.273, and in FFmpeg
_TABLE = (b"mdia", b"minf", b"stbl", b"stsd")
# PyAV cannot mux these, because other libraries decode them.
_BY_HAND = {
    "vp8": (b"vp08", None),
    "av1": (b"av01", b"av1C"),
}


def stored(moov: bytes, stream: VideoStream) -> bytes:
    """Return the `stsd` box of a stream in the index of an mp4, or empty bytes."""
    return mp4.find_box(mp4.track(moov, stream.id), _TABLE) or b""


def sample_description(path: str, stream: VideoStream, codec: str, description: bytes) -> bytes:
    """Return the stream's `stsd` box if it has exactly one entry, otherwise empty bytes. `description`: the result of
    `stored`.

    Its colours are those of FFmpeg's demuxer: the boxes of a file may contradict each other, and FFmpeg's muxer does
    not write the colours of all other containers.
    """
    if description and description[12:16] != b"\0\0\0\1":
        return b""
    if not description and codec in _BY_HAND:
        kind, configuration = _BY_HAND[codec]
        description = _entry(kind, configuration, stream)
    description = description or _muxed(path)
    colours = _colours(stream)
    if not description or colours == (mp4.colours(description) or _NO_COLOURS):
        return description
    return mp4.with_colours(description, *colours)


def _colours(stream: VideoStream) -> tuple[int, int, int, int]:
    """Return the stream's colours as `mp4.colours` does."""
    context = stream.codec_context
    return tuple(map(int, (context.color_primaries, context.color_trc, context.colorspace, context.color_range)))


def is_encrypted(stream: VideoStream, description: bytes) -> bool:
    """Return True if the container says that the stream is encrypted. `description`: the result of `stored`."""
    kinds = {kind for kind, *_ in mp4.walk_boxes(description[_FIRST_ENTRY:])}
    return "enc_key_id" in stream.metadata or bool(kinds & {b"encv", b"drmi"})


def _entry(kind: bytes, configuration: bytes | None, stream: VideoStream) -> bytes:
    """Make a visual sample entry (ISO/IEC 14496-12 12.1.3) with the stream's extradata as its configuration box."""
    context = stream.codec_context
    extra = mp4.box(configuration, context.extradata or b"") if configuration else b""
    fixed = struct.pack(">6xH16xHHIII H32sHh", 1, context.width, context.height, 72 << 16, 72 << 16, 0, 1, b"", 24, -1)
    return mp4.box(b"stsd", struct.pack(">II", 0, 1), mp4.box(kind, fixed, extra))


def _muxed(path: str) -> bytes:
    """Let FFmpeg mux the stream's first packet, and return the `stsd` box that it writes."""
    target = io.BytesIO()
    with container.open_video(path) as (source, stream):
        packet = next(container.packets(source, stream))
        try:
            with av.open(target, "w", format="mp4") as small:
                packet.stream = small.add_stream_from_template(stream)
                packet.pts = packet.dts = 0
                small.mux(packet)
        except (av.FFmpegError, ValueError):
            return b""
    content = target.getvalue()
    return mp4.find_box(content, (b"moov", b"trak", *_TABLE)) or b""
