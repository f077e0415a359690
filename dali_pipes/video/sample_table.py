"""Parse the sample tables of a track of an mp4 or mov file: positions and times of its packets.

ISO/IEC 14496-12, clauses 8.6 and 8.7. Only the usual form is supported: one description, one edit, everything in
`moov`.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from dali_pipes.storage.sources import ByteSource
from dali_pipes.video import mp4

_UNITY = 0x10000  # media rate 1 of an edit


class Unsettled(Exception):
    """The index alone does not determine the frames of a video; the text is the reason."""


class Samples(NamedTuple):
    """The P samples of a track in decode order, and the times of its edit list, in ticks."""

    offset: np.ndarray  # [P] int64, offsets in the file
    size: np.ndarray  # [P] int64
    time: np.ndarray  # [P] int64, presentation times
    length: np.ndarray  # [P] int64, durations in decode order
    sync: np.ndarray  # [P] bool
    timed: bool  # the file has presentation times in addition to decode times


def samples(moov: bytes, track: int) -> Samples:
    """Return the samples of the track with this number. Raises Unsettled."""
    return _read(moov, mp4.track(moov, track))


def picture_times(source: ByteSource) -> tuple[np.ndarray, float]:
    """Return [P], the presentation times of a file's only video track in ticks, and the seconds per tick.

    They are in decode order, with an arbitrary origin. Raises Unsettled.
    """
    if source.read(4, 4) not in mp4.STARTS:
        raise Unsettled("it is not an mp4 or mov file")
    boxes = ((start, end) for kind, _, start, end in mp4.walk_source(source) if kind == b"moov")
    start, end = next(boxes, (0, 0))
    moov = source.read(start, end - start)
    videos = [content for content in mp4.tracks(moov) if _is_video(content)]
    if len(videos) != 1:
        raise Unsettled("it has several video tracks, or none")
    found = _read(moov, videos[0])
    if (found.length[:-1] <= 0).any():
        raise Unsettled("its pictures have no length")
    return found.time, 1 / _timescale(mp4.find_box(videos[0], (b"mdia", b"mdhd")) or b"")


def _is_video(track: bytes) -> bool:
    return (mp4.find_box(track, (b"mdia", b"hdlr")) or b"")[16:20] == b"vide"


def _read(moov: bytes, track: bytes) -> Samples:
    if mp4.find_box(moov[8:], (b"mvex",)):
        raise Unsettled("it is fragmented")
    try:
        return _samples(moov, track)
    except (struct.error, ValueError) as error:
        raise Unsettled("its index is damaged, or of an unusual form") from error


def _samples(moov: bytes, track: bytes) -> Samples:
    table = (mp4.find_box(track, (b"mdia", b"minf", b"stbl")) or b"")[8:]
    size, chunk_start = _sizes(table), _chunk_starts(table)
    if not len(size) or not size.all():
        raise Unsettled("it has empty packets")
    per_chunk = _samples_per_chunk(table, len(chunk_start))
    _agree(per_chunk.sum(), len(size))
    before = size.cumsum() - size  # bytes before each sample
    first = per_chunk.cumsum() - per_chunk
    offset = (chunk_start - before[np.minimum(first, len(size) - 1)]).repeat(per_chunk) + before
    length = _run_lengths(table, b"stts", len(size))
    late = _run_lengths(table, b"ctts", len(size)) if mp4.find_box(table, (b"ctts",)) else np.zeros(1, np.int64)
    found = Samples(offset, size, length.cumsum() - length + late, length, _sync(table, len(size)), late.any())
    _refuse_hidden(moov, track, found.time, int(length[-1]))
    return found


def _agree(count: int, samples: int) -> None:
    if count != samples:
        raise ValueError("the tables are about different numbers of samples")


def _entries(table: bytes, kind: bytes, form: str, skip: int = 0) -> np.ndarray:
    """Return the entries of a box of the table; they follow version, flags, `skip` bytes and their count."""
    box = mp4.find_box(table, (kind,)) or b""
    (count,) = struct.unpack_from(">I", box, 12 + skip)
    return np.frombuffer(box, form, count, 16 + skip)


def _sizes(table: bytes) -> np.ndarray:
    box = mp4.find_box(table, (b"stsz",)) or b""
    (equal,) = struct.unpack_from(">I", box, 12)
    if equal:
        raise Unsettled("its packets have one size")
    return _entries(table, b"stsz", ">u4", 4).astype(np.int64)


def _chunk_starts(table: bytes) -> np.ndarray:
    large = mp4.find_box(table, (b"co64",)) is not None
    return _entries(table, b"co64" if large else b"stco", ">u8" if large else ">u4").astype(np.int64)


def _samples_per_chunk(table: bytes, chunks: int) -> np.ndarray:
    """Return [chunks], the number of samples in each chunk."""
    runs = _entries(table, b"stsc", ">u4,>u4,>u4")
    first, count, description = (runs[name].astype(np.int64) for name in runs.dtype.names)
    if not len(runs) or first[0] != 1 or (np.diff(first) <= 0).any() or (description != 1).any():
        raise ValueError("the runs of chunks are not in order, or of several descriptions")
    return count[first.searchsorted(np.arange(1, chunks + 1), "right") - 1]


def _run_lengths(table: bytes, kind: bytes, samples: int) -> np.ndarray:
    """Return [samples], the values of a box that stores runs (count, value); signed, as in FFmpeg."""
    runs = _entries(table, kind, ">u4,>i4")
    count, value = (runs[name].astype(np.int64) for name in runs.dtype.names)
    _agree(count.sum(), samples)
    return value.repeat(count)


def _sync(table: bytes, samples: int) -> np.ndarray:
    sync = np.ones(samples, bool)
    if mp4.find_box(table, (b"stss",)) is not None:
        sync[:] = False
        numbers = _entries(table, b"stss", ">u4").astype(np.int64)  # from 1
        if len(numbers) and not 0 < numbers.min() <= numbers.max() <= samples:
            raise ValueError("keyframes are not among the samples")
        sync[numbers - 1] = True
    return sync


def _refuse_hidden(moov: bytes, track: bytes, time: np.ndarray, last: int) -> None:
    """Raise Unsettled if the edit list may hide samples, because FFmpeg's versions and players differ there.

    `last`: duration of the last sample. The duration of an edit is in ticks of the movie, so it may be rounded.
    """
    box = mp4.find_box(track, (b"edts", b"elst"))
    if box is None:
        return
    long = box[8] == 1
    form = np.dtype([("length", ">i8" if long else ">i4"), ("time", ">i8" if long else ">i4"), ("speed", ">i4")])
    edits = np.frombuffer(box, form, struct.unpack_from(">I", box, 12)[0], 16)
    edits = edits[edits["time"] != -1]  # empty edits only delay the start
    movie = _timescale(mp4.find_box(moov[8:], (b"mvhd",)) or b"")
    media = _timescale(mp4.find_box(track, (b"mdia", b"mdhd")) or b"")
    if len(edits) != 1 or edits["speed"][0] != _UNITY:
        raise Unsettled("it has an edit list of several parts")
    start, length = int(edits["time"][0]), int(edits["length"][0])
    if time.min() < start or (length + 1) * media < (int(time.max()) + last - start) * movie:
        raise Unsettled("it has an edit list that hides pictures")


def _timescale(header: bytes) -> int:
    """Return the ticks per second of an `mvhd` or `mdhd` box. Raises Unsettled if it has none."""
    place = 28 if header[8:9] == b"\1" else 20
    if not (ticks := int.from_bytes(header[place : place + 4], "big")):
        raise Unsettled("its times have no unit")
    return ticks
