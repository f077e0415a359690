"""Scan one file: find its packets and how it can be cut, or the reason why it is unreadable.

One pass over the packets (`packets.py`) reads every byte and decodes nothing, except the first picture of a file that
may be rotated. If doubts remain, or a more thorough check is requested, the file is decoded and compared with its cuts
(`verify.py`). The weakest check reads only the index of an mp4 or mov file (`index.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from zlib import crc32

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from dali_pipes.errors import DataError, Inaccessible
from dali_pipes.scan import verify
from dali_pipes.scan.index import Excerpt, packets_of_index
from dali_pipes.scan.packets import Packets, collect, doubts, table
from dali_pipes.storage.opening import open_source
from dali_pipes.storage.sources import ByteSource
from dali_pipes.video import bitstream, container, mp4, mpegts, sample_description
from dali_pipes.video.orientation import stream_orientation
from dali_pipes.video.packet_table import HIDDEN, Access, Video
from dali_pipes.video.sample_table import Unsettled

if TYPE_CHECKING:
    from configs.sections.data import Check

Result = TypeVar("Result")
READER = 11  # increase it if the result of a scan changes for any file

_PICTURE_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif")  # of HEIF (ISO/IEC 23008-12)
# Formats that store presentation timestamps; for others FFmpeg guesses them.
_TIMED = ("mov", "matroska", "mpegts", "flv", "nut", "ivf")


class Found(NamedTuple):
    """A video, the check that it passed, and the reason if a more thorough check than requested was needed."""

    video: Video
    check: Check
    reason: str = ""


def probe(path: str, check: Check = "demux") -> Video:
    """Return the video of `scan_file`."""
    return scan_file(path, check).video


def scan_file(path: str, check: Check) -> Found:
    """Scan a file or a member of a shard. Raises DataError with path and reason if it is unreadable.

    The check `index` reads only the index of mp4 and mov files; for other files, it equals `demux`, which reads the
    headers of every packet. `ends` also decodes the first and last group of pictures; `full` decodes everything and
    compares it with cuts.
    """
    try:
        with open_source(path) as source, container.refusals(path):
            if check != "index":
                return Found(_probe(source, check), check)
            try:
                return Found(_scan(Excerpt(source), _by_index), "index")
            except Unsettled as unsettled:
                reason = str(unsettled)
            except DataError:  # raised again below, unless FFmpeg needed more than the index
                reason = "its index alone cannot be read"
            return Found(_probe(source, "demux"), "demux", reason)
    except OSError as error:
        raise Inaccessible(path, f"cannot be read ({error.strerror})") from error


def _probe(source: ByteSource, check: Check) -> Video:
    video, doubts = _scan(source, _by_packets)
    if doubts or video.access == "whole" or check == "full":
        return verify.verify_cuts(video)
    if check == "ends":
        verify.decode_ends(video)
    return video


def reader() -> str:
    """Return the versions of this reader and of FFmpeg; results of other versions are not valid."""
    libraries = (f"{name} {'.'.join(map(str, numbers))}" for name, numbers in sorted(av.library_versions.items()))
    return f"{READER}, PyAV {av.__version__}, {', '.join(libraries)}"


@cache
def code() -> str:
    """Return a checksum of the code that scans files; with other code, unreadable files are scanned again.

    So they get the reason of this version, or turn out to be readable, though the reader has no other version.
    """
    folder = Path(__file__).parents[1]
    files = sorted(file for part in ("cut", "scan", "storage", "video") for file in (folder / part).rglob("*.py"))
    return f"{crc32(b''.join(file.read_bytes() for file in files)):08x}"


def _scan(source: ByteSource, scan_stream: Callable[..., Result]) -> Result:
    """Open a source, and return the result of `scan_stream` (`_by_packets` or `_by_index`) for its video stream."""
    path, moov, scrambled = source.path, _moov(source), mpegts.scrambled_pids(source)
    try:
        with container.open_video(path, source.file_object()) as (opened, stream):
            stored = sample_description.stored(moov, stream)
            if sample_description.is_encrypted(stream, stored) or stream.id in scrambled:
                raise DataError(path, "is encrypted")
            scrambled = set()  # other streams do not matter
            return scan_stream(source, moov, stored, opened, stream)
    except DataError as error:
        if scrambled:  # to FFmpeg, such a stream looks damaged
            raise DataError(path, "is encrypted") from error
        raise


def _by_packets(
    source: ByteSource, moov: bytes, stored: bytes, opened: InputContainer, stream: VideoStream
) -> tuple[Video, list[str]]:
    """Return the video from its packets, and the reasons to doubt that cuts decode to the frames of a full decode."""
    path, codec, extradata = source.path, _codec(source.path, stream), stream.codec_context.extradata or b""
    packets = container.demuxed(opened, stream)
    if not (first := next((packet for packet in packets if packet.size), None)):
        raise DataError(path, "its video track contains no pictures")
    found = collect(codec, stream, chain([first], packets), source)
    description = sample_description.sample_description(path, stream, codec, stored)
    access = _access(codec, extradata, found, description)
    video = _video(source, opened, stream, codec, access, description, table(found))
    form = opened.format.name.partition(",")[0]
    guessed_times = bool(stream.codec_context.has_b_frames) and form not in _TIMED
    turned = stream_orientation(stream, first, form, moov, source)
    return replace(video, orientation=turned), doubts(video, guessed_times, found)


def _by_index(source: ByteSource, moov: bytes, stored: bytes, opened: InputContainer, stream: VideoStream) -> Video:
    """Return the video from the index of its file. Raises Unsettled."""
    path, codec = source.path, _codec(source.path, stream)
    description = stored and sample_description.sample_description(path, stream, codec, stored)
    found = packets_of_index(source, moov, codec, description, stream)
    first = av.Packet(source.read(int(found["offset"][0]), int(found["size"][0])))
    turned = stream_orientation(stream, first, "mov", moov, source)
    return replace(_video(source, opened, stream, codec, "ranged", description, found), orientation=turned)


def _video(
    source: ByteSource,
    opened: InputContainer,
    stream: VideoStream,
    codec: str,
    access: Access,
    description: bytes,
    table: np.ndarray,
) -> Video:
    frames = int((table["flags"] & HIDDEN == 0).sum())
    if not frames:
        raise DataError(source.path, f"none of its {len(table)} pictures is to be shown")
    return Video(
        path=source.path,
        width=stream.codec_context.width,
        height=stream.codec_context.height,
        frames=frames,
        fps=float(stream.average_rate or stream.guessed_rate or 0),
        codec=codec,
        access=access,
        description=description,
        size=source.size,
        mtime_ns=source.stamp,
        packets=table,
        start_byte=source.start,
        tracks=min(len(container.video_tracks(opened)), 255),
    )


def _moov(source: ByteSource) -> bytes:
    """Return the `moov` box of an mp4 or mov file, empty for other containers. Raises DataError if the file is
    truncated.
    """
    if source.read(4, 4) not in mp4.STARTS:
        return b""
    moov, path, total = b"", source.path, source.size
    for kind, _, start, end in mp4.walk_source(source):
        if kind in (b"moov", b"mdat") and end > total:
            raise DataError(path, f"is cut short: only {total} of at least {end} bytes are there")
        if kind == b"moov" and not moov:  # FFmpeg ignores a second one
            moov = source.read(start, end - start)
    if not moov and source.read(8, 4) in _PICTURE_BRANDS:
        raise DataError(path, "is a still picture (HEIF), not a video")
    if not moov:
        raise DataError(path, "has no index (moov box): its recording or download ended early")
    return moov


def _codec(path: str, stream: VideoStream) -> str:
    """Return FFmpeg's name of the codec, which all its decoders share."""
    context = stream.codec_context
    if not context.width or not context.height:
        raise DataError(path, "no picture of it can be decoded")
    return context.codec.canonical_name


def _access(codec: str, extradata: bytes, found: Packets, description: bytes) -> Access:
    """Return how packets are read: as byte ranges if each is contiguous in the file and has the mp4 format."""
    annex_b = codec in ("h264", "hevc") and not bitstream.length_size(extradata, codec)
    if not description:
        return "whole"
    return "demux" if annex_b or min(found.offset) < 0 else "ranged"
