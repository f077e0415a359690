"""`Bits`: read fixed-length and Exp-Golomb coded numbers of headers."""

from __future__ import annotations

import re

_START = re.compile(rb"\0\0(?=[\0-\3])")


class Bits:
    """A bit reader over bytes. Raises ValueError beyond the end."""

    __slots__ = ("_left", "_value")

    def __init__(self, data: bytes):
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    @property
    def left(self) -> int:
        """Return the number of bits that have not been read."""
        return self._left

    @classmethod
    def of(cls, value: int, left: int) -> Bits:
        """Make a reader of the lowest `left` bits of a number."""
        bits = cls(b"")
        bits._value, bits._left = value, left
        return bits

    def u(self, count: int) -> int:
        """Read an unsigned number of `count` bits, u(n)."""
        self._left -= count
        if self._left < 0:
            raise ValueError("a header is cut short")
        taken = self._value >> self._left
        self._value &= (1 << self._left) - 1
        return taken

    def ue(self) -> int:
        """Read an unsigned Exp-Golomb coded number, ue(v) (ITU-T H.264 9.1)."""
        left = 2 * self._value.bit_length() - self._left - 1  # as many leading zeros as bits after the first 1
        if left < 0:
            raise ValueError("a header is cut short")
        taken = self._value >> left
        self._value &= (1 << left) - 1
        self._left = left
        return taken - 1

    def se(self) -> int:
        """Read a signed Exp-Golomb coded number, se(v)."""
        number = self.ue()
        return (number + 1) // 2 if number % 2 else -(number // 2)


def unescape(data: bytes) -> bytes:
    """Remove the emulation prevention bytes of an H.264 or HEVC unit."""
    return data.replace(b"\0\0\3", b"\0\0") if b"\0\0\3" in data else data


def escape(data: bytes) -> bytes:
    """Insert emulation prevention bytes."""
    return _START.sub(b"\0\0\3", data)
