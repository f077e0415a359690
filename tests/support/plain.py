"""Comparison of the frames that the project reads with a plain sequential decode by the same FFmpeg."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import av
import numpy as np

from dali_pipes.cut.cutter import cut
from dali_pipes.cut.decode import decode_frames
from dali_pipes.errors import DataError
from dali_pipes.scan.probe import probe
from dali_pipes.video.packet_table import Video
from dali_pipes.video.pyav import LENIENT_TAGS

SHORT = 64  # frames; of shorter videos each frame is cut alone, of longer ones random clips
CLIP = 8  # frames of a random clip


class Comparison(NamedTuple):
    """The result for one file.

    `outcome`: `identical`, `refused` by the scan, `wrong` (other pixels), `miscounted` (pictures of the plain decode,
    but another number of frames) or `lost` (accepted by the scan, refused when read). `detail`: the access of an
    accepted video, or what happened instead.
    """

    outcome: str
    detail: str


def digest(picture_HWC: np.ndarray) -> bytes:
    """Hash the pixels and the shape of a picture."""
    return hashlib.sha1(repr(picture_HWC.shape).encode() + picture_HWC.tobytes(), usedforsecurity=False).digest()


class Plain(NamedTuple):
    """The result of a plain decode of a file."""

    frames: list[bytes]  # a digest of each frame
    clean: bool  # FFmpeg reported no error, no frame is marked as damaged, all have one size, and there is one


def plain_decode(path: str) -> Plain:
    """Decode a file from start to end on one thread with FFmpeg's defaults.

    The best video stream by FFmpeg is decoded. A packet that cannot be decoded gives no frame.
    """
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as errors:
            digests, sizes, failed = _decode(path)
    finally:
        av.logging.set_level(level)
    return Plain(digests, not failed and not errors and len(sizes) == 1)


def _decode(path: str) -> tuple[list[bytes], set[tuple[int, int]], int]:
    """Return digests and sizes of all frames, and how many packets failed or frames are damaged."""
    digests, sizes, failed = [], set(), 0
    for frame in plain_frames(path):
        if frame is None:
            failed += 1
            continue
        digests.append(digest(frame.to_ndarray(format="rgb24")))
        sizes.add((frame.width, frame.height))
        failed += frame.is_corrupt
    return digests, sizes, failed


def plain_frames(path: str) -> Iterator[av.VideoFrame | None]:
    """Yield the frames of a plain decode, and None for a packet that cannot be decoded."""
    with av.open(path, **LENIENT_TAGS) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.FFmpegError:
                yield None


def compare(path: str, check: str, draws: int = 20, *, most: int = SHORT) -> Comparison:
    """Scan a file and compare its frames with the plain decode's.

    Of a video of up to SHORT frames each is cut alone, or `most` of them; of longer ones `draws` clips are cut.
    """
    try:
        video = probe(path, check)
    except DataError as error:
        return Comparison("refused", error.reason_for(path))
    whole = plain_decode(path).frames
    wrong, missing, lost = [], [], Counter()
    for frames in clips(video, draws, most):
        try:
            pixels = decode_frames(cut(video, frames), path)
        except DataError as error:
            lost[error.reason_for(path)] += 1
            continue
        for frame, picture in zip(frames.tolist(), map(digest, pixels), strict=True):
            if picture not in whole:
                missing.append(frame)
            elif frame >= len(whole) or picture != whole[frame]:
                wrong.append(frame)
    if video.frames != len(whole) and not missing:
        return Comparison("miscounted", f"{video.access}: {video.frames} frames instead of {len(whole)}")
    if wrong or missing:
        return Comparison("wrong", f"{video.access}: frames {sorted({*wrong, *missing})[:8]} of {video.frames} differ")
    if lost:
        return Comparison("lost", f"{video.access}: {lost.most_common(1)[0]}")
    return Comparison("identical", video.access)


def clips(video: Video, draws: int, most: int = SHORT) -> list[np.ndarray]:
    """Return the frames of the clips to compare: frames alone, or random clips of a longer video."""
    rng = np.random.default_rng(0)
    if video.frames <= SHORT:
        alone = np.arange(video.frames)
        return [np.array([frame]) for frame in (alone if most >= len(alone) else rng.choice(alone, most, False))]
    return [rng.integers(0, video.frames, CLIP) for _ in range(draws)]
