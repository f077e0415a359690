"""Find scrambled packets of an MPEG transport stream (ISO/IEC 13818-1 2.4.3.2), which FFmpeg silently drops."""

from __future__ import annotations

import numpy as np

from dali_pipes.storage.sources import ByteSource

_SYNC, _NULL = 0x47, 0x1FFF
_FORMS = ((188, 0), (192, 4), (204, 0))  # (packet size, offset of the sync byte): plain, m2ts, with FEC
_AT_ONCE = 1 << 14  # packets


def scrambled_pids(source: ByteSource) -> set[int]:
    """Return the packet identifiers (PIDs) with scrambled payload in a file; empty if it is no transport stream.

    FFmpeg's `stream.id` is the packet identifier.
    """
    start = source.read(0, 3 * 204)
    form = next((form for form in _FORMS if _has_form(start, *form)), None)
    if form is None:
        return set()
    (size, before), found, at = form, set(), 0
    while len(content := source.read(at, size * _AT_ONCE)) >= size:
        packets = np.frombuffer(content, np.uint8, len(content) // size * size).reshape(-1, size)
        heads = packets[:, before : before + 4].astype(np.int64)
        heads = heads[(heads[:, 0] == _SYNC) & (heads[:, 3] >> 6 > 0)]
        found |= set(((heads[:, 1] & 0x1F) << 8 | heads[:, 2]).tolist())
        at += len(content)
    return found - {_NULL}


def _has_form(start: bytes, size: int, before: int) -> bool:
    syncs = start[before : 3 * size : size]
    return len(syncs) == 3 and set(syncs) == {_SYNC}
