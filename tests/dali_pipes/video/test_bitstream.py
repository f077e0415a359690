"""What headers say: units put together by hand, bit by bit as the standards number them."""

import pytest

from dali_pipes.video import bitstream
from dali_pipes.video.bitstream import Picture, as_stored_in_mp4, break_link, units

AVC_CONFIGURATION = bytes((1, 100, 0, 30, 0xFF)) + bytes(20)  # lengths of 4 bytes (ISO/IEC 14496-15 5.3.3)
HEVC_CONFIGURATION = bytes((1, *[0] * 20, 0xFF, 0))  # the same (8.3.3)
ANNEX_B = b"\0\0\0\1\x67sps\0\0\1\x65slice\0\0\0\1\x41more"


def avc(kind: int, reference: int = 0, forbidden: int = 0) -> bytes:
    """A unit of H.264: its header (ITU-T H.264 7.3.1) and something behind it."""
    return bytes((forbidden << 7 | reference << 5 | kind,)) + b"rest"


def hevc(kind: int, layer: int = 0, forbidden: int = 0, scalable: int = 0) -> bytes:
    """A unit of HEVC: its header (ITU-T H.265 7.3.1.2), of a temporal layer, and something behind it."""
    return bytes((forbidden << 7 | kind << 1 | scalable >> 5, (scalable & 31) << 3 | layer + 1)) + b"rest"


def stored(*all_units: bytes) -> bytes:
    """Units as mp4 stores them."""
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in all_units)


@pytest.mark.parametrize(
    ("codec", "extradata", "expected"),
    [
        ("h264", AVC_CONFIGURATION, 4),
        ("h264", bytes((1, 100, 0, 30, 0xFC)) + bytes(20), 1),
        ("h264", ANNEX_B, 0),
        ("h264", b"", 0),
        ("hevc", HEVC_CONFIGURATION, 4),
        ("hevc", b"\0\0\0\1" + bytes(30), 0),
        ("hevc", b"\0\0\1" + bytes(30), 0),
        ("hevc", b"", 0),
        ("vp9", AVC_CONFIGURATION, 0),
    ],
)
def test_the_configuration_says_how_long_lengths_are(codec, extradata, expected):
    assert bitstream.length_size(extradata, codec) == expected


def test_units_are_found_by_start_codes_and_by_lengths_alike():
    expected = [b"\x67sps", b"\x65slice", b"\x41more"]
    assert [ANNEX_B[start:end] for start, end in units(ANNEX_B, 0)] == expected
    packet = stored(expected[0], b"", *expected[1:])
    assert [packet[start:end] for start, end in units(packet, 4)] == expected, "an empty unit is none"
    assert [packet[start:end] for start, end in units(packet, 4, 8, 12)] == []
    assert [packet[start:end] for start, end in units(packet, 4, 12)] == expected[1:]


@pytest.mark.parametrize("packet", [stored(b"unit")[:-1], stored(b"unit") + b"\0\0\0", b"\xff\xff\xff\xffunit"])
def test_lengths_that_do_not_add_up_are_an_error(packet):
    with pytest.raises(ValueError, match="do not add up"):
        list(units(packet, 4))


def test_what_has_start_codes_is_stored_with_lengths_and_all_else_as_it_is():
    with_lengths = stored(b"\x67sps", b"\x65slice", b"\x41more")
    for codec in ("h264", "hevc"):
        assert as_stored_in_mp4(codec, b"")(ANNEX_B) == with_lengths
    assert as_stored_in_mp4("h264", AVC_CONFIGURATION)(with_lengths) == with_lengths
    assert as_stored_in_mp4("mpeg4", b"")(ANNEX_B) == ANNEX_B


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (stored(avc(5, 3)), Picture(1, resets=True, referenced=True)),
        (stored(avc(1, 1)), Picture(1, resets=False, referenced=True)),
        (stored(avc(1, 0)), Picture(1, resets=False, referenced=False)),
        (stored(avc(1, 1), avc(1, 0)), Picture(1, resets=False, referenced=True)),  # two slices
        (stored(avc(6, 0), avc(7, 3), avc(8, 3), avc(5, 3)), Picture(1, True, True, 0, avc(7, 3) + avc(8, 3))),
        (stored(avc(9, 3)), Picture(0, resets=False, referenced=False)),  # a delimiter shows nothing
    ],
)
def test_an_h264_packet_is_what_its_slices_are(packet, expected):
    assert bitstream.READERS["h264"](packet, 4) == expected


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (stored(hevc(0)), Picture(1, resets=False, referenced=False)),
        (stored(hevc(1)), Picture(1, resets=False, referenced=True)),
        (stored(hevc(8)), Picture(1, resets=False, referenced=False)),  # a skipped leading picture
        (stored(hevc(9)), Picture(1, resets=False, referenced=True)),
        (stored(hevc(2, layer=2)), Picture(1, resets=False, referenced=False, layer=2)),
        *[(stored(hevc(kind)), Picture(1, resets=True, referenced=True)) for kind in range(16, 22)],
        (stored(hevc(22)), Picture(1, resets=False, referenced=True)),  # reserved
        (stored(hevc(32), hevc(34), hevc(19)), Picture(1, True, True, 0, hevc(32) + hevc(34))),
        (stored(hevc(39)), Picture(0, resets=False, referenced=False)),
    ],
)
def test_an_hevc_packet_is_what_its_slices_are(packet, expected):
    assert bitstream.READERS["hevc"](packet, 4) == expected


@pytest.mark.parametrize(("codec", "unit"), [("h264", avc(5, 3, forbidden=1)), ("hevc", hevc(19, forbidden=1))])
def test_a_forbidden_bit_is_an_error(codec, unit):
    with pytest.raises(ValueError, match="forbidden bit"):
        bitstream.READERS[codec](stored(unit), 4)


def test_broken_links_are_marked_where_they_are_asked_for_and_nothing_else_is_touched():
    """Of the two header bytes only the kind changes: 21, clean random access, to 18, broken link without leading."""
    before = stored(hevc(32), hevc(21, layer=1, scalable=33), hevc(21))
    rest = stored(hevc(21), hevc(19))
    body = bytearray(before + rest + before)
    break_link(body, 4, len(before), len(before) + len(rest))
    assert body == before + stored(hevc(18), hevc(19)) + before
    break_link(body, 4, 0, len(before))
    assert body[: len(before)] == stored(hevc(32), hevc(18, layer=1, scalable=33), hevc(18))


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        ("10 0 0 0 0 1 0", Picture(1, resets=True)),  # marker, profile, does not repeat, intra, shown
        ("10 0 0 0 0 0 0", Picture(0, resets=True)),
        ("10 0 0 0 1 1 0", Picture(1, resets=False)),
        ("10 0 0 1 0 0 0", Picture(1, resets=False)),  # shows an older picture again
        ("10 1 1 0 0 0 1", Picture(1, resets=True)),  # profile 3 has one bit more
    ],
)
def test_a_vp9_packet_is_what_its_first_bits_say(bits, expected):
    packet = bytes((int(bits.replace(" ", ""), 2), 0x49, 0))
    assert bitstream.READERS["vp9"](packet, 0) == expected


def test_a_vp9_superframe_shows_a_picture_though_it_starts_with_a_hidden_one():
    hidden, shown = bytes((0b10000000, 1)), bytes((0b10000110, 1, 1))
    index = bytes((0b11000001, len(hidden), len(shown), 0b11000001))  # two frames, their sizes in one byte each
    assert bitstream.READERS["vp9"](hidden + shown + index, 0) == Picture(1, resets=True)
    with pytest.raises(ValueError, match="marker"):
        bitstream.READERS["vp9"](b"\0\0", 0)


def test_a_vp8_packet_says_whether_it_is_shown():
    assert [bitstream.READERS["vp8"](bytes((first,)), 0).pictures for first in (0x10, 0x00)] == [1, 0]


@pytest.mark.parametrize(("kind", "resets", "referenced"), [(0, True, True), (1, False, True), (2, False, False)])
def test_pictures_of_mpeg4_and_mpeg2_say_their_kind(kind, resets, referenced):
    of_mpeg4 = b"\0\0\1\xb6" + bytes((kind << 6,)) + bytes(9)
    of_mpeg2 = b"\0\0\1\0\0" + bytes((kind + 1 << 3,)) + bytes(9)
    assert bitstream.READERS["mpeg4"](of_mpeg4, 0) == Picture(1, resets, referenced)
    assert bitstream.READERS["mpeg2video"](of_mpeg2, 0) == Picture(1, resets, referenced)


def test_packed_pictures_of_mpeg4_are_counted_and_their_stand_ins_are_errors():
    picture = b"\0\0\1\xb6\x40" + bytes(9)
    assert bitstream.READERS["mpeg4"](picture * 2, 0).pictures == 2
    for stand_in in (picture[:8], b"", bytes(20)):
        with pytest.raises(ValueError, match="empty"):
            bitstream.READERS["mpeg4"](stand_in, 0)
