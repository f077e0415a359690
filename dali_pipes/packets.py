"""What one pass over a stream's packets tells: the table that a cut works from, and what about it is doubtful.

Decodes nothing and judges nothing: a doubt is settled elsewhere, by decoding.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

import av
import numpy as np

from dali_pipes import bitstream
from dali_pipes.bitstream import Picture
from dali_pipes.video import DISPOSABLE, HIDDEN, INVISIBLE, KEYFRAME, PACKET

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
