"""`Picture`, the content of one packet's headers, and the interface of the parsers."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, Protocol

PERIOD = 1 << 40
"""Distance between the orders of two coded sequences: all pictures of one are shown before those of the next."""


def nearest_picture_order(last: int, low_bits: int, mask: int) -> int:
    """Return the picture order count with these low bits that is nearest to that of the last reference picture.

    This is the arithmetic of ITU-T H.264 8.2.1.1 and H.265 8.3.1.
    """
    ahead = low_bits - last & mask
    return last + ahead if 2 * ahead <= mask + 1 else last + ahead - mask - 1


class Picture(NamedTuple):
    """The picture in a packet, and its position in the stream."""

    pictures: int = 1  # displayed frames of this packet: 1; 0 for a hidden reference; 2 with a packed B-picture
    resets: bool = True  # if the container marks a keyframe: decoding can start here
    referenced: bool = True  # a picture of the same or a higher temporal layer may refer to it
    layer: int = 0  # temporal layer
    parameters: bytes = b""  # parameter sets for later pictures that are not in the extradata
    order: int = 0  # display order
    size: tuple[int, int] | None = None  # width and height, if this packet's headers have them
    doubt: str = ""  # a feature that is not understood here


picture_of = partial(tuple.__new__, Picture)
"""Make a picture of a tuple with all its fields; takes less time than `Picture._make`."""


class Reader(Protocol):
    """Parses the packets of one stream in decode order."""

    def read(self, packet: bytes) -> Picture:
        """Read a packet's headers. Raises ValueError or IndexError if they are malformed."""


class DecodeOrder:
    """Numbers the pictures of a stream in which display order equals decode order."""

    def __init__(self) -> None:
        self._count = 0

    def next(self) -> int:
        """Return the order of the next picture."""
        self._count += 1
        return self._count


class DelayedReferences:
    """Numbers pictures of MPEG-1, 2 and 4: B-pictures are displayed at once, a reference when the next one is
    decoded.
    """

    def __init__(self) -> None:
        self._references = self._between = 0

    def next(self, *, referenced: bool) -> int:
        """Return the order of the next picture; a B-picture is not `referenced`."""
        if referenced:
            self._references += 1
            self._between = 0
            return self._references * PERIOD
        self._between += 1
        return (self._references - 1) * PERIOD + self._between
