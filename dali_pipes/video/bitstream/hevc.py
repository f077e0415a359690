"""`Hevc`: parse the packets of an HEVC stream (ITU-T H.265). Features that are not understood here become doubts."""

from __future__ import annotations

from typing import NamedTuple

from dali_pipes.video.bitstream.bits import Bits, unescape
from dali_pipes.video.bitstream.parameter_sets import HevcPps, HevcSps, extradata_sets, hevc_pps, hevc_sps, references
from dali_pipes.video.bitstream.picture import PERIOD, Picture, nearest_picture_order, picture_of
from dali_pipes.video.bitstream.units import FILM_GRAIN, is_one_unit, length_size, sei_types, units

_BLA, _IDR, _CRA = 16, (19, 20), 21  # unit types in this range are random access points
_LEADING = (6, 7, 8, 9)
_VPS, _SPS, _PPS = 32, 33, 34
_SEI = (39, 40)
_RESERVED = (*range(10, 16), *range(22, 32))  # of slices
_HARMLESS = (35, 38, *range(48, 64))  # delimiters and filler; unspecified types, which FFmpeg ignores
_HEADER = 32  # bytes of a slice header that contain all parsed fields
_MISSING = "it has pictures whose parameter sets are missing"


class SliceForm(NamedTuple):
    """The format of slice headers, which the parameter sets define."""

    sps: HevcSps
    extra_bits: int
    output_flag: bool
    order_bits: int
    order_mask: int
    references: dict[int, dict[int, tuple[int, ...]]]
    """Parsed reference sets of slice headers, by the number of their bits and the bits. These are a prefix code: bits
    that begin with known ones mean the same."""


class Beginning(NamedTuple):
    """The header of a slice up to its picture order count, and the properties of its unit type."""

    form: SliceForm
    bits: int  # position after the unit header
    layer: int
    referenced: bool
    random_access: bool
    starts_sequence: bool
    ordered: bool  # the picture order follows
    counted_from: bool  # later picture order counts are relative to this one
    doubt: str


def _parse(unit: bytes) -> HevcSps | HevcPps | None:
    kind = unit[0] >> 1 & 0x3F if len(unit) > 1 and not (unit[0] & 1 or unit[1] & 0xF8) else 0
    return hevc_sps(unit) if kind == _SPS else hevc_pps(unit) if kind == _PPS else None


def _form(sps: HevcSps, pps: HevcPps) -> SliceForm:
    return SliceForm(sps, pps.extra_bits, pps.output_flag, sps.order_bits, (1 << sps.order_bits) - 1, {})


class Hevc:
    """A parser of HEVC packets, with the parameter sets and the picture order count of the stream."""

    def __init__(self, extradata: bytes):
        self._prefix = length_size(extradata, "hevc")
        self._known, self._sets = extradata_sets(extradata, "hevc", _parse, _form)
        self._period = self._last_order = 0
        self._orders: set[int] = set()  # picture orders of this coded sequence

    def read(self, packet: bytes) -> Picture:
        """Read a packet's headers."""
        start = self._prefix
        if is_one_unit(packet, start) and (known := self._sets.beginnings.get(packet[start : start + 3])):
            order, doubt = self._slice(packet, start, known)
            return picture_of((1, known.random_access, known.referenced, known.layer, b"", order, None, doubt))
        return self._read_units(packet, units(packet, start))

    def _read_units(self, packet: bytes, found: list[tuple[int, int]]) -> Picture:
        starts, slices, resets, referenced = 0, 0, False, False
        layer, order, parameters, doubt = 0, 0, b"", ""
        for start, stop in found:
            header = packet[start] << 8 | packet[start + 1]
            if header & 0x8000:
                raise ValueError("a unit's forbidden bit is set")
            kind = header >> 9
            if header & 0x1F8:
                doubt = "it has several layers" if kind < 48 else doubt
            elif kind < 32:
                slices += 1
                resets |= _BLA <= kind <= _CRA
                referenced |= kind > 15 or kind % 2 == 1  # even kinds below 16: not referred to within their layer
                layer = (header & 7) - 1
                if packet[start + 2] & 0x80:  # the first slice of a picture
                    starts += 1
                    beginning = self._beginning(packet, start, kind, layer)
                    order, problem = self._slice(packet, start, beginning) if beginning else (0, _MISSING)
                    doubt = doubt or problem
            elif kind in (_VPS, _SPS, _PPS):
                parameters += self._parameters(packet[start:stop].rstrip(b"\0"))
            elif kind in _SEI:
                if FILM_GRAIN in sei_types(packet, start + 2, stop):
                    doubt = "FFmpeg adds film grain to it"
            elif kind not in _HARMLESS:
                doubt = f"it has units of type {kind}"
        if slices and starts != 1:
            doubt = "it has packets of more pictures" if starts else "it has packets that start inside a picture"
        return Picture(min(slices, 1), resets, referenced, layer, parameters, order, None, doubt)

    def _parameters(self, unit: bytes) -> bytes:
        """Store a parameter set; return it if it is not in the extradata."""
        if unit in self._known:
            return b""
        self._sets = self._sets.replaced(unit)
        return unit

    def _beginning(self, packet: bytes, start: int, kind: int, layer: int) -> Beginning | None:
        """Parse the header of a picture's first slice (7.3.6.1) up to the picture order count.

        Returns None if a parameter set is missing.
        """
        if known := self._sets.beginnings.get(packet[start : start + 3]):
            return known
        bits = Bits(unescape(packet[start + 2 : start + 2 + _HEADER]))
        total, doubt = bits.left, ""
        bits.u(1)  # first_slice_segment_in_pic_flag
        if _BLA <= kind <= 23 and bits.u(1):
            doubt = "it has keyframes that drop the pictures before them"
        if kind in _RESERVED:
            doubt = f"it has units of type {kind}"
        number = bits.ue()
        form = self._sets.form(number)
        if form is None:
            return None
        bits.u(form.extra_bits)
        bits.ue()  # slice_type
        if form.output_flag and not bits.u(1):
            doubt = "it has pictures that are not shown"
        bits.u(2 * form.sps.separate_planes)
        referenced = kind > 15 or kind % 2 == 1  # even kinds below 16: not referred to within their layer
        beginning = Beginning(
            form=form,
            bits=total - bits.left,
            layer=layer,
            referenced=referenced,
            random_access=_BLA <= kind <= _CRA,
            starts_sequence=_BLA <= kind < _CRA,
            ordered=kind not in _IDR,
            counted_from=layer == 0 and kind not in _LEADING and referenced,
            doubt=doubt,
        )
        self._sets.add_beginning(packet[start : start + 3], 2, beginning.bits, beginning)
        return beginning

    def _slice(self, packet: bytes, start: int, beginning: Beginning) -> tuple[int, str]:
        """Parse the rest of the header up to the reference pictures; return (picture order, a doubt).

        This takes much of the time of a scan, so numbers are read inline, not with `Bits`. A truncated header leads to
        a negative shift, which raises ValueError.
        """
        head = packet[start + 2 : start + 2 + _HEADER]
        if b"\0\0\3" in head:
            head = unescape(head)
        value, left = int.from_bytes(head, "big"), 8 * len(head) - beginning.bits
        form, doubt, order = beginning.form, beginning.doubt, 0
        if beginning.starts_sequence:
            self._period += PERIOD
            self._orders.clear()
        if beginning.ordered:
            left -= form.order_bits
            order = value >> left & form.order_mask
            if not beginning.starts_sequence:
                order = nearest_picture_order(self._last_order, order, form.order_mask)
            if not beginning.random_access:
                for distance in self._references(form, value & (1 << left) - 1, left):
                    if order + distance not in self._orders:
                        doubt = "it has pictures that refer to missing ones"
        self._orders.add(order)
        if beginning.counted_from:
            self._last_order = order
        return self._period + order, doubt

    def _references(self, form: SliceForm, value: int, left: int) -> tuple[int, ...]:
        """Return the distances to a picture's reference pictures, from the lowest `left` bits of a number."""
        for length, known in form.references.items():
            if length <= left and (distances := known.get(value >> left - length)) is not None:
                return distances
        bits = Bits.of(value, left)
        sets = form.sps.references
        if not bits.u(1):
            found = references(bits, sets, of_slice=True)
        elif not sets:
            raise ValueError("its reference pictures are missing")
        else:
            found = sets[bits.u((len(sets) - 1).bit_length())]
        length = left - bits.left
        distances = tuple(distance for distance, used in found if used)
        form.references.setdefault(length, {})[value >> bits.left] = distances
        return distances
