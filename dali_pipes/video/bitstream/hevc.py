"""`Hevc`: read the packets of an HEVC stream (ITU-T H.265). What is not understood here becomes a doubt."""

from __future__ import annotations

from typing import NamedTuple

from dali_pipes.video.bitstream.bits import Bits, unescape
from dali_pipes.video.bitstream.parameter_sets import HevcPps, HevcSps, hevc_pps, hevc_sps, references
from dali_pipes.video.bitstream.picture import PERIOD, Picture, near
from dali_pipes.video.bitstream.units import FILM_GRAIN, length_size, parameter_units, sei_types, units

_BLA, _IDR, _CRA = 16, (19, 20), 21  # random access starts at kinds from the first to the last of these
_LEADING = (6, 7, 8, 9)
_VPS, _SPS, _PPS = 32, 33, 34
_SEI = (39, 40)
_HARMLESS = (35, 38, *range(48, 64))  # delimiters and filler; unspecified ones, which FFmpeg leaves out
_HEADER = 32  # bytes of a slice header that hold what is read of it


class SliceForm(NamedTuple):
    """Form of slice headers, given by the parameter sets."""

    sps: HevcSps
    extra_bits: int
    output_flag: bool
    order_mask: int
    references: dict[int, dict[int, tuple[int, ...]]]
    """Parsed reference sets of slice headers, by the number of their bits and the bits. These are a prefix code: bits
    that begin with known ones mean the same."""


class Hevc:
    """A reader of HEVC packets. It keeps the parameter sets and the picture order count of the stream."""

    def __init__(self, extradata: bytes):
        self._prefix = length_size(extradata, "hevc")
        self._known = set(parameter_units(extradata, "hevc"))
        self._sps: dict[int, HevcSps] = {}
        self._pps: dict[int, HevcPps] = {}
        self._forms: dict[int, SliceForm] = {}
        self._period = self._last_order = 0
        self._orders: set[int] = set()  # of the pictures of this coded sequence
        for unit in self._known:
            self._store(unit)

    def read(self, packet: bytes) -> Picture:
        """Read a packet's headers."""
        starts, slices, resets, referenced = 0, 0, False, False
        layer, order, parameters, doubt = 0, 0, b"", ""
        for start, stop in units(packet, self._prefix):
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
                    order, problem = self._slice(packet, start, kind, layer)
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
        """Store a parameter set; return it if the extradata does not have it."""
        if unit in self._known:
            return b""
        self._store(unit)
        return unit

    def _store(self, unit: bytes) -> None:
        self._forms.clear()
        kind = unit[0] >> 1 & 0x3F if len(unit) > 1 and not (unit[0] & 1 or unit[1] & 0xF8) else 0
        if kind == _SPS:
            sps = hevc_sps(unit)
            self._sps[sps.number] = sps
        elif kind == _PPS:
            pps = hevc_pps(unit)
            self._pps[pps.number] = pps

    def _slice(self, packet: bytes, start: int, kind: int, layer: int) -> tuple[int, str]:
        """Read the header of a picture's first slice (7.3.6.1): the picture's order, and a doubt.

        This takes much of the time of a scan, so numbers are read in place, not by `Bits`. A header that is cut short
        makes a negative shift, which raises ValueError.
        """
        head = packet[start + 2 : start + 2 + _HEADER]
        if b"\0\0\3" in head:
            head = unescape(head)
        value, left = int.from_bytes(head, "big"), 8 * len(head) - 1
        doubt = ""
        if _BLA <= kind <= 23:
            left -= 1
            if value >> left & 1:
                doubt = "it has keyframes that drop the pictures before them"
        value &= (1 << left) - 1
        left -= 2 * (left - value.bit_length()) + 1
        number = (value >> left) - 1
        form = self._forms.get(number) or self._form(number)
        if form is None:
            return 0, "it has pictures whose parameter sets are missing"
        left -= form.extra_bits
        value &= (1 << left) - 1
        left -= 2 * (left - value.bit_length()) + 1  # slice_type
        if form.output_flag:
            left -= 1
            if not value >> left & 1:
                doubt = "it has pictures that are not shown"
        left -= 2 * form.sps.separate_planes
        order = 0
        starts_sequence = _BLA <= kind < _CRA
        if starts_sequence:
            self._period += PERIOD
            self._orders.clear()
        if kind not in _IDR:
            left -= form.sps.order_bits
            lsb = value >> left & form.order_mask
            order = lsb if starts_sequence else near(self._last_order, lsb, form.order_mask)
            if not _BLA <= kind <= _CRA:
                distances = self._references(form, value & (1 << left) - 1, left)
                if not self._orders.issuperset([order + distance for distance in distances]):
                    doubt = "it has pictures that refer to missing ones"
        self._orders.add(order)
        if layer == 0 and kind not in _LEADING and (kind > 15 or kind % 2):
            self._last_order = order
        return self._period + order, doubt

    def _form(self, number: int) -> SliceForm | None:
        """Return the form of slice headers that refer to a picture parameter set; None if it is missing."""
        if (pps := self._pps.get(number)) and (sps := self._sps.get(pps.sps)):
            self._forms[number] = SliceForm(sps, pps.extra_bits, pps.output_flag, (1 << sps.order_bits) - 1, {})
        return self._forms.get(number)

    def _references(self, form: SliceForm, value: int, left: int) -> tuple[int, ...]:
        """Return the distances of the pictures to which a picture refers, from the last `left` bits of a number."""
        for length, known in form.references.items():
            if length <= left and (distances := known.get(value >> left - length)) is not None:
                return distances
        bits = Bits.of(value, left)
        sets = form.sps.references
        if not bits.take(1):
            found = references(bits, sets, of_slice=True)
        elif not sets:
            raise ValueError("its reference pictures are missing")
        else:
            found = sets[bits.take((len(sets) - 1).bit_length())]
        length = left - bits.left
        distances = tuple(distance for distance, used in found if used)
        form.references.setdefault(length, {})[value >> bits.left] = distances
        return distances
