"""How the pictures of an H.264 or HEVC stream are kept, as the configuration box of its sample description says."""

from __future__ import annotations

from typing import NamedTuple

from dali_pipes import mp4

_WITH_CHROMA = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)  # H.264 profiles that say more
_ENOUGH = 256  # bytes of a parameter set in which all of this stands
CHROMA = ("4:0:0", "4:2:0", "4:2:2", "4:4:4")


class PictureFormat(NamedTuple):
    """Bits of a sample, how chroma is kept, and whether pictures may come as two fields."""

    bits: int = 8
    chroma: str = "4:2:0"
    fields: bool = False


def picture_format(codec: str, description: bytes) -> PictureFormat:
    """Of a stream's `stsd` box. Raises ValueError where it does not say."""
    kind, read = {"h264": (b"avcC", _h264), "hevc": (b"hvcC", _hevc)}[codec]
    try:
        return read(mp4.configuration(description, kind))
    except IndexError as error:
        raise ValueError(f"the {kind.decode()} box is cut short") from error


def _hevc(configuration: bytes) -> PictureFormat:
    """ISO/IEC 14496-15 8.3.3.1."""
    return PictureFormat(8 + (configuration[17] & 7), CHROMA[configuration[16] & 3])


def _h264(configuration: bytes) -> PictureFormat:
    """The first sequence parameter set (ITU-T H.264 7.3.2.1.1)."""
    if not configuration[5] & 31:
        raise ValueError("the avcC box has no sequence parameter set")
    profile, chroma, depth = configuration[9], 1, (0, 0)
    code = _Code(configuration[12:].replace(b"\0\0\3", b"\0\0")[:_ENOUGH])
    code.number()  # which set this is
    if profile in _WITH_CHROMA:
        chroma = code.number()
        if chroma == 3:
            code.bits(1)
        depth = code.number(), code.number()
        code.bits(1)
        _skip_scaling(code, 12 if chroma == 3 else 8)
    code.number()  # length of picture numbers
    _skip_order(code)
    code.number()  # reference pictures
    code.bits(1)
    code.number(), code.number()  # width and height
    return PictureFormat(8 + max(depth), CHROMA[chroma], fields=not code.bits(1))


def _skip_scaling(code: _Code, lists: int) -> None:
    if not code.bits(1):
        return
    for index in range(lists):
        if code.bits(1):
            last = following = 8
            for _ in range(16 if index < 6 else 64):
                if following:
                    following = (last + code.signed()) % 256
                last = following or last


def _skip_order(code: _Code) -> None:
    """How the order of presentation is written."""
    kind = code.number()
    if kind == 0:
        code.number()
    elif kind == 1:
        code.bits(1)
        code.signed(), code.signed()
        for _ in range(code.number()):
            code.signed()


class _Code:
    """Bits, and numbers in Exp-Golomb code (ITU-T H.264 9.1). Raises IndexError behind the end."""

    def __init__(self, data: bytes):
        self._bits = "".join(f"{byte:08b}" for byte in data)
        self._at = 0

    def bits(self, count: int) -> int:
        taken = self._bits[self._at : self._at + count]
        if len(taken) < count:
            raise IndexError
        self._at += count
        return int(taken, 2)

    def number(self) -> int:
        zeros = 0
        while not self.bits(1):
            zeros += 1
        return (1 << zeros) - 1 + (self.bits(zeros) if zeros else 0)

    def signed(self) -> int:
        number = self.number()
        return (number + 1) // 2 if number % 2 else -(number // 2)
