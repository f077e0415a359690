"""`H264`: parse the packets of an H.264 stream (ITU-T H.264). Features that are not understood here become doubts."""

from __future__ import annotations

import re
from typing import NamedTuple

from dali_pipes.video.bitstream.bits import Bits, unescape
from dali_pipes.video.bitstream.parameter_sets import H264Pps, H264Sps, extradata_sets, h264_pps, h264_sps
from dali_pipes.video.bitstream.picture import PERIOD, Picture, nearest_picture_order, picture_of
from dali_pipes.video.bitstream.units import FILM_GRAIN, is_one_unit, length_size, sei_types, units

_HARMLESS = (9, 10, 11, 12)  # delimiters, ends and filler
_SLICE, _IDR, _SEI, _SPS, _PPS = 1, 5, 6, 7, 8
_X264 = re.compile(rb"x264 - core (\d+)")
_INTRA_SLICES = (2, 7)
_HEADER = 24  # bytes of a slice header that contain all parsed fields
_MISSING = "it has pictures whose parameter sets are missing"


class SliceForm(NamedTuple):
    """The format of slice headers, which the parameter sets define."""

    frame_num_bits: int
    frame_num_mask: int
    separate_planes: bool
    fields: bool
    order_type: int
    order_bits: int
    order_mask: int
    bottom_order: bool
    redundant: bool


class Beginning(NamedTuple):
    """The header of a slice up to frame_num, and the fields of its unit header."""

    form: SliceForm
    bits: int  # position after the unit header
    idr: bool
    referenced: bool
    intra: bool
    inside: bool  # it does not start with the first macroblock


def _parse(unit: bytes) -> H264Sps | H264Pps | None:
    kind = unit[0] & 31 if unit else 0
    return h264_sps(unit) if kind == _SPS else h264_pps(unit) if kind == _PPS else None


def _form(sps: H264Sps, pps: H264Pps) -> SliceForm:
    return SliceForm(
        frame_num_bits=sps.frame_num_bits,
        frame_num_mask=(1 << sps.frame_num_bits) - 1,
        separate_planes=sps.separate_planes,
        fields=sps.format.fields,
        order_type=sps.order_type,
        order_bits=sps.order_bits,
        order_mask=(1 << sps.order_bits) - 1,
        bottom_order=pps.bottom_order and sps.order_type == 0,
        redundant=pps.redundant,
    )


class H264:
    """A parser of H.264 packets, with the parameter sets and the picture order count of the stream."""

    def __init__(self, extradata: bytes):
        self._prefix = length_size(extradata, "h264")
        self._known, self._sets = extradata_sets(extradata, "h264", _parse, _form)
        self._period = self._count = 0
        self._last_order = self._last_frame_num = 0

    def read(self, packet: bytes) -> Picture:
        """Read a packet's headers."""
        start = self._prefix
        if is_one_unit(packet, start):
            known = self._sets.beginnings.get(packet[start : start + 2])
            if known and not known.form.fields:
                order, _, doubt = self._slice(packet, start, known)
                return picture_of((1, known.idr, known.referenced, 0, b"", order, None, doubt))
        return self._read_units(packet, units(packet, start))

    def _read_units(self, packet: bytes, found: list[tuple[int, int]]) -> Picture:
        starts, resets, referenced, field = 0, False, False, False
        order, parameters, doubt = 0, b"", ""
        for start, stop in found:
            header = packet[start]
            if header & 0x80:
                raise ValueError("a unit's forbidden bit is set")
            kind = header & 31
            if kind in (_SLICE, _IDR):
                resets |= kind == _IDR  # after a non-IDR I picture, older pictures may be referenced
                referenced |= header & 0x60 != 0
                if starts == 0:
                    beginning = self._beginning(packet, start)
                    order, field, problem = self._slice(packet, start, beginning) if beginning else (0, False, _MISSING)
                    doubt = doubt or problem
                    starts = 1
                elif packet[start + 1] & 0x80:  # it starts with the first macroblock
                    starts += 1
            elif kind in (_SPS, _PPS):
                parameters += self._parameters(packet[start:stop].rstrip(b"\0"))
            elif kind == _SEI:
                doubt = doubt or self._sei(packet, start, stop)
            elif kind not in _HARMLESS:
                doubt = f"it has units of type {kind}"
        if starts != 1 + field and starts:
            doubt = (
                "it has packets with one of two fields" if field and starts == 1 else "it has packets of more pictures"
            )
        return Picture(min(starts, 1), resets, referenced, 0, parameters, order, None, doubt)

    def _parameters(self, unit: bytes) -> bytes:
        """Store a parameter set; return it if it is not in the extradata."""
        if unit in self._known:
            return b""
        self._sets = self._sets.replaced(unit)
        return unit

    def _beginning(self, packet: bytes, start: int) -> Beginning | None:
        """Parse a slice header (7.3.3) up to frame_num. Returns None if a parameter set is missing."""
        if known := self._sets.beginnings.get(packet[start : start + 2]):
            return known
        bits = Bits(unescape(packet[start + 1 : start + 1 + _HEADER]))
        total = bits.left
        first, kind = bits.ue(), bits.ue()
        form = self._sets.form(bits.ue())
        if form is None:
            return None
        bits.u(2 * form.separate_planes)
        beginning = Beginning(
            form=form,
            bits=total - bits.left,
            idr=packet[start] & 31 == _IDR,
            referenced=packet[start] & 0x60 != 0,
            intra=kind in _INTRA_SLICES,
            inside=first > 0,
        )
        self._sets.add_beginning(packet[start : start + 2], 1, beginning.bits, beginning)
        return beginning

    def _slice(self, packet: bytes, start: int, beginning: Beginning) -> tuple[int, bool, str]:
        """Parse the rest of the header; return (picture order, is it a field, a doubt).

        This takes most of the time of a scan, so numbers are read inline, not with `Bits`. A truncated header leads to
        a negative shift, which raises ValueError.
        """
        head = packet[start + 1 : start + 1 + _HEADER]
        if b"\0\0\3" in head:
            head = unescape(head)
        value, left = int.from_bytes(head, "big"), 8 * len(head) - beginning.bits
        form, idr = beginning.form, beginning.idr
        left -= form.frame_num_bits
        number, last = value >> left & form.frame_num_mask, 0 if idr else self._last_frame_num
        doubt = ""
        if number != last and number != last + 1 & form.frame_num_mask:
            doubt = "it has pictures that refer to missing ones"  # a gap in frame_num (7.4.3)
        if beginning.referenced:
            self._last_frame_num = number
        field = False
        if form.fields:
            left -= 1
            field = bool(value >> left & 1)
            left -= field
        if idr:
            self._period += PERIOD
            value &= (1 << left) - 1
            left -= 2 * (left - value.bit_length()) + 1  # idr_pic_id
        left -= form.order_bits
        lsb = value >> left & form.order_mask
        bits = Bits.of(value & (1 << left) - 1, left) if idr or form.bottom_order else None
        bottom = bits.se() if form.bottom_order and not field else 0
        if beginning.inside:
            doubt = "it has packets that start inside a picture"
        if form.order_type == 1:
            doubt = "its pictures are ordered in a way that is not understood here"
        elif idr and beginning.intra:
            if form.redundant:
                bits.ue()
            if bits.u(1):
                doubt = "it has keyframes that drop the pictures before them"
        if form.order_type:
            self._count += 1
            return self._period + self._count, field, doubt
        order = nearest_picture_order(0 if idr else self._last_order, lsb, form.order_mask)
        if beginning.referenced:
            self._last_order = order
        return self._period + order + min(bottom, 0), field, doubt

    def _sei(self, packet: bytes, start: int, stop: int) -> str:
        """Return a doubt if this unit changes how FFmpeg decodes this or later pictures."""
        if FILM_GRAIN in sei_types(packet, start + 1, stop):
            return "FFmpeg adds film grain to it"
        if (build := _X264.search(packet, start, stop)) is None:
            return ""
        # libavcodec: h264_direct.c up to build 33, and CHROMA444 in h264_cabac.c and h264_cavlc.c below 151.
        old = int(build[1]) <= 33 or (
            int(build[1]) < 151 and any(sps.format.chroma == "4:4:4" for sps in self._sets.sps.values())
        )
        return "its encoder is an x264 whose errors FFmpeg works around" if old else ""
