"""`Catalog`, the scanned dataset: a memory-mapped file with every row of a list and the packet table of every video.

Opening it reads only a few hundred bytes; the rest is read through the page cache, which all processes of a host share.
`dali_pipes/scan/build.py` fills it; this module defines the format:

    header   `_HEADER`: magic and version, where the footer starts, its checksum
    packets  the packet tables of all videos, one after the other
    columns  the arrays of `_arrays`, each starting at a multiple of 64 bytes
    footer   JSON: name, offset, length and type of each array, checksum of the columns, texts shared by all rows

The header is written last, so an unfinished file is not valid.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import struct
import zlib
from collections.abc import Iterable
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple, get_args

import numpy as np

from dali_pipes.errors import DataError, Unreadable
from dali_pipes.lists.formats.annotation import WHOLE, Span
from dali_pipes.lists.listing import Listing
from dali_pipes.scan.parts import Parts
from dali_pipes.video.packet_table import PACKET, Access, Video

MAGIC = b"VIDCAT06"  # the number increases with each change of the format
_HEADER = struct.Struct("<8sQI4x")
_ALIGNMENT = 64
_ACCESS = get_args(Access)
_FILE = np.dtype(  # one file of the list; if it is unreadable, all fields but the first three are zero
    [
        ("size", "<i8"),
        ("mtime_ns", "<i8"),
        ("check", "u1"),
        ("frames", "<i4"),
        ("width", "<i4"),
        ("height", "<i4"),
        ("fps", "<f8"),
        ("codec", "<u2"),  # index in the footer's `codecs`
        ("access", "u1"),  # index in _ACCESS
        ("description", "<i4"),  # index in the table of descriptions
        ("orientation", "u1"),  # as `Video` has it
        ("start_byte", "<i8"),  # as `Video` has it
        ("tracks", "u1"),  # as `Video` has it
        ("packet_start", "<i8"),
        ("packet_end", "<i8"),
    ]
)


class Entry(NamedTuple):
    """The result of scanning one file."""

    size: int  # bytes at the scan; -1 if it was not opened
    mtime_ns: int  # modification time at the scan; -1 if it was not opened
    check: int  # thoroughness of the scan: an index in `request.CHECKS`
    outcome: Video | str  # the video, or the reason why it is unreadable


class Catalog:
    """The N rows of a list, in order. Every array is a view of the file, so opening and pickling are cheap."""

    def __init__(self, file: str | Path):
        """Open a catalogue. Raises DataError if the file is not a complete catalogue of this version."""
        self.file = Path(file)
        try:
            self._raw = _mapped(self.file)
            magic, footer_start, checksum = _HEADER.unpack_from(self._raw)
            footer = self._raw[footer_start:].tobytes()
            if magic != MAGIC or zlib.crc32(footer) != checksum:
                raise ValueError("its header or its footer is damaged")
        except (OSError, ValueError, struct.error) as error:
            raise DataError(self.file, f"not a whole catalogue of this version: {error}") from error
        try:
            self._read_footer(json.loads(footer))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(self.file, f"not a whole catalogue of this version: {type(error).__name__}") from error

    def _read_footer(self, footer: dict) -> None:
        self.source: str = footer["source"]  # the list
        self.base: str = footer["base"]  # the base of its relative paths
        self.digest: str = footer["digest"]  # `Listing.digest` of the list
        self.reader: str = footer["reader"]  # the version that scanned the files, see `probe.reader`
        self.code: str = footer.get("code", "")  # that refused files, see `probe.code`
        self.class_names = tuple(footer["class_names"])
        self._codecs: list[str] = footer["codecs"]
        self._reasons: dict[str, str] = footer["reasons"]  # by row; JSON keys are strings
        self._columns: tuple[int, int, int] = footer["columns"]  # start, end, checksum
        self._array = {name: self._view(*place) for name, place in footer["arrays"].items()}
        self.label_N = self._array["label"]
        self.first_N = self._array["first"]  # the first row with the same path
        self.width_N, self.height_N = self._array["width"], self._array["height"]
        self.file_frames_N = self._array["frames"]  # of the file; 0 if it is unreadable
        self.frames_N = self._array.get("part_frames", self.file_frames_N)  # of the row's part; 0 if it is unusable
        self.span_N2 = self._array["window"].reshape(-1, 2) if "window" in self._array else None  # as in `Listing`
        self.fps_N = self._array["fps"]
        self.orientation_N = self._array["orientation"]
        self.tracks_N = self._array["tracks"]
        self.size_N, self.mtime_ns_N, self.check_N = (self._array[name] for name in ("size", "mtime_ns", "check"))

    def _view(self, start: int, count: int, kind: str) -> np.ndarray:
        dtype = PACKET if kind == "packet" else np.dtype(kind)
        view = self._raw[start : start + count * dtype.itemsize].view(dtype)
        if len(view) != count:
            raise ValueError(f"{count} entries from byte {start} on are not there")
        return view

    def __len__(self) -> int:
        return len(self.label_N)

    def __reduce__(self):
        """Pickle the name of the file instead of its content."""
        return Catalog, (self.file,)

    @cached_property
    def first_frame_N(self) -> np.ndarray:
        """Return the first frame of each row's part of its video: [N] int32; zeros for whole videos."""
        return self._array.get("part_first", np.zeros(len(self), np.int32))

    @cached_property
    def usable(self) -> np.ndarray:
        """Return the rows of readable videos or parts: [U] int64, ascending."""
        return np.flatnonzero(self.frames_N)

    @cached_property
    def unreadable(self) -> list[Unreadable]:
        """Return the rows that are not usable, including repeated rows."""
        return [
            Unreadable(row, self.path(row), self.reason(row)) for row in np.flatnonzero(self.frames_N == 0).tolist()
        ]

    def reason(self, row: int) -> str:
        """Return the reason why a row is unreadable."""
        return self._reasons.get(str(row)) or self._reasons[str(self.first_N[row])]

    def listed_path(self, row: int) -> str:
        """Return a row's path as in the list: relative to `base`, or absolute."""
        return os.fsdecode(self._bytes("path", row))

    def names(self) -> list[str]:
        """Return names for all rows: the paths of `listed_path`, with `#t=START,END` for parts of videos."""
        text, ends = self._array["path"].tobytes(), self._array["path_end"].tolist()
        paths = [os.fsdecode(text[start:end]) for start, end in pairwise([0, *ends])]
        if self.span_N2 is None:
            return paths
        return [f"{path}#t={start},{end}" for path, (start, end) in zip(paths, self.span_N2.tolist(), strict=True)]

    def path(self, row: int) -> str:
        """Return the absolute path of a row's video."""
        return os.path.join(self.base, self.listed_path(row))

    def span(self, row: int) -> Span:
        """Return the part of its video that a row describes."""
        return WHOLE if self.span_N2 is None else Span(*self.span_N2[row].tolist())

    def video(self, row: int) -> Video:
        """Return the video of a readable row; its packets are a view of the file."""
        array = self._array
        return Video(
            path=self.path(row),
            width=int(self.width_N[row]),
            height=int(self.height_N[row]),
            frames=int(self.file_frames_N[row]),
            fps=float(array["fps"][row]),
            codec=self._codecs[array["codec"][row]],
            access=_ACCESS[array["access"][row]],
            description=self._bytes("descriptions", array["description"][row]),
            size=int(self.size_N[row]),
            mtime_ns=int(self.mtime_ns_N[row]),
            packets=array["packet"][array["packet_start"][row] : array["packet_end"][row]],
            orientation=int(array["orientation"][row]),
            start_byte=int(array["start_byte"][row]),
            tracks=int(array["tracks"][row]),
        )

    def _bytes(self, name: str, index: int) -> bytes:
        """Return an entry of a table of byte strings, see `_table`."""
        end = self._array[f"{name}_end"]
        return self._array[name][end[index - 1] if index else 0 : end[index]].tobytes()

    def video_bytes(self) -> np.ndarray:
        """Return [N] int64 the bytes of each row's video file; 0 if it cannot be read, or is a folder of pictures."""
        is_file_N = self._array["access"] != _ACCESS.index("frames")
        return np.where(is_file_N & (self.file_frames_N > 0), self.size_N, 0)

    def codecs(self) -> dict[str, int]:
        """Return the number of readable videos of each codec, the most frequent first."""
        counts = np.bincount(self._array["codec"][self.usable], minlength=len(self._codecs))
        return {self._codecs[index]: int(counts[index]) for index in np.argsort(-counts, kind="stable")}

    def kinds(self) -> tuple[np.ndarray, np.ndarray]:
        """Group the readable videos by codec, access, description and size: return one row per group, and [U], the
        group of each usable row.
        """
        columns = [self._array[name][self.usable] for name in ("codec", "access", "description", "width", "height")]
        kind_U = np.ravel_multi_index(columns, [int(column.max(initial=0)) + 1 for column in columns])
        _, first, kind_U = np.unique(kind_U, return_index=True, return_inverse=True)
        return self.usable[first], kind_U

    def check_labels(self, num_classes: int) -> None:
        """Raise DataError if a label is not below `num_classes`, or if the number of named classes differs from it."""
        if self.class_names and len(self.class_names) != num_classes:
            raise DataError(
                self.source,
                f"names {len(self.class_names)} classes, but model.num_classes={num_classes}; "
                f"make them equal (a class without videos is an empty folder)",
            )
        row = int(self.label_N.argmax())
        highest = int(self.label_N[row])
        if highest < num_classes:
            return
        advice = f"set model.num_classes to {highest + 1} or correct the list"
        if highest == num_classes and self.label_N.min() == 1:
            advice = "the labels seem to count from 1; write them from 0"
        raise DataError(
            self.source,
            f"label {highest} of {self.listed_path(row)} is not below model.num_classes={num_classes}; {advice}",
        )

    def is_intact(self) -> bool:
        """Return True if the checksum of the columns is correct. Reads all of them, but not the packets."""
        start, end, checksum = self._columns
        return _checksum(self.file, start, end) == checksum


def _mapped(file: Path) -> np.ndarray:
    """Return the bytes of a file, in the page cache if the file system can map files."""
    with open(file, "rb") as opened:
        try:  # private: some network and shared file systems (FUSE, 9p) refuse other mappings
            content = mmap.mmap(opened.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        except OSError as error:
            if error.errno not in (errno.ENODEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            content = opened.read()
    return np.frombuffer(content, np.uint8)


def write_catalog(
    file: Path, listing: Listing, entries: Iterable[Entry], reader: str, parts: Parts | None = None, code: str = ""
) -> None:
    """Write the catalogue of a list from one entry for each row of `listing.distinct`, in that order.

    `reader` and `code`: the version that scanned the files, see `probe`. `parts`: the frames of rows about parts.
    """
    with open(file, "wb") as out:
        out.write(bytes(_HEADER.size))
        files, texts, descriptions = _write_packets(out, listing.distinct, entries)
        places = {"packet": (_HEADER.size, int(files["packet_end"].max(initial=0)), "packet")}
        columns_start = _pad(out)
        if parts:
            texts["reasons"] |= parts.reasons
        for name, array in _columns(listing, files, descriptions, parts).items():
            places[name] = (_pad(out), len(array), array.dtype.str)
            out.write(array.tobytes())
        footer_start = _pad(out)
        out.flush()
        about = {"source": listing.source, "base": listing.base, "digest": listing.digest, "reader": reader}
        about["code"] = code
        columns = columns_start, footer_start, _checksum(file, columns_start, footer_start)
        footer = {**about, "class_names": listing.class_names, **texts, "arrays": places, "columns": columns}
        content = json.dumps(footer).encode()
        out.write(content)
        out.seek(0)
        out.write(_HEADER.pack(MAGIC, footer_start, zlib.crc32(content)))
        out.flush()
        os.fsync(out.fileno())


def _write_packets(out: BinaryIO, distinct: np.ndarray, entries: Iterable[Entry]) -> tuple[np.ndarray, dict, list]:
    """Append all packet tables; return [D] _FILE records, the footer's texts, and the table of descriptions."""
    files = np.zeros(len(distinct), _FILE)
    codecs: dict[str, int] = {}
    descriptions: dict[bytes, int] = {}
    reasons: dict[int, str] = {}
    written = 0
    for index, (size, mtime_ns, check, video) in enumerate(entries):
        if isinstance(video, str):
            reasons[int(distinct[index])] = video
            files[["size", "mtime_ns", "check"]][index] = size, mtime_ns, check
            continue
        out.write(video.packets.tobytes())
        codec = codecs.setdefault(video.codec, len(codecs))
        description = descriptions.setdefault(video.description, len(descriptions))
        shape = video.frames, video.width, video.height, video.fps, codec, _ACCESS.index(video.access), description
        place = written, written + len(video.packets)
        written = place[1]
        more = video.orientation, video.start_byte, video.tracks
        files[index] = (video.size, video.mtime_ns, check, *shape, *more, *place)
    return files, {"codecs": list(codecs), "reasons": reasons}, list(descriptions)


def _columns(
    listing: Listing, files: np.ndarray, descriptions: list[bytes], parts: Parts | None
) -> dict[str, np.ndarray]:
    """Return every array of the file except the packets. Repeated rows get the values of the first."""
    row_N = np.searchsorted(listing.distinct, listing.first_N)
    of_parts = {}
    if parts:
        of_parts = {"part_first": parts.first_N, "part_frames": parts.frames_N, "window": listing.span_N2.ravel()}
    return {
        **of_parts,
        "label": listing.label_N,
        "first": listing.first_N,
        **{name: files[name][row_N] for name in _FILE.names},
        **_table("path", [os.fsencode(path) for path in listing.paths]),
        **_table("descriptions", descriptions),
    }


def _table(name: str, values: list[bytes]) -> dict[str, np.ndarray]:
    """Store byte strings as two arrays: their concatenation, and the end of each."""
    ends = np.cumsum([len(value) for value in values], dtype=np.int64)
    return {name: np.frombuffer(b"".join(values), np.uint8), f"{name}_end": ends}


def _pad(out: BinaryIO) -> int:
    """Pad to the next aligned offset, and return it."""
    out.write(bytes(-out.tell() % _ALIGNMENT))
    return out.tell()


def _checksum(file: Path, start: int, end: int) -> int:
    """Return the CRC32 of bytes [start, end). They are read, not mapped: mapped pages would count as memory of the
    process.
    """
    checksum = 0
    with open(file, "rb") as content:
        content.seek(start)
        while block := content.read(min(1 << 20, end - content.tell())):
            checksum = zlib.crc32(block, checksum)
    return checksum
