"""`Hevc`: read the packets of an HEVC stream (ITU-T H.265). What is not understood here becomes a doubt."""

from __future__ import annotations

from dali_pipes.video.bitstream.bits import Bits, unescape
from dali_pipes.video.bitstream.parameter_sets import HevcPps, HevcSps, hevc_pps, hevc_sps, references
from dali_pipes.video.bitstream.picture import PERIOD, Picture
from dali_pipes.video.bitstream.units import FILM_GRAIN, length_size, parameter_units, sei_types, units

_RANDOM_ACCESS = range(16, 22)  # BLA, IDR and CRA pictures
_IDR, _CRA, _LEADING = (19, 20), 21, range(6, 10)
_VPS, _SPS, _PPS = 32, 33, 34
_SEI = (39, 40)
_HARMLESS = (35, 38, *range(48, 64))  # delimiters and filler; unspecified ones, which FFmpeg leaves out
_HEADER = 64  # bytes of a slice header that hold what is read of it


class Hevc:
    """A reader of HEVC packets. It keeps the parameter sets and the picture order count of the stream."""

    def __init__(self, extradata: bytes):
        self._prefix = length_size(extradata, "hevc")
        self._known = set(parameter_units(extradata, "hevc"))
        self._sps: dict[int, HevcSps] = {}
        self._pps: dict[int, HevcPps] = {}
        self._period = self._last_order = 0
        self._orders: set[int] = set()  # of the pictures of this coded sequence
        for unit in self._known:
            self._store(unit)

    def read(self, packet: bytes) -> Picture:
        """Read a packet's headers."""
        starts, slices, resets, referenced = 0, 0, False, False
        layer, order, parameters, doubt = 0, 0, b"", ""
        for start, stop in units(packet, self._prefix):
            if packet[start] & 0x80:
                raise ValueError("a unit's forbidden bit is set")
            kind = packet[start] >> 1 & 0x3F
            if packet[start] & 1 or packet[start + 1] & 0xF8:
                doubt = "it has several layers" if kind < 48 else doubt
            elif kind < 32:
                slices += 1
                resets |= kind in _RANDOM_ACCESS
                referenced |= kind > 15 or kind % 2 == 1  # even kinds below 16: not referred to within their layer
                layer = (packet[start + 1] & 7) - 1
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
        kind = unit[0] >> 1 & 0x3F if len(unit) > 1 and not (unit[0] & 1 or unit[1] & 0xF8) else 0
        if kind == _SPS:
            sps = hevc_sps(unit)
            self._sps[sps.number] = sps
        elif kind == _PPS:
            pps = hevc_pps(unit)
            self._pps[pps.number] = pps

    def _slice(self, packet: bytes, start: int, kind: int, layer: int) -> tuple[int, str]:
        """Read a slice header (7.3.6.1): the picture's order, and a doubt."""
        bits = Bits(unescape(packet[start + 2 : start + 2 + _HEADER]))
        bits.take(1)
        doubt = ""
        if 16 <= kind <= 23 and bits.take(1):
            doubt = "it has keyframes that drop the pictures before them"
        pps = self._pps.get(bits.number())
        sps = self._sps.get(pps.sps) if pps else None
        if sps is None:
            return 0, "it has pictures whose parameter sets are missing"
        bits.take(pps.extra_bits)
        bits.number()
        if pps.output_flag and not bits.take(1):
            doubt = "it has pictures that are not shown"
        if sps.separate_planes:
            bits.take(2)
        starts_sequence = kind in _RANDOM_ACCESS and kind != _CRA
        if starts_sequence:
            self._period += PERIOD
        if starts_sequence:
            self._orders.clear()
        order = 0
        if kind not in _IDR:
            order = self._order(bits.take(sps.order_bits), 1 << sps.order_bits, starts_sequence)
            if kind not in _RANDOM_ACCESS and self._missing(bits, sps, order):
                doubt = "it has pictures that refer to missing ones"
        self._orders.add(order)
        if layer == 0 and kind not in _LEADING and (kind > 15 or kind % 2):
            self._last_order = order
        return self._period + order, doubt

    def _missing(self, bits: Bits, sps: HevcSps, order: int) -> bool:
        """Return whether a picture to which this one refers has not been seen."""
        sets = sps.references
        if not bits.take(1):
            found = references(bits, sets, of_slice=True)
        elif not sets:
            raise ValueError("its reference pictures are missing")
        else:
            found = sets[bits.take((len(sets) - 1).bit_length())]
        return any(used and order + distance not in self._orders for distance, used in found)

    def _order(self, lsb: int, size: int, starts_sequence: bool) -> int:
        """Return the picture order count (8.3.1) within the coded sequence."""
        if starts_sequence:
            return lsb
        last_lsb = self._last_order % size
        msb = self._last_order - last_lsb
        if lsb < last_lsb and last_lsb - lsb >= size // 2:
            msb += size
        elif lsb > last_lsb and lsb - last_lsb > size // 2:
            msb -= size
        return msb + lsb
