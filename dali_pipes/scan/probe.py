"""The scan of one file: what it holds, how it can be cut, or why it cannot be used.

One pass over the packets, which reads every byte and decodes nothing. What that pass cannot be sure of is settled by
decoding (`proof.py`), as is everything where a more thorough check is asked for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import av
import numpy as np
from av.video.stream import VideoStream

from dali_pipes.errors import DataError
from dali_pipes.scan import verify
from dali_pipes.video import bitstream, container, mp4, sample_description
from dali_pipes.video.bitstream import Picture
from dali_pipes.video.packet_table import DISPOSABLE, HIDDEN, INVISIBLE, KEYFRAME, PACKET, Access, Video

if TYPE_CHECKING:
    from configs.sections.data import Check

READER = 2  # rises when something else is made of a file than before, or another one is refused

_MP4_STARTS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")  # kinds of the first box
_TIMED = ("mov", "matroska", "mpegts", "flv", "nut", "ivf")  # formats that keep times of presentation; others guess


def probe(path: str, check: Check = "demux") -> Video:
    """Scan a file. Raises DataError with the path and a reason in plain words where it cannot be used.

    `demux` looks at every packet, `ends` also decodes the first and the last group of pictures, `full` decodes
    everything and proves that cutting gives the same frames.
    """
    status = _regular_file(path)
    try:
        with container.refusals(path):
            return _probe(path, status, check)
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})") from error


def _probe(path: str, status: os.stat_result, check: Check) -> Video:
    video, doubts = _scan(path, status)
    if doubts or video.access == "whole" or check == "full":
        return verify.verify_cuts(video)
    if check == "ends":
        verify.decode_ends(video)
    return video


def reader() -> str:
    """The versions of what reads files here: what was found of a file, refusals above all, holds for these alone."""
    libraries = (f"{name} {'.'.join(map(str, numbers))}" for name, numbers in sorted(av.library_versions.items()))
    return f"{READER}, PyAV {av.__version__}, {', '.join(libraries)}"


def _regular_file(path: str) -> os.stat_result:
    """Its status; pipes, devices and folders are never opened."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(path, error.strerror) from error
    except ValueError as error:
        raise DataError(path, "no file can have such a name") from error  # it holds a zero byte
    if not stat.S_ISREG(status.st_mode):
        raise DataError(path, "is not a file")
    if status.st_size == 0:
        raise DataError(path, "is empty (0 bytes)")
    return status


def _scan(path: str, status: os.stat_result) -> tuple[Video, list[str]]:
    """The video as its packets have it, and the reasons to doubt that cutting gives what a full decode gives."""
    with open(path, "rb") as file:
        moov = _moov(path, file.fileno())
        with container.open_video(path) as (source, stream):
            codec, extradata = _codec(path, stream), stream.codec_context.extradata or b""
            found = collect(codec, extradata, container.packets(source, stream), file.fileno())
            if not found.size:
                raise DataError(path, "its video track holds no pictures")
            description = sample_description.sample_description(path, stream, codec, moov)
            access = _access(codec, extradata, found, description)
            video = _video(path, status, stream, access, description, table(found))
            timed = source.format.name.split(",")[0] in _TIMED
            guessed_times = bool(stream.codec_context.has_b_frames) and not timed
            return video, doubts(codec, guessed_times, found, video.packets)


def _video(
    path: str, status: os.stat_result, stream: VideoStream, access: Access, description: bytes, table: np.ndarray
) -> Video:
    frames = int((table["flags"] & HIDDEN == 0).sum())
    if not frames:
        raise DataError(path, f"none of its {len(table)} pictures is to be shown")
    return Video(
        path=path,
        width=stream.codec_context.width,
        height=stream.codec_context.height,
        frames=frames,
        fps=float(stream.average_rate or stream.guessed_rate or 0),
        codec=_codec(path, stream),
        access=access,
        description=description,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        packets=table,
    )


def _moov(path: str, descriptor: int) -> bytes:
    """An mp4 or mov file's `moov` box, nothing for other containers. Raises where the file is not a whole one."""
    if os.pread(descriptor, 4, 4) not in _MP4_STARTS:
        return b""
    moov, total = b"", os.fstat(descriptor).st_size
    for kind, _, start, end in mp4.walk_file(descriptor):
        if kind in (b"moov", b"mdat") and end > total:
            raise DataError(path, f"is cut short: only {total} of at least {end} bytes are there")
        if kind == b"moov":
            moov = os.pread(descriptor, end - start, start)
    if not moov:
        raise DataError(path, "has no index (moov box): its recording or download ended early")
    return moov


def _codec(path: str, stream: VideoStream) -> str:
    """FFmpeg's name of the codec, whichever decoder it took for it."""
    context = stream.codec_context
    if not context.width or not context.height:
        raise DataError(path, "no picture of it can be decoded")
    return context.codec.canonical_name


def _access(codec: str, extradata: bytes, found: Packets, description: bytes) -> Access:
    """Packets can be read as ranges where they lie in the file in one piece, in the form that mp4 wants."""
    annex_b = codec in ("h264", "hevc") and not bitstream.length_size(extradata, codec)
    if not description:
        return "whole"
    return "demux" if annex_b or min(found.offset) < 0 else "ranged"


_HEADER_BYTES = 64  # how far behind the start of its block (Matroska, Ogg) a packet's own bytes are looked for
_INTRA = ("mjpeg", "prores", "dnxhd")  # every picture stands alone, whatever the container says
_KNOWN = (*bitstream.READERS, *_INTRA, "av1")


@dataclass
class Packets:
    """The packets of one stream as they came, in decode order: P values each."""

    offset: list[int] = field(default_factory=list)  # -1 where the packet is not one piece of the file
    size: list[int] = field(default_factory=list)
    pts: list[int | None] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)  # why cutting is not sure to give what a full decode gives


def collect(codec: str, extradata: bytes, packets: Iterable[av.Packet], descriptor: int) -> Packets:
    """Look at every packet; each is compared byte for byte with the open file."""
    prefix = bitstream.length_size(extradata, codec)
    found = Packets()
    for packet in packets:
        data = bytes(packet)
        picture = _picture(codec, data, prefix, found)
        found.offset.append(_offset(packet.pos, data, descriptor))
        found.size.append(len(data))
        found.pts.append(packet.pts)
        found.flags.append(_flags(codec, packet, picture))
        found.pictures.append(picture)
        if packet.is_corrupt:
            found.doubts.append(f"packet {len(found.size) - 1} is marked as damaged")
    return found


def table(found: Packets) -> np.ndarray:
    """[P] PACKET records; adds to `found.doubts` what the packets do not say clearly."""
    packets = np.zeros(len(found.size), PACKET)
    packets["size"] = found.size
    packets["offset"] = found.offset if min(found.offset) >= 0 else 0
    packets["flags"] = found.flags | _disposable(found.pictures)
    packets["flags"][0] |= KEYFRAME  # there is nothing before it to start from
    packets["order"] = np.arange(len(packets))
    if None in found.pts or len(set(found.pts)) < len(found.pts):
        found.doubts.append("its packets have missing or repeated times")
    else:
        packets["order"][np.argsort(found.pts, kind="stable")] = np.arange(len(packets))
    return packets


def doubts(codec: str, guessed_times: bool, found: Packets, packets: np.ndarray) -> list[str]:
    """Why cutting this stream might not give what a full decode gives; none for the great majority of files.

    `guessed_times`: pictures may be shown in another order than decoded, and the container does not say in which.
    """
    groups = np.append(np.flatnonzero(packets["flags"] & KEYFRAME), len(packets))
    first_group = packets["order"][: groups[1]]
    reasons = {
        "its codec is not one whose pictures are understood here": codec not in _KNOWN,
        "it does not start with a keyframe": not found.flags[0] & KEYFRAME,
        "its first group has leading pictures": (first_group < first_group[0]).any(),
        "its times of presentation are guesses": guessed_times,
        "it carries several parameter sets": len({p.parameters for p in found.pictures if p.parameters}) > 1,
        "it has packets with more than one picture": any(picture.pictures > 1 for picture in found.pictures),
    }
    return found.doubts + [reason for reason, holds in reasons.items() if holds]


def _picture(codec: str, data: bytes, prefix: int, found: Packets) -> Picture:
    read = bitstream.READERS.get(codec)
    if read is None:
        return Picture(1)
    try:
        return read(data, prefix)
    except (ValueError, IndexError) as error:
        found.doubts.append(f"packet {len(found.size)} is malformed ({error})")
        return Picture(1)


def _offset(position: int | None, data: bytes, descriptor: int) -> int:
    """Where the file holds these very bytes; -1 where it does not (transport streams, stripped headers)."""
    if position is None:
        return -1
    skipped = os.pread(descriptor, len(data) + _HEADER_BYTES, position).find(data)
    return position + skipped if skipped >= 0 else -1


def _flags(codec: str, packet: av.Packet, picture: Picture) -> int:
    flags = KEYFRAME if (packet.is_keyframe and picture.resets) or codec in _INTRA else 0
    flags |= DISPOSABLE if packet.is_disposable else 0
    flags |= HIDDEN if packet.is_discard else 0
    return flags | (0 if picture.pictures else HIDDEN | INVISIBLE)


def _disposable(pictures: list[Picture]) -> np.ndarray:
    """[P] uint8: DISPOSABLE where no picture of its own temporal layer refers to it and no layer lies above."""
    top = max(picture.layer for picture in pictures)
    alone = [not picture.referenced and picture.layer == top for picture in pictures]
    return np.array(alone, np.uint8) * DISPOSABLE
