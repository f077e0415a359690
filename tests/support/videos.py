"""Small videos written with PyAV; each picture carries its number, so that a decoded frame can be identified."""

from __future__ import annotations

import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from benchmarks.harness.numbered_videos import number_in, stamp
from dali_pipes.video.orientation import turned
from dali_pipes.video.pyav import LENIENT_TAGS

__all__ = ["HEIGHT", "WIDTH", "decode_whole", "number_in", "picture", "write_video"]

HEIGHT, WIDTH = 48, 96

_OPTIONS = {  # fast rather than small; keyframes at the given interval only
    "libx264": {"preset": "veryfast", "sc_threshold": "0"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:scenecut=0"},
    "libvpx-vp9": {"cpu-used": "8", "deadline": "realtime"},
}


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Return [H, W, 3] uint8: a moving grey texture with `number` in its top rows."""
    y, x = np.mgrid[:height, :width]
    grey = (96 + 48 * np.sin((x + 2 * number) / 7) + 48 * np.sin((y + x - number) / 5)).astype(np.uint8)
    picture_HWC = np.repeat(grey[:, :, None], 3, axis=2)
    stamp(picture_HWC, number)
    return picture_HWC


def write_video(
    path: Path,
    codec: str,
    frames: int = 48,
    *,
    gop: int = 16,
    b_frames: int = 0,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    options: dict[str, str] | None = None,
    tint: tuple[float, float, float] = (1, 1, 1),
    tags: dict[str, str] | None = None,
    pixel_format: str = "",
    orientation: int = 0,
) -> Path:
    """Encode pictures 0 to frames - 1, the container by the suffix of `path`; return `path`.

    `tint` colours the grey, `orientation` turns the pictures before they are encoded.
    """
    with av.open(str(path), "w") as container:
        container.metadata.update(tags or {})
        stream = container.add_stream(codec, rate=30, options={**_OPTIONS.get(codec, {}), **(options or {})})
        stream.height, stream.width = turned(np.empty(size), orientation).shape
        stream.pix_fmt = pixel_format or ("yuvj420p" if codec == "mjpeg" else "yuv420p")
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.thread_count = 1
        for number in range(frames):
            tinted_HWC = (picture(number, *size) * tint).astype(np.uint8)
            tinted_HWC = np.ascontiguousarray(turned(tinted_HWC, orientation))
            frame = av.VideoFrame.from_ndarray(tinted_HWC, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def remuxed(path: Path, target: Path, **options: str) -> Path:
    """Write the video of a file to another, with options of the muxer; return `target`."""
    with av.open(str(path)) as source, av.open(str(target), "w", options=options) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    return target


def decode_whole(path: Path) -> list[np.ndarray]:
    """Decode a whole file; return [H, W, 3] of every frame."""
    with av.open(str(path), **LENIENT_TAGS) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def damage_packets(path: Path) -> None:
    """Overwrite all packets; size and time stay, so that a scan of the file remains valid."""
    status, content = path.stat(), path.read_bytes()
    start = content.index(b"mdat") + 4
    path.write_bytes(content[:start] + bytes(len(content) - start))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def with_matrix(path: Path, *matrix: int) -> Path:
    """Put a display matrix (its a, b, c, d) into the header of an mp4 file; return `path`."""

    def boxed(*numbers: int) -> bytes:
        a, b, c, d = (number << 16 for number in numbers)
        return struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)

    content = path.read_bytes()
    track = content.index(b"tkhd")
    path.write_bytes(content[:track] + content[track:].replace(boxed(1, 0, 0, 1), boxed(*matrix), 1))
    return path
