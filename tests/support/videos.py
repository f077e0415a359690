"""Small videos written with PyAV; each picture carries its number, so that a decoded frame can be identified."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

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


def decode_upright(path: Path) -> list[np.ndarray]:
    """Decode a whole file, with each picture rotated as its file says; mirrors are not applied."""
    with av.open(str(path), **LENIENT_TAGS) as container:
        container.streams.video[0].codec_context.thread_count = 1
        turned = [(frame.to_ndarray(format="rgb24"), frame.rotation) for frame in container.decode(video=0)]
        return [np.rot90(picture, rotation // 90) for picture, rotation in turned]


def with_matrix(path: Path, *matrix: int) -> Path:
    """Put a display matrix (its a, b, c, d) into the header of an mp4 file; return `path`."""

    def boxed(*numbers: int) -> bytes:
        a, b, c, d = (number << 16 for number in numbers)
        return struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)

    content = path.read_bytes()
    track = content.index(b"tkhd")
    path.write_bytes(content[:track] + content[track:].replace(boxed(1, 0, 0, 1), boxed(*matrix), 1))
    return path


MIXED_FRAMES = 12
_INTERLACED = {"x264-params": "interlaced=1"}

MIXED_KINDS: dict[str, tuple[str, dict]] = {  # file -> encoder, and settings of `write_video`
    "h264.mp4": ("libx264", {"gop": 4, "b_frames": 2}),
    "hevc.mp4": ("libx265", {"gop": 4}),
    "vp9.mp4": ("libvpx-vp9", {"gop": 4}),
    "vp9.webm": ("libvpx-vp9", {"gop": 6, "size": (64, 80)}),
    "mjpeg.avi": ("mjpeg", {}),
    "ten_bit.mp4": ("libx264", {"gop": 4, "pixel_format": "yuv420p10le"}),
    "odd.mp4": ("libvpx-vp9", {"gop": 4, "size": (51, 97)}),
    "interlaced.mp4": ("libx264", {"gop": 4, "options": _INTERLACED}),
    "rotated.mp4": ("libvpx-vp9", {"gop": 4}),
    "mpeg4.avi": ("mpeg4", {"gop": 4}),
}
FOLDER = "folder"  # a folder of JPEG pictures
SPOILED, GONE = "spoiled.mp4", "gone.mp4"  # a packet that no decoder reads; a file that is deleted after the scan


def write_mixed_set(folder: Path) -> str:
    """Write a video of each kind, and two more that are made unreadable after the scan; return the list."""
    for name, (codec, settings) in MIXED_KINDS.items():
        write_video(folder / name, codec, MIXED_FRAMES, **settings)
    with_matrix(folder / "rotated.mp4", 0, 1, -1, 0)
    for name in (SPOILED, GONE):
        write_video(folder / name, "libvpx-vp9", MIXED_FRAMES, gop=4)
    (folder / FOLDER).mkdir()
    for number in range(MIXED_FRAMES):
        Image.fromarray(picture(number)).save(folder / FOLDER / f"img_{number + 1:05}.jpg")
    lines = [f"{name} {number % 3}" for number, name in enumerate([*MIXED_KINDS, FOLDER, SPOILED, GONE])]
    (folder / "all.list").write_text("\n".join(lines))
    return str(folder / "all.list")
