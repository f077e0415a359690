"""Parse the parameter sets of H.264 and HEVC: the fields for parsing slice headers and choosing a decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from dali_pipes.video import mp4
from dali_pipes.video.bitstream.bits import Bits, unescape
from dali_pipes.video.bitstream.units import parameter_units

_WITH_CHROMA = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)  # H.264 profiles with chroma_format_idc
_BASELINE = 66  # Baseline, an H.264 profile without B-pictures
_DECODE_ORDER = 2  # pic_order_cnt_type 2 of H.264 (8.2.1.3)
_ENOUGH = 256  # bytes of a parameter set that contain all of these fields
CHROMA = ("4:0:0", "4:2:0", "4:2:2", "4:4:4")


class PictureFormat(NamedTuple):
    """Bit depth, chroma subsampling, and True if pictures may be coded as two fields."""

    bits: int = 8
    chroma: str = "4:2:0"
    fields: bool = False


class H264Sps(NamedTuple):
    """A sequence parameter set (ITU-T H.264 7.3.2.1.1)."""

    number: int
    format: PictureFormat
    separate_planes: bool
    frame_num_bits: int
    order_type: int
    order_bits: int
    width: int  # coded size in pixels, before cropping
    height: int


class H264Pps(NamedTuple):
    """A picture parameter set (ITU-T H.264 7.3.2.2)."""

    number: int
    sps: int
    bottom_order: bool  # slice headers contain the order of bottom fields
    redundant: bool  # slice headers contain redundant_pic_cnt


References = tuple[tuple[int, bool], ...]
"""A short-term reference picture set of HEVC: distances in picture order, and whether the picture itself refers to each
(or only later ones do)."""


class HevcSps(NamedTuple):
    """A sequence parameter set (ITU-T H.265 7.3.2.2.1)."""

    number: int
    separate_planes: bool
    order_bits: int
    format: PictureFormat
    width: int  # coded size in pixels, before cropping
    height: int
    references: tuple[References, ...] = ()
    reordered: int = 0  # sps_max_num_reorder_pics


class HevcPps(NamedTuple):
    """A picture parameter set (ITU-T H.265 7.3.2.3.1)."""

    number: int
    sps: int
    output_flag: bool  # slice headers contain pic_output_flag
    extra_bits: int


class ParameterSets:
    """The parameter sets of a stream, with a cache of parsed slice headers.

    Files of the same encoder have the same sets, so they share the cache.
    """

    def __init__(self, parse: Callable[[bytes], NamedTuple | None], make_form: Callable, sets: Iterable[bytes] = ()):
        """Parse sets. `make_form` returns the format of slice headers from a sequence and a picture parameter set."""
        self._parse, self._make_form = parse, make_form
        self.sps: dict[int, NamedTuple] = {}
        self._pps: dict[int, NamedTuple] = {}
        self._forms: dict[int, NamedTuple] = {}
        self.beginnings: dict[bytes, NamedTuple] = {}
        """Parsed beginnings of slices, by the unit's header and the byte behind it, if they end there."""
        for unit in sets:
            self._store(unit)

    def _store(self, unit: bytes) -> None:
        found = self._parse(unit)
        if found is not None:
            kind = self.sps if isinstance(found, (H264Sps, HevcSps)) else self._pps
            kind[found.number] = found

    def replaced(self, unit: bytes) -> ParameterSets:
        """Return these sets with `unit` added or replaced."""
        sets = ParameterSets(self._parse, self._make_form)
        sets.sps, sets._pps = {**self.sps}, {**self._pps}
        sets._store(unit)
        return sets

    def form(self, number: int) -> NamedTuple | None:
        """Return the format of slice headers that refer to a picture parameter set; None if it is missing."""
        if number not in self._forms and (pps := self._pps.get(number)) and (sps := self.sps.get(pps.sps)):
            self._forms[number] = self._make_form(sps, pps)
        return self._forms.get(number)

    def add_beginning(self, unit: bytes, header: int, bits: int, beginning: NamedTuple) -> None:
        """Cache the meaning of the first `bits` bits after a unit header, if they lie in one byte.

        All bytes that begin with these bits have the same meaning.
        """
        spare = 8 - bits
        if spare >= 0:
            first = unit[header] >> spare << spare
            for byte in range(first, first + (1 << spare)):
                self.beginnings[unit[:header] + bytes((byte,))] = beginning


@lru_cache(maxsize=256)
def extradata_sets(
    extradata: bytes, codec: str, parse: Callable[[bytes], NamedTuple | None], make_form: Callable
) -> tuple[frozenset[bytes], ParameterSets]:
    """Return all units in a stream's extradata, and its parameter sets."""
    found = parameter_units(extradata, codec)
    return frozenset(found), ParameterSets(parse, make_form, found)


def picture_format(codec: str, description: bytes) -> PictureFormat:
    """Return the format of the pictures of a stream from its `stsd` box. Raises ValueError if it has none."""
    if codec == "hevc":
        configuration = mp4.configuration(description, b"hvcC")  # ISO/IEC 14496-15 8.3.3.1
        if len(configuration) < 18:
            raise ValueError("the hvcC box is cut short")
        return PictureFormat(8 + (configuration[17] & 7), CHROMA[configuration[16] & 3])
    configuration = mp4.configuration(description, b"avcC")
    if len(configuration) < 7:
        raise ValueError("the avcC box is cut short")
    sets = [unit for unit in parameter_units(configuration, "h264") if unit[0] & 31 == 7]
    if not sets:
        raise ValueError("the avcC box has no sequence parameter set")
    return h264_sps(sets[0]).format


def may_reorder(codec: str, extradata: bytes) -> bool:
    """Return False only if display order certainly equals decode order.

    Raises ValueError or IndexError if the extradata is malformed.
    """
    sets = parameter_units(extradata, codec)
    if codec == "hevc":
        return any(hevc_sps(unit).reordered for unit in sets if unit[0] >> 1 & 63 == 33)
    return any(
        unit[1] != _BASELINE and h264_sps(unit).order_type != _DECODE_ORDER for unit in sets if unit[0] & 31 == 7
    )


def h264_sps(unit: bytes) -> H264Sps:
    """Parse a sequence parameter set of H.264."""
    return read_h264_sps(unit, Bits(unescape(unit[4:_ENOUGH])))


def read_h264_sps(unit: bytes, bits: Bits) -> H264Sps:
    """Parse a sequence parameter set of H.264 up to frame_mbs_only_flag; `bits` start after the level."""
    profile, chroma, depth, separate = unit[1], 1, (0, 0), False
    number = bits.ue()
    if profile in _WITH_CHROMA:
        chroma = bits.ue()
        if chroma == 3:
            separate = bool(bits.u(1))
        depth = bits.ue(), bits.ue()
        bits.u(1)
        _skip_scaling(bits, 12 if chroma == 3 else 8)
    frame_num_bits = bits.ue() + 4
    order_type, order_bits = bits.ue(), 0
    if order_type == 0:
        order_bits = bits.ue() + 4
    elif order_type == 1:
        bits.u(1)
        bits.se(), bits.se()
        for _ in range(bits.ue()):
            bits.se()
    bits.ue()  # reference pictures
    bits.u(1)
    columns, rows = bits.ue() + 1, bits.ue() + 1  # rows of macroblocks, or of pairs of them
    if chroma >= len(CHROMA) or max(frame_num_bits, order_bits) > 16:
        raise ValueError("a sequence parameter set has numbers that are not allowed")
    fields = not bits.u(1)
    format_ = PictureFormat(8 + max(depth), CHROMA[chroma], fields)
    size = 16 * columns, 16 * rows * (1 + fields)
    return H264Sps(number, format_, separate, frame_num_bits, order_type, order_bits, *size)


def h264_pps(unit: bytes) -> H264Pps:
    """Parse a picture parameter set of H.264. Raises ValueError if it has slice groups, which FFmpeg does not
    support.
    """
    bits = Bits(unescape(unit[1:_ENOUGH]))
    number, sps = bits.ue(), bits.ue()
    bits.u(1)
    bottom_order = bool(bits.u(1))
    if bits.ue():
        raise ValueError("it has slice groups")
    bits.ue(), bits.ue()
    bits.u(3)
    bits.se(), bits.se(), bits.se()
    bits.u(2)
    return H264Pps(number, sps, bottom_order, bool(bits.u(1)))


def hevc_sps(unit: bytes) -> HevcSps:
    """Parse a sequence parameter set of HEVC."""
    bits = Bits(unescape(unit[2:]))
    start = read_hevc_sps(bits)
    if bits.u(1):
        for _ in range(4):
            bits.ue()
    bits.ue(), bits.ue()  # bit depth
    order_bits = bits.ue() + 4
    layers = (unit[2] >> 1 & 7) + 1
    for _ in range(layers if bits.u(1) else 1):  # the last one applies to all layers
        _, reordered, _ = bits.ue(), bits.ue(), bits.ue()
    for _ in range(6):  # sizes of blocks
        bits.ue()
    if bits.u(1) and bits.u(1):
        _skip_hevc_scaling(bits)
    bits.u(2)
    if bits.u(1):  # PCM
        bits.u(8)
        bits.ue(), bits.ue()
        bits.u(1)
    sets: list[References] = []
    for _ in range(bits.ue()):
        sets.append(references(bits, sets))
    return start._replace(order_bits=order_bits, references=tuple(sets), reordered=reordered)


def read_hevc_sps(bits: Bits) -> HevcSps:
    """Parse a sequence parameter set of HEVC up to its cropping flag; `bits` start after the unit header."""
    bits.u(4)
    layers = bits.u(3)
    bits.u(1 + 88 + 8)  # profile, tier and level
    present = [(bits.u(1), bits.u(1)) for _ in range(layers)]
    if layers:
        bits.u(2 * (8 - layers))
    for profile, level in present:
        bits.u(88 * profile + 8 * level)
    number, chroma = bits.ue(), bits.ue()
    separate = chroma == 3 and bool(bits.u(1))
    if chroma >= len(CHROMA):
        raise ValueError("a sequence parameter set has numbers that are not allowed")
    return HevcSps(number, separate, 0, PictureFormat(chroma=CHROMA[chroma]), bits.ue(), bits.ue())


def references(bits: Bits, sets: Sequence[References], *, of_slice: bool = False) -> References:
    """Parse a short-term reference picture set (7.3.7), given the previous ones; `of_slice`: it is in a slice
    header.
    """
    if sets and bits.u(1):  # predicted from another set
        base = sets[-1 - (bits.ue() if of_slice else 0)]
        sign = bits.u(1)
        shift = (bits.ue() + 1) * (1 - 2 * sign)
        found = []
        for distance in (*(distance for distance, _ in base), 0):
            used = bits.u(1)
            if used or bits.u(1):
                found.append((distance + shift, bool(used)))
    else:
        found = []
        for sign, count in zip((-1, 1), (bits.ue(), bits.ue()), strict=True):
            distance = 0
            for _ in range(count):
                distance += sign * (bits.ue() + 1)
                found.append((distance, bool(bits.u(1))))
    return tuple(sorted(found, key=lambda entry: (entry[0] > 0, abs(entry[0]))))


def hevc_pps(unit: bytes) -> HevcPps:
    """Parse a picture parameter set of HEVC."""
    bits = Bits(unescape(unit[2:_ENOUGH]))
    number, sps = bits.ue(), bits.ue()
    bits.u(1)
    return HevcPps(number, sps, bool(bits.u(1)), bits.u(3))


def _skip_hevc_scaling(bits: Bits) -> None:
    for size in range(4):
        for _ in range(2 if size == 3 else 6):
            if not bits.u(1):
                bits.ue()
                continue
            if size > 1:
                bits.se()
            for _ in range(min(64, 16 << 2 * size)):
                bits.se()


def _skip_scaling(bits: Bits, lists: int) -> None:
    if not bits.u(1):
        return
    for index in range(lists):
        if bits.u(1):
            last = following = 8
            for _ in range(16 if index < 6 else 64):
                if following:
                    following = (last + bits.se()) % 256
                last = following or last
