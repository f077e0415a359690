"""Write an mp4 file with one video track, and find boxes in other mp4 files (ISO/IEC 14496-12)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import numpy as np

from dali_pipes.storage.sources import ByteSource

STARTS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")  # types of the first box of a file
TIMESCALE = 30000  # ticks per second; every cut has 30 frames per second, because nothing uses its frame rate
DURATION = 1000  # ticks per picture: the picture with display index k starts at k * DURATION

_ENTRY = 16 + 86  # bytes of a `stsd` box before the child boxes of its visual entry
_SIDES = slice(16 + 32, 16 + 36)  # offset of width and height in that entry, 16 bits each
_HEAD = struct.Struct(">I4s")
_FULL = 2  # FFmpeg's number for colours of full range
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)  # the identity: no rotation, no scaling


def box(kind: bytes, *parts: bytes) -> bytes:
    """Return a box: size, type, content."""
    return struct.pack(">I4s", 8 + sum(map(len, parts)), kind) + b"".join(parts)


def find_box(data: bytes, path: tuple[bytes, ...]) -> bytes | None:
    """Return the first box at `path` with its header, or None. Example: `find_box(file, (b"moov", b"trak"))`."""
    for kind, head, start, end in walk_boxes(data):
        if kind != path[0]:
            continue
        found = data[start:end] if len(path) == 1 else find_box(data[start + head : end], path[1:])
        if found is not None:
            return found
    return None


def tracks(moov: bytes) -> Iterator[bytes]:
    """Yield the content of each track of a `moov` box."""
    for kind, head, start, end in walk_boxes(moov[8:]):
        if kind == b"trak":
            yield moov[8 + start + head : 8 + end]


def track(moov: bytes, number: int) -> bytes:
    """Return the content of the track with this number, or empty bytes."""
    for content in tracks(moov):
        header = find_box(content, (b"tkhd",)) or b""
        number_at = 28 if header[8:9] == b"\1" else 20  # after two 64-bit or two 32-bit times
        if int.from_bytes(header[number_at : number_at + 4], "big") == number & 0xFFFFFFFF:
            return content
    return b""


def configuration(description: bytes, kind: bytes) -> bytes:
    """Return the content of the first box `kind` (avcC, hvcC, ...) in the only entry of a `stsd` box, or empty
    bytes.
    """
    return next(_boxes_of_entry(description, kind), b"")


def _boxes_of_entry(description: bytes, kind: bytes) -> Iterator[bytes]:
    for name, head, start, end in walk_boxes(description[_ENTRY:]):
        if name == kind:
            yield description[_ENTRY + start + head : _ENTRY + end]


def colours(description: bytes) -> tuple[int, int, int, int] | None:
    """Return primaries, transfer, matrix (ITU-T H.273) and FFmpeg's range in the entry of a `stsd` box, or None.

    An entry may have several `colr` boxes, for example an ICC profile and one of these. As in FFmpeg, the last one
    counts.
    """
    found = None
    for content in _boxes_of_entry(description, b"colr"):
        if content[:4] == b"nclx" and len(content) > 10:
            found = *struct.unpack(">HHH", content[4:10]), 1 + (content[10] >> 7)
        elif content[:4] == b"nclc" and len(content) >= 10:  # QuickTime's box has no range
            found = *struct.unpack(">HHH", content[4:10]), found[3] if found else 0
    return found


def with_colours(description: bytes, primaries: int, transfer: int, matrix: int, color_range: int) -> bytes:
    """Return a `stsd` box with these colours (see `colours`) in its only entry, replacing existing ones."""
    kept = b"".join(
        description[_ENTRY + start : _ENTRY + end]
        for name, _, start, end in walk_boxes(description[_ENTRY:])
        if name != b"colr"
    )
    note = box(b"colr", b"nclx", struct.pack(">HHHB", primaries, transfer, matrix, (color_range == _FULL) << 7))
    return box(b"stsd", description[8:16], box(description[20:24], description[24:_ENTRY], kept, note))


def with_box(description: bytes, kind: bytes, content: bytes) -> bytes:
    """Return a `stsd` box with the content of the box `kind` in its only entry replaced by `content`."""
    parts = [
        box(kind, content) if name == kind else description[_ENTRY + start : _ENTRY + end]
        for name, _, start, end in walk_boxes(description[_ENTRY:])
    ]
    return box(b"stsd", description[8:16], box(description[20:24], description[24:_ENTRY], *parts))


def all_upright(moov: bytes) -> bool:
    """Return True if the matrices of a movie and of all its tracks are the identity (ISO/IEC 14496-12 8.2.2, 8.3.2)."""
    content = moov[8:]
    headers = []
    for kind, head, start, end in walk_boxes(content):
        if kind == b"mvhd":
            headers.append((content[start + head : end], 36))
        elif kind == b"trak":
            headers.append(((find_box(content[start + head : end], (b"tkhd",)) or b"")[8:], 40))
    # A header of version 1 has three 64-bit numbers instead of 32-bit ones.
    places = [(header, place + 12 * (header[:1] == b"\1")) for header, place in headers]
    return bool(places) and all(header[place : place + len(_MATRIX)] == _MATRIX for header, place in places)


def walk_boxes(data: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield (type, header length, start, end) of each box in `data`; the last end may lie beyond `data`."""
    return _walk(lambda start, count: data[start : start + count], len(data))


def walk_source(source: ByteSource) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield (type, header length, start, end) of the top-level boxes of a file, reading only their headers."""
    return _walk(source.read, source.size)


def _walk(read: Callable[[int, int], bytes], total: int) -> Iterator[tuple[bytes, int, int, int]]:
    start = 0
    while start + 8 <= total:
        header, head = read(start, 16).ljust(16, b"\0"), 8
        size, kind = _HEAD.unpack_from(header)
        if size == 1:
            size, head = int.from_bytes(header[8:16], "big"), 16
        elif size == 0:  # size 0: up to the end of the file
            size = total - start
        if size < head:
            return
        yield kind, head, start, start + size
        start += size


def write(description: bytes, width: int, height: int, sizes: np.ndarray, shown: np.ndarray, sync: np.ndarray) -> bytes:
    """Return the bytes of an mp4 with one track, up to its packets, which must follow without gaps.

    `description`: a `stsd` box. `width` and `height` replace those in its entry, which DALI uses and which may be
    wrong. `sizes` [N]: bytes of each packet in decode order. `shown` [N]: index of its picture in display order.
    `sync`: indices of the keyframes. Composition offsets are signed (version 1), so that presentation starts at zero
    without an edit list, and readers that count frames agree with readers that use timestamps.
    """
    count = len(sizes)
    ticks = count * DURATION
    table = box(
        b"stbl",
        description[: _SIDES.start],
        struct.pack(">HH", width, height),
        description[_SIDES.stop :],
        struct.pack(">I4sIIII", 24, b"stts", 0, 1, count, DURATION),
        _composition_offsets(shown),
        struct.pack(">I4sII", 16 + 4 * len(sync), b"stss", 0, len(sync)) + (sync + 1).astype(">u4").tobytes(),
        struct.pack(">I4sIIIII", 28, b"stsc", 0, 1, 1, count, 1),
        struct.pack(">I4sIII", 20 + 4 * count, b"stsz", 0, 0, count) + sizes.astype(">u4").tobytes(),
        _CHUNK,
    )
    media = box(
        b"mdia",
        struct.pack(_MDHD, 32, b"mdhd", 0, 0, 0, TIMESCALE, ticks, 0x55C4, 0),
        _HANDLER,
        box(b"minf", _INFO, table),
    )
    track = struct.pack(_TKHD, 92, b"tkhd", 7, 0, 0, 1, 0, ticks, 0, 0, 0, _MATRIX, width << 16, height << 16)
    movie = struct.pack(_MVHD, 108, b"mvhd", 0, 0, 0, TIMESCALE, ticks, 0x10000, 0x100, _MATRIX, 2)
    moov = box(b"moov", movie, box(b"trak", track, media))
    # The chunk offset is the last field of the last box at every level, so it is appended when the length is known.
    first_packet = len(_FTYP) + len(moov) + 8
    return _FTYP + moov[:-4] + struct.pack(">II4s", first_packet, 8 + int(sizes.sum()), b"mdat")


def _composition_offsets(shown: np.ndarray) -> bytes:
    """Return the `ctts` box: presentation time minus decode time of each packet. Empty if both orders are the same."""
    late = shown - np.arange(len(shown))
    if not np.count_nonzero(late):  # faster than `any`
        return b""
    entries = np.ones((len(shown), 2), ">i4")
    entries[:, 1] = late * DURATION
    return struct.pack(">I4sBxxxI", 16 + entries.nbytes, b"ctts", 1, len(shown)) + entries.tobytes()


_FTYP = box(b"ftyp", b"iso4", struct.pack(">I", 0), b"iso4isommp41")  # iso4: signed composition offsets
_HANDLER = box(b"hdlr", struct.pack(">II4s12x", 0, 0, b"vide"), b"video\0")
_INFO = box(b"vmhd", struct.pack(">I8x", 1)) + box(
    b"dinf", box(b"dref", struct.pack(">II", 0, 1), box(b"url ", struct.pack(">I", 1)))
)
_CHUNK = struct.pack(">I4sIII", 20, b"stco", 0, 1, 0)
_MVHD = ">I4sIIIIIIH10x36s24xI"
_TKHD = ">I4sIIIIII8xHHHxx36sII"
_MDHD = ">I4sIIIIIHH"
