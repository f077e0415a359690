"""Generated videos with the frame number drawn into each frame, so that a decoded frame can be identified.

They show a natural-looking scene through a window that moves one pixel per frame; sizes are like those of real video.
"""

from __future__ import annotations

import os
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Literal

import av
import numpy as np

from configs import Config
from tools.data.demo import draw_scene

BITS, BLOCK = 10, 8  # a number is a row of black and white squares of BLOCK pixels, which any lossy codec keeps

ENCODERS = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "mjpeg": "mjpeg", "mpeg4": "mpeg4"}
_TAGS = {"untagged": (2, 0), "bt709": (1, 1), "full_range": (5, 2)}  # FFmpeg's numbers: colour space, colour range


@dataclass(frozen=True)
class VideoSpec:
    """The complete specification of a generated video file."""

    codec: Literal["h264", "hevc", "vp9", "mjpeg", "mpeg4"]
    interval: int = 1  # frames from one keyframe to the next
    b_frames: int = 0
    width: int = 352
    height: int = 256
    frames: int = 300
    colours: Literal["untagged", "bt709", "full_range"] = "untagged"  # the colour flags of the stream
    kind: Literal["plain", "interlaced", "10bit", "hidden"] = "plain"  # hidden: as `hide_keyframes` makes it (VP9)

    @property
    def name(self) -> str:
        tags = [tag for tag in (self.colours, self.kind) if tag not in ("untagged", "plain")]
        return "-".join([f"{self.codec}-i{self.interval}-b{self.b_frames}-{self.width}x{self.height}", *tags])

    def path(self, folder: Path) -> Path:
        return folder / f"{self.name}.mp4"


def write_videos(folder: Path, specs: list[VideoSpec]) -> None:
    """Write the videos that do not exist yet, on all cores."""
    folder.mkdir(parents=True, exist_ok=True)
    for side in {_scene_side(spec) for spec in specs if not spec.path(folder).exists()}:
        _scene(side)  # drawn once, not by every thread
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(lambda spec: _write(spec.path(folder), spec), dict.fromkeys(specs)))


def _write(path: Path, spec: VideoSpec) -> None:
    if path.exists():
        return
    unfinished = path.with_suffix(".part")
    _encode(unfinished, spec)
    if spec.kind == "hidden":
        plain = unfinished.rename(path.with_suffix(".plain"))
        hide_keyframes(plain, unfinished, "mp4")
        plain.unlink()
    unfinished.rename(path)


def _encode(path: Path, spec: VideoSpec) -> None:
    twice = spec.kind == "hidden"  # the frame of a keyframe is encoded twice, since the keyframe will be hidden
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(ENCODERS[spec.codec], rate=30, options=_options(spec))
        stream.width, stream.height = spec.width, spec.height
        stream.pix_fmt = "yuvj420p" if spec.codec == "mjpeg" else {"10bit": "yuv420p10le"}.get(spec.kind, "yuv420p")
        encoder = stream.codec_context
        encoder.colorspace, encoder.color_range = _TAGS[spec.colours]
        encoder.gop_size, encoder.thread_count = spec.interval + twice, 1
        for number in range(spec.frames):
            for _ in range(2 if twice and number % spec.interval == 0 else 1):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(spec, number), format="rgb24")))
        container.mux(stream.encode())


def hide_keyframes(source: Path, target: Path, container: str) -> None:
    """Rewrite a VP9 video so that its keyframes are hidden: each shares a packet with the following frame.

    Encoders make such superframes (annex B of the VP9 specification) for references to future frames.
    """
    with av.open(str(source)) as old, av.open(str(target), "w", format=container) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        hidden, shown = b"", 0
        for packet in old.demux(video=0):
            data = bytes(packet)
            if packet.is_keyframe:
                hidden = bytes([data[0] & ~2]) + data[1:]  # show_frame
            elif data:
                index = struct.pack("<BIIB", 0xD9, len(hidden), len(data), 0xD9)
                merged = av.Packet(hidden + data + index if hidden else data)
                merged.stream, merged.pts, merged.dts, merged.is_keyframe = stream, shown, shown, bool(hidden)
                merged.time_base, merged.duration = Fraction(1, 30), 1  # FFmpeg 9 needs a duration
                new.mux(merged)
                hidden, shown = b"", shown + 1


def _options(spec: VideoSpec) -> dict[str, str]:
    """Return encoder options that place keyframes and B-frames exactly as specified; groups are open, as by default."""
    exact = f"keyint={spec.interval}:min-keyint={spec.interval}:scenecut=0:bframes={spec.b_frames}:b-adapt=0"
    resilient = {"error-resilient": "default"} if spec.kind == "hidden" else {}  # of unshown frames
    if spec.kind == "interlaced":
        exact += ":interlaced=1"
    return {
        "h264": {"preset": "veryfast", "x264-params": exact},
        "hevc": {"preset": "ultrafast", "x265-params": f"log-level=none:{exact}"},
        "vp9": {"deadline": "realtime", "cpu-used": "8", "keyint_min": str(spec.interval), **resilient},
        "mjpeg": {},
        "mpeg4": {"qscale": "4", "flags": "qscale"},
    }[spec.codec]


def picture(spec: VideoSpec, number: int) -> np.ndarray:
    """Return frame `number` as [H, W, 3] uint8."""
    scene = _scene(_scene_side(spec))
    shown = scene[: spec.height, number : number + spec.width].copy()
    stamp(shown, number)
    return shown


def _scene_side(spec: VideoSpec) -> int:
    """Return the side of the scene in pixels, equal for widths that are coded alike."""
    return max(-(-spec.width // 16) * 16 + spec.frames, spec.height)


@cache
def _scene(side: int) -> np.ndarray:
    """Return the scene as [side, side, 3] uint8, drawn at twice the size, for colours as smooth as in real video."""
    scene = draw_scene(np.random.default_rng(0), 2 * side)
    return scene.reshape(side, 2, side, 2, 3).mean((1, 3)).astype(np.uint8)


def stamp(picture_HWC: np.ndarray, number: int) -> None:
    """Write a number below 2**BITS into the top rows of a picture."""
    for bit in range(BITS):
        picture_HWC[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 * (number >> bit & 1)


def number_in(picture_HWC: np.ndarray) -> int:
    """Return the number drawn into a frame, also after encoding and decoding."""
    row = picture_HWC[2 : BLOCK - 2, : BITS * BLOCK].reshape(BLOCK - 4, BITS, BLOCK, 3)[:, :, 2:-2].mean((0, 2, 3))
    return int(((row > 128) << np.arange(BITS)).sum())


SET = "video."  # prefix of the words that describe a generated set
KINDS = {"interval": int, "frames": int, "width": int, "height": int, "b_frames": int, "codec": str, "count": int}
COUNT = 64  # files of a set; all are the same video, since the content does not change the cost of decoding


def with_set(config: Config, folder: Path, words: dict[str, str]) -> Config:
    """Return `config` with a generated set for `words`, such as {"interval": "16"}; unchanged if there are none."""
    if not words:
        return config
    values = {name: KINDS[name](value) for name, value in words.items()}
    count = values.pop("count", COUNT)
    spec = VideoSpec(**{"codec": "h264", "interval": 16, **values})
    write_videos(folder, [spec])
    files = folder / f"{spec.name}-{spec.frames}f"
    files.mkdir(exist_ok=True)
    classes = config.model.num_classes
    lines = []
    for number in range(count):
        lines.append(f"{number:06}.mp4 {number % classes}")
        if not (file := files / f"{number:06}.mp4").exists():
            os.link(spec.path(folder), file)
    listing = files / f"{count}.list"
    listing.write_text("\n".join(lines) + "\n")
    return replace(config, data=replace(config.data, root=str(files), train=str(listing), class_names="", val=""))
