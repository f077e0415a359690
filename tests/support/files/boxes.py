"""Editing of boxes in an mp4 file whose pictures come before its index, so that no edit moves them."""

from __future__ import annotations

from collections.abc import Callable

from dali_pipes.video import mp4

ENTRY = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"")  # the first sample entry, of any kind
TABLE = ENTRY[:5]
_FIXED = {b"stsd": 16, b"": 86}  # bytes before the boxes inside; 8 in all other boxes


def edit(content: bytes, path: tuple[bytes, ...], change: Callable[[bytes], bytes]) -> bytes:
    """Replace the first box at `path`, header included, by what `change` makes of it. b"" stands for any kind."""
    for kind, _, start, end in mp4.walk_boxes(content):
        if path[0] in (b"", kind):
            box = content[start:end]
            if len(path) == 1:
                new = change(box)
            else:
                fixed = _FIXED.get(path[0], 8)
                new = box[:fixed] + edit(box[fixed:], path[1:], change)
                new = sized(new)
            return content[:start] + new + content[end:]
    raise LookupError(f"no box {path[0]}")


def edit_entry(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Change the first sample entry; `change` need not set its size."""
    return edit(content, ENTRY, lambda box: sized(change(box)))


def add_to_entry(content: bytes, *boxes: bytes) -> bytes:
    """Append boxes to the first sample entry, after removing its `colr` box."""
    return edit_entry(content, lambda entry: without(entry, b"colr", 86) + b"".join(boxes))


def without(box: bytes, kind: bytes, fixed: int = 8) -> bytes:
    """Return a box without its inner boxes of a kind; its size is left as it is."""
    inner = box[fixed:]
    kept = [inner[start:end] for name, _, start, end in mp4.walk_boxes(inner) if name != kind]
    return box[:fixed] + b"".join(kept)


def sized(box: bytes) -> bytes:
    """Return a box with its real size in its header."""
    return len(box).to_bytes(4, "big") + box[4:]
