"""Recognise videos and archives by their first bytes, if the file name does not tell."""

from __future__ import annotations

_HEAD = 1024
_STARTS = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"FLV\x01",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF: wmv, asf
    b"\x00\x00\x01\xba",  # MPEG programme stream
    b"\x00\x00\x01\xb3",  # MPEG-1 and MPEG-2 video
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01",  # MXF
    b"DKIF",  # IVF
    b"YUV4MPEG2 ",
    b".RMF",
    b"nut/multimedia container",
    *(b"\x00\x00\x00\x01" + unit for unit in (b"\x67", b"\x27", b"\x40\x01", b"\x42\x01", b"\x46\x01")),  # H.264, HEVC
    *(b"\x00\x00\x01" + unit for unit in (b"\x67", b"\x27", b"\x40\x01", b"\x42\x01")),
)
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")  # mp4, mov, 3gp
_STILLS = (b"heic", b"heix", b"mif1", b"avif", b"crx ", b"M4A ", b"M4B ")  # brands of still images with these boxes
_ARCHIVES = {b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "a gzip archive", b"7z\xbc\xaf": "a 7z archive"}
_OGG_VIDEO = (b"\x80theora", b"BBCD\x00", b"\x01video\x00")


def is_video_content(path: str) -> bool:
    """Return True if a regular file begins like a video; False if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return _is_video(file.read(_HEAD))
    except OSError:
        return False


def binary_kind(content: bytes) -> str:
    """Return the kind of a file that begins like an archive or a video, and is no list; otherwise an empty string."""
    head = content[:_HEAD]
    if b"\0" not in head:  # a text list may begin with the letters of a signature
        return ""
    archive = next((name for start, name in _ARCHIVES.items() if head.startswith(start)), "")
    return archive or ("a video" if _is_video(head) else "")


def _is_video(head: bytes) -> bool:
    if head[4:8] in _BOXES:
        return not (head[4:8] == b"ftyp" and head[8:12] in _STILLS)
    if head.startswith(b"OggS"):
        return any(mark in head for mark in _OGG_VIDEO)
    return head.startswith(_STARTS) or (head[:4] == b"RIFF" and head[8:12] == b"AVI ") or _is_transport_stream(head)


def _is_transport_stream(head: bytes) -> bool:
    """Check for the sync bytes of MPEG transport packets of 188 bytes, or 192 with a timestamp before each."""
    return any(
        len(head) >= start + 4 * size and all(head[start + size * number] == 0x47 for number in range(4))
        for start, size in ((0, 188), (4, 192))
    )
