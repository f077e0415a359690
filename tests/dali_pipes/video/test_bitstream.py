"""Packet headers: units assembled by hand, bit by bit as the standards define them."""

import pytest

from dali_pipes.video import bitstream
from dali_pipes.video.bitstream import Picture, as_stored_in_mp4, break_link, make_reader, units
from dali_pipes.video.bitstream.bits import escape
from dali_pipes.video.bitstream.units import parameter_units, sei_types

AVC_CONFIGURATION = bytes((1, 100, 0, 30, 0xFF, 0xE0, 0))  # lengths of 4 bytes, no sets (ISO/IEC 14496-15 5.3.3)
HEVC_CONFIGURATION = bytes((1, *[0] * 20, 0xFF, 0))  # the same (8.3.3)
ANNEX_B = b"\0\0\0\1\x67sps\0\0\1\x65slice\0\0\0\1\x41more"


def ue(number: int) -> str:
    """Return a number in Exp-Golomb code (ITU-T H.264 9.1)."""
    return "0" * ((number + 1).bit_length() - 1) + f"{number + 1:b}"


def packed(*fields: str) -> bytes:
    """Return bits as bytes, with a stop bit and padding at the end."""
    bits = "".join(fields).replace(" ", "") + "1"
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def stored(*all_units: bytes) -> bytes:
    """Return units as mp4 stores them."""
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in all_units)


def avc_sps(*, frames_only: bool = True, order_type: int = 0) -> bytes:
    """Return a sequence parameter set (7.3.2.1.1): 4 bits of frame_num, 4 of the picture order, 6 x 3 macroblocks."""
    order = ue(0) if order_type == 0 else ""
    rest = ue(1) + "0" + ue(5) + ue(2) + ("1" if frames_only else "00") + "0000"
    return b"\x67\x42\0\x1e" + packed(ue(0), ue(0), ue(order_type), order, rest)


AVC_PPS = b"\x68" + packed(ue(0), ue(0), "00", ue(0), ue(0), ue(0), "0 00", ue(0) * 3, "0 0 0")


def avc_slice(
    kind: int,
    order: int,
    *,
    number: int = 0,
    reference: int = 1,
    first: int = 0,
    slices: int = 7,
    field: str = "",
    drop: str = "0",
) -> bytes:
    """Return a slice (7.3.3) of an I picture.

    `slices`: slice_type; 7 takes more bits than a byte has. `field`: field_pic_flag and bottom_field_flag, if the
    sequence has fields.
    """
    idr = ue(0) if kind == 5 else ""
    marking = f"{drop}0" if kind == 5 else ""
    header = packed(ue(first), ue(slices), ue(0), f"{number:04b}", field, idr, f"{order:04b}", marking) + b"rest"
    return bytes((reference << 5 | kind,)) + header


def h264(*sets: bytes):
    """Return a reader that has seen these parameter sets."""
    reader = make_reader("h264", AVC_CONFIGURATION, "avc1")
    reader.read(stored(*(sets or (avc_sps(), AVC_PPS))))
    return reader


HEVC_SPS = b"\x42\1" + packed(
    "0000 000 1",
    "0" * 96,
    ue(0),
    ue(1),
    ue(96),
    ue(48),
    "0",
    ue(0),
    ue(0),
    ue(0),
    "0",
    ue(0) * 9,
    "0 00 0",
    ue(1),
    ue(0) * 2,
)
HEVC_PPS = b"\x44\1" + packed(ue(0), ue(0), "0 0 000")


def hevc_unit(kind: int, layer: int = 0, forbidden: int = 0, scalable: int = 0) -> bytes:
    """Return a unit with its header (ITU-T H.265 7.3.1.2), of a temporal layer."""
    return bytes((forbidden << 7 | kind << 1 | scalable >> 5, (scalable & 31) << 3 | layer + 1))


def hevc_slice(
    kind: int, order: int = 0, *, layer: int = 0, first: str = "1", drop: str = "0", refers: str = "1"
) -> bytes:
    """Return a slice (7.3.6.1) of a picture whose order has 4 bits. `refers`: its reference pictures."""
    access = drop if 16 <= kind <= 23 else ""
    bits = packed(first, access, ue(0), ue(2), "" if kind in (19, 20) else f"{order:04b}{refers}")
    return hevc_unit(kind, layer) + bits + b"rest"


def hevc():
    """Return a reader that has seen the parameter sets."""
    reader = make_reader("hevc", HEVC_CONFIGURATION, "hvc1")
    reader.read(stored(HEVC_SPS, HEVC_PPS))
    return reader


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
def test_the_configuration_gives_the_size_of_unit_lengths(codec, extradata, expected):
    assert bitstream.length_size(extradata, codec) == expected


def test_units_are_found_by_start_codes_and_by_lengths_alike():
    expected = [b"\x67sps", b"\x65slice", b"\x41more"]
    assert [ANNEX_B[start:end] for start, end in units(ANNEX_B, 0)] == expected
    packet = stored(*expected)
    assert [packet[start:end] for start, end in units(packet, 4)] == expected
    assert [packet[start:end] for start, end in units(packet, 4, 8)] == expected[1:]
    assert [packet[start:end] for start, end in units(packet, 4, 8, 8)] == []


@pytest.mark.parametrize(
    "packet",
    [
        stored(b"unit")[:-1],
        stored(b"unit") + b"\0\0\0",
        b"\xff\xff\xff\xffunit",
        stored(b"unit", b"", b"unit"),  # FFmpeg takes no packet with an empty unit
    ],
)
def test_lengths_that_do_not_add_up_are_an_error(packet):
    with pytest.raises(ValueError, match="do not add up"):
        list(units(packet, 4))


def test_units_with_start_codes_are_stored_with_lengths_and_others_unchanged():
    with_lengths = stored(b"\x67sps", b"\x65slice", b"\x41more")
    for codec in ("h264", "hevc"):
        assert as_stored_in_mp4(codec, b"")(ANNEX_B) == with_lengths
    assert as_stored_in_mp4("h264", AVC_CONFIGURATION)(with_lengths) == with_lengths
    assert as_stored_in_mp4("mpeg4", b"")(ANNEX_B) == ANNEX_B


def test_parameter_sets_are_found_in_every_form_of_extradata():
    sps, pps, vps = b"\x67sps", b"\x68pp", b"\x40vps"
    two_bytes = [len(unit).to_bytes(2, "big") + unit for unit in (sps, pps, vps)]
    avcc = bytes((1, 66, 0, 30, 0xFF, 0xE1)) + two_bytes[0] + b"\1" + two_bytes[1]
    hvcc = bytes((1, *[0] * 20, 0xFF, 2)) + b"\x20\0\1" + two_bytes[2] + b"\x21\0\2" + two_bytes[0] + two_bytes[1]
    assert parameter_units(avcc, "h264") == [sps, pps]
    assert parameter_units(hvcc, "hevc") == [vps, sps, pps]
    assert parameter_units(b"\0\0\0\1" + sps + b"\0\0\1" + pps, "h264") == [sps, pps]
    with pytest.raises(ValueError, match="cut short"):
        parameter_units(avcc[:-1], "h264")


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (stored(avc_slice(5, 0)), (1, True, True, "")),
        (stored(avc_slice(1, 2)), (1, False, True, "")),
        (stored(avc_slice(1, 2, reference=0)), (1, False, False, "")),
        (stored(avc_slice(1, 2), avc_slice(1, 2, reference=0, first=5)), (1, False, True, "")),  # two slices
        (stored(b"\x09\x10"), (0, False, False, "")),  # a delimiter shows nothing
        (stored(avc_slice(5, 0, drop="1")), (1, True, True, "it has keyframes that drop the pictures before them")),
        (stored(avc_slice(1, 2, first=5)), (1, False, True, "it has packets that start inside a picture")),
        (stored(avc_slice(1, 2), avc_slice(1, 4)), (1, False, True, "it has packets of more pictures")),
        (stored(b"\x02part"), (0, False, False, "it has units of type 2")),
        (stored(b"\x06\x13\x01x\x80", avc_slice(1, 2)), (1, False, True, "FFmpeg adds film grain to it")),
        (stored(b"\x06\x04\x01x\x80", avc_slice(1, 2)), (1, False, True, "")),
    ],
)
def test_the_slices_of_an_h264_packet_give_its_pictures_and_references(packet, expected):
    found = h264().read(packet)
    assert (found.pictures, found.resets, found.referenced, found.doubt) == expected


def test_h264_pictures_without_their_parameter_sets_are_a_doubt():
    assert "missing" in make_reader("h264", AVC_CONFIGURATION, "avc1").read(stored(avc_slice(5, 0))).doubt


@pytest.mark.parametrize(("build", "doubted"), [(33, True), (34, False), (150, False), (165, False)])
def test_builds_of_x264_whose_errors_ffmpeg_works_around_are_a_doubt(build, doubted):
    unit = b"\x06\x05" + bytes((30,)) + bytes(16) + f"x264 - core {build}".encode() + b"\x80"
    assert bool(h264().read(stored(unit, avc_slice(5, 0))).doubt) is doubted


def test_two_fields_in_a_packet_are_a_picture_and_one_is_a_doubt():
    top, bottom = avc_slice(5, 0, field="10"), avc_slice(1, 1, field="11")
    sets = avc_sps(frames_only=False), AVC_PPS
    assert h264(*sets).read(stored(top, bottom)).doubt == ""
    assert "one of two fields" in h264(*sets).read(stored(top)).doubt
    assert h264(*sets).read(stored(avc_slice(5, 0, field="0"))).doubt == ""


def test_h264_pictures_are_ordered_by_their_count_and_after_those_of_earlier_sequences():
    reader = h264()
    sent = [(5, 0), (1, 6), (1, 4), (1, 12), (1, 2), (5, 0), (1, 4)]  # 2 means 18: the count has 4 bits
    orders = [reader.read(stored(avc_slice(kind, order))).order for kind, order in sent]
    assert sorted(range(7), key=lambda place: orders[place]) == [0, 2, 1, 3, 4, 5, 6]


def test_only_parameter_sets_that_the_extradata_lacks_are_reported():
    sps = avc_sps()
    extradata = bytes((1, 66, 0, 30, 0xFF, 0xE1)) + len(sps).to_bytes(2, "big") + sps + b"\0"
    reader = make_reader("h264", extradata, "avc1")
    assert reader.read(stored(sps, AVC_PPS, avc_slice(5, 0))).parameters == AVC_PPS


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (stored(hevc_slice(0, 2)), (1, False, False, 0, "")),
        (stored(hevc_slice(1, 2)), (1, False, True, 0, "")),
        (stored(hevc_slice(8, 2)), (1, False, False, 0, "")),  # a skipped leading picture
        (stored(hevc_slice(9, 2)), (1, False, True, 0, "")),
        (stored(hevc_slice(2, 2, layer=2)), (1, False, False, 2, "")),
        *[(stored(hevc_slice(kind)), (1, True, True, 0, "")) for kind in range(16, 22)],
        (stored(hevc_slice(22)), (1, False, True, 0, "it has units of type 22")),  # reserved
        (stored(hevc_slice(1, 2), hevc_slice(1, 2, first="0")), (1, False, True, 0, "")),  # two slices
        (stored(b"\x46\1\x50"), (0, False, False, 0, "")),
        (stored(hevc_slice(19, drop="1")), (1, True, True, 0, "it has keyframes that drop the pictures before them")),
        (stored(hevc_slice(1, 2, first="0")), (1, False, True, 0, "it has packets that start inside a picture")),
        (stored(hevc_slice(1, 2), hevc_slice(1, 3)), (1, False, True, 0, "it has packets of more pictures")),
        (stored(hevc_unit(36)), (0, False, False, 0, "it has units of type 36")),
        (stored(hevc_unit(1, scalable=1) + b"rest"), (0, False, False, 0, "it has several layers")),
        (stored(hevc_unit(62) + b"dovi"), (0, False, False, 0, "")),
        (stored(hevc_unit(39) + b"\x13\x01x\x80"), (0, False, False, 0, "FFmpeg adds film grain to it")),
    ],
)
def test_the_slices_of_an_hevc_packet_give_its_pictures_and_references(packet, expected):
    found = hevc().read(packet)
    assert (found.pictures, found.resets, found.referenced, found.layer, found.doubt) == expected


def test_hevc_pictures_are_ordered_by_their_count_and_after_those_of_earlier_sequences():
    reader = hevc()
    sent = [(19, 0), (1, 4), (0, 2), (1, 8), (21, 15), (9, 12), (1, 3), (19, 0), (1, 1)]
    orders = [reader.read(stored(hevc_slice(kind, order))).order for kind, order in sent]
    assert sorted(range(9), key=lambda place: orders[place]) == [0, 2, 1, 3, 5, 4, 6, 7, 8]


@pytest.mark.parametrize(("distance", "doubt"), [(2, ""), (1, "it has pictures that refer to missing ones")])
def test_hevc_pictures_that_refer_to_missing_ones_are_a_doubt(distance, doubt):
    reader = hevc()
    for kind, order in ((19, 0), (1, 4)):
        reader.read(stored(hevc_slice(kind, order)))
    back = "0 0" + ue(1) + ue(0) + ue(distance - 1) + "1"  # a set of its own, not predicted, with one earlier picture
    assert reader.read(stored(hevc_slice(1, 6, refers=back))).doubt == doubt


def test_h264_pictures_that_refer_to_missing_ones_are_a_doubt():
    reader = h264()
    sent = [(5, 0, 0), (1, 2, 1), (1, 6, 2), (1, 4, 3)]
    slices = [avc_slice(kind, order, number=number) for kind, order, number in sent]
    assert [reader.read(stored(slice_)).doubt for slice_ in slices] == [""] * 4
    reader = h264()
    assert [bool(reader.read(stored(slices[place])).doubt) for place in (0, 2, 3)] == [False, True, False]


@pytest.mark.parametrize(
    ("reader", "unit"), [(h264, b"\xe5rest"), (hevc, hevc_unit(19, forbidden=1) + b"rest")], ids=["h264", "hevc"]
)
def test_a_forbidden_bit_is_an_error(reader, unit):
    with pytest.raises(ValueError, match="forbidden bit"):
        reader().read(stored(unit))


def test_only_requested_broken_links_are_marked_and_nothing_else_changes():
    """Only the kind in the two header bytes changes: 21 (clean random access) to 18 (broken link without leading)."""
    cra, of_layer = (hevc_unit(21, layer, scalable=scalable) + b"rest" for layer, scalable in ((0, 0), (1, 33)))
    bla, bla_of_layer = (hevc_unit(18, layer, scalable=scalable) + b"rest" for layer, scalable in ((0, 0), (1, 33)))
    others = hevc_unit(32) + b"rest", hevc_unit(19) + b"rest"
    before, rest = stored(others[0], of_layer, cra), stored(cra, others[1])
    body = bytearray(before + rest + before)
    break_link(body, 4, len(before), len(before) + len(rest))
    assert body == before + stored(bla, others[1]) + before
    break_link(body, 4, 0, len(before))
    assert body[: len(before)] == stored(others[0], bla_of_layer, bla)


VP9_SYNC = f"{0x498342:024b}"
VP9_SIZE = f"{95:016b}{47:016b}"


VP9_SHOWN, VP9_MOTION, VP9_CONTEXTS = "0", "0 1", "0000"  # shown as coded; precision, a filter for each block
VP9_PARAMETERS = "000000 000 0  00000000 000  0  0"  # loop filter, quantisation, no segments, one row of tiles


def dnxhd(size: int = 48, mark: int = 0) -> bytes:
    return bytes((mark, 0, 2, 0x80, *[0] * 20, 0, size, 0, 96, *[0] * 9))


def prores(size: int = 48, mark: bytes = b"icpf") -> bytes:
    return b"\0\0\1\0" + mark + bytes((0, 0x94, 0, 0, *b"test", 0, 96, 0, size, 0x80)) + bytes(9)


@pytest.mark.parametrize(
    ("codec", "first", "resized", "unmarked"),
    [("prores", prores(), prores(64), prores(mark=b"ic\0f")), ("dnxhd", dnxhd(), dnxhd(64), dnxhd(mark=1))],
    ids=["prores", "dnxhd"],
)
def test_pictures_that_stand_alone_have_a_mark_and_one_size(codec, first, resized, unmarked):
    reader = make_reader(codec, b"", "")
    assert [reader.read(packet).doubt for packet in (first, first, resized)] == ["", "", "its pictures may change size"]
    with pytest.raises(ValueError, match="mark is missing"):
        reader.read(unmarked)


def vp9(bits: str, parameters: str = VP9_PARAMETERS, size: int = 8, compressed: int = 0) -> bytes:
    """Return a frame with the first part of its header in bits, and 8 bytes after its header, which gives their `size`.

    `compressed`: the first of these bytes.
    """
    bits = f"{bits} {parameters} {size:016b}".replace(" ", "")
    return int(bits + "0" * (-len(bits) % 8), 2).to_bytes((len(bits) + 7) // 8, "big") + bytes((compressed, *[0] * 7))


VP9_KEYFRAME = f"10 0 0 0 0 1 0 {VP9_SYNC} 000 0 {VP9_SIZE} {VP9_SHOWN} {VP9_CONTEXTS}"
VP9_INTER = f"10 0 0 0 1 1 0 00 00000000 000000000000 1 {VP9_SHOWN} {VP9_MOTION} {VP9_CONTEXTS}"


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (VP9_KEYFRAME, (1, True, "")),  # marker, profile, not again, key, shown
        (f"10 0 0 0 0 0 0 {VP9_SYNC} 000 0 {VP9_SIZE} {VP9_SHOWN} {VP9_CONTEXTS}", (0, True, "")),
        (VP9_INTER, (1, False, "")),  # with the size of its first reference
        ("10 0 0 1 000", (1, False, "")),  # shows an older picture again
        (
            f"10 1 1 0 0 0 1 0 {VP9_SYNC} 0 000 0 000 {VP9_SIZE} {VP9_SHOWN} {VP9_CONTEXTS}",  # profile 3
            (1, True, "its pixel format changes"),
        ),
        (VP9_INTER.replace(" 1 0 0 1 ", f" 000 {VP9_SIZE} 0 0 1 "), (1, False, "")),
        (VP9_INTER.replace(" 1 0 0 1 ", f" 000 {'0' * 32} 0 0 1 "), (1, False, "its pictures may change size")),
        (VP9_KEYFRAME.replace(VP9_SIZE, "0" * 32), (1, True, "its pictures may change size")),
    ],
)
def test_the_header_of_a_vp9_packet_gives_its_pictures_and_references(bits, expected):
    reader = make_reader("vp9", b"", "VP90")
    assert reader.read(vp9(VP9_KEYFRAME)).size == (96, 48)
    found = reader.read(vp9(bits))
    assert (found.pictures, found.resets, found.doubt) == expected


def test_a_vp9_packet_of_one_byte_shows_a_picture_again():
    assert make_reader("vp9", b"", "VP90").read(b"\x88").pictures == 1


def test_a_vp9_superframe_shows_a_picture_though_it_starts_with_a_hidden_one():
    hidden = vp9(f"10 0 0 0 0 0 0 {VP9_SYNC} 000 0 {VP9_SIZE} {VP9_SHOWN} {VP9_CONTEXTS}")
    shown = vp9(VP9_INTER)
    index = bytes((0b11000001, len(hidden), len(shown), 0b11000001))  # two frames, their sizes in one byte each
    found = make_reader("vp9", b"", "VP90").read(hidden + shown + index)
    assert (found.pictures, found.resets, found.doubt) == (1, True, "")
    with pytest.raises(ValueError, match="marker"):
        make_reader("vp9", b"", "VP90").read(b"\0\0")


SEGMENTS = f"1 1 {'0' * 5} 1 {255:08b} 0 1 000 1 0 1 {0:09b} 0 1 00 1 {'0' * 28}"  # a map and features of segments


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (vp9(VP9_INTER, "000000 000 1 1 1 0000000 0 0 0 0 1 0000000  00000000 1 00000 0 0  0  1 0"), ""),
        (vp9(VP9_INTER, f"000000 000 0  00000000 000  {SEGMENTS}  0"), ""),
        (vp9(VP9_INTER, size=9), "size of its compressed header is wrong"),
        (vp9(VP9_INTER, size=0), "size of its compressed header is wrong"),
        (vp9(VP9_INTER, compressed=0x80), "marker of its compressed header is set"),
        (vp9(VP9_INTER)[:8], "cut short"),
        (vp9(VP9_INTER)[:-9] + bytes((vp9(VP9_INTER)[-9] | 1, *[0] * 8)), "does not end where it should"),
    ],
)
def test_a_vp9_header_is_read_to_its_end_where_the_compressed_one_begins(frame, error):
    reader = make_reader("vp9", b"", "VP90")
    reader.read(vp9(VP9_KEYFRAME))
    if not error:
        assert reader.read(frame)[:2] == (1, False)
        return
    with pytest.raises(ValueError, match=error):
        reader.read(frame)


def test_a_vp8_header_gives_visibility_and_the_size_of_a_keyframe():
    reader = make_reader("vp8", b"", "VP80")
    keyframe = b"\x10\0\0\x9d\x01\x2a" + (96 | 1 << 14).to_bytes(2, "little") + (48).to_bytes(2, "little")
    assert reader.read(keyframe)[:2] == (1, True) and reader.read(keyframe).size == (96, 48)
    assert reader.read(b"\x01\0\0")[:2] == (0, False)
    assert reader.read(b"\x03\0\0").doubt == "its version changes"
    with pytest.raises(ValueError, match="start code"):
        reader.read(bytes(10))
    of_seven_bytes = (1 | 7 << 5).to_bytes(3, "little")  # of the first partition, in 19 bits
    assert reader.read(of_seven_bytes + bytes(7))[:2] == (0, False)
    with pytest.raises(ValueError, match="longer than the packet"):
        reader.read(of_seven_bytes + bytes(6))


@pytest.mark.parametrize(("kind", "resets", "referenced"), [(0, True, True), (1, False, True), (2, False, False)])
def test_headers_of_mpeg4_and_mpeg2_pictures_give_their_kind(kind, resets, referenced):
    of_mpeg4 = b"\0\0\1\xb6" + bytes((kind << 6,)) + bytes(9)
    of_mpeg2 = b"\0\0\1\0\0" + bytes((kind + 1 << 3,)) + bytes(9)
    for codec, packet in (("mpeg4", of_mpeg4), ("mpeg2video", of_mpeg2)):
        assert make_reader(codec, b"", "").read(packet)[:3] == (1, resets, referenced)


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video"])
def test_pictures_of_mpeg4_and_mpeg2_are_shown_after_the_b_pictures_that_follow_them(codec):
    def packet(kind: str) -> bytes:
        number = "IPB".index(kind)
        start = b"\0\0\1\xb6" + bytes((number << 6,)) if codec == "mpeg4" else b"\0\0\1\0\0" + bytes((number + 1 << 3,))
        return start + bytes(9)

    reader = make_reader(codec, b"", "")
    orders = [reader.read(packet(kind)).order for kind in "IPBBPBI"]
    assert sorted(range(7), key=lambda place: orders[place]) == [0, 2, 3, 1, 5, 4, 6]


def test_packed_pictures_of_mpeg4_are_counted_and_their_stand_ins_are_errors():
    picture = b"\0\0\1\xb6\x40" + bytes(9)
    assert make_reader("mpeg4", b"", "").read(picture * 2).pictures == 2
    for stand_in in (picture[:8], b"", bytes(20)):
        with pytest.raises(ValueError, match="empty"):
            make_reader("mpeg4", b"", "").read(stand_in)


def test_encoders_of_mpeg4_that_only_a_tag_names_are_a_doubt():
    picture, name = vop("I", 0), b"\0\0\1\xb2XviD0046"
    assert make_reader("mpeg4", vol(25), "XVID").read(picture).doubt
    assert not make_reader("mpeg4", vol(25), "mp4v").read(picture).doubt
    assert not make_reader("mpeg4", b"", "XVID").read(vol(25) + name + picture).doubt


def vol(resolution: int) -> bytes:
    """Return the header of a video object layer with so many ticks a second (ISO/IEC 14496-2 6.2.3)."""
    bits = f"0 {1:08b} 1 0001 001  {1:04b} 1 01 1 1 {'1' * 79}  00 1 {resolution:016b} 1"
    return b"\0\0\1\x20" + packed(bits)


def vop(kind: str, ticks: int, seconds: int = 0, coded: str = "1", marker: str = "1") -> bytes:
    """Return a picture at so many ticks, in 5 bits, after the second of the last reference or of its group (6.2.5)."""
    bits = f"{'IPBS'.index(kind):02b} {'1' * seconds}0 {marker} {ticks:05b} 1 {coded}"
    return b"\0\0\1\xb6" + packed(bits) + bytes(9)


def group_of_vops(seconds: int) -> bytes:
    return b"\0\0\1\xb3" + packed(f"{seconds // 3600:05b} {seconds // 60 % 60:06b} 1 {seconds % 60:06b} 1 0")


BETWEEN = "it has B-pictures that are not between their references"


@pytest.mark.parametrize(
    ("packets", "doubt"),
    [
        ([vop("P", 2), vop("B", 1)], ""),
        ([vop("P", 2), vop("B", 2)], BETWEEN),
        ([vop("P", 2), vop("B", 0)], BETWEEN),
        ([vop("P", 2), vop("B", 1, seconds=1)], BETWEEN),
        ([vop("P", 1, seconds=2), vop("B", 24), vop("B", 0, seconds=1), vop("P", 3), vop("B", 2)], ""),
        ([group_of_vops(3725) + vop("I", 0), vop("P", 2), vop("B", 1)], ""),
        ([group_of_vops(3725) + vop("I", 0), vop("P", 2, seconds=1), vop("B", 1)], ""),
        ([vop("P", 2, coded="0")], "it has pictures that are not coded"),
        ([vop("P", 2, marker="0")], "it has pictures without a time"),
        ([vop("S", 2)], "it has pictures with global motion"),
    ],
)
def test_pictures_of_mpeg4_that_ffmpeg_leaves_out_are_a_doubt(packets, doubt):
    reader = make_reader("mpeg4", vol(25), "mp4v")
    doubts = [reader.read(packet).doubt for packet in (vop("I", 0), *packets)]
    assert doubts == [*[""] * len(packets), doubt]


def mpeg2(*structures: int) -> bytes:
    """Return an I picture of MPEG-2 for each structure: 1 and 2 are fields, 3 is a frame (ITU-T H.262 6.2.3)."""
    return b"".join(b"\0\0\1\0\0\x08\0\0" + b"\0\0\1\xb5" + bytes((0x8F, 0xFF, 0xF0 | s, 0)) for s in structures)


@pytest.mark.parametrize(
    ("structures", "doubt"),
    [
        ((3,), ""),
        ((1, 2), ""),
        ((1,), "it has packets with one of two fields"),
        ((3, 3), "it has packets of more pictures"),
    ],
)
def test_mpeg2_pictures_of_two_fields_are_one(structures, doubt):
    assert make_reader("mpeg2video", b"", "").read(mpeg2(*structures)).doubt == doubt


def jpeg(*segments: int, size: int = 48) -> bytes:
    frame = bytes((8, 0, size, 0, 96, 3))
    bodies = b"".join(bytes((0xFF, kind)) + (2 + len(frame)).to_bytes(2, "big") + frame for kind in segments)
    return b"\xff\xd8" + bodies + b"\xff\xda" + bytes(9)


@pytest.mark.parametrize(
    ("segments", "size", "doubted"),
    [
        ((0xDB, 0xC4, 0xC0), 48, False),
        ((0xDB, 0xC0), 48, True),  # the first one had Huffman tables
        ((0xC4, 0xC0), 48, True),  # no quantisation tables
        ((0xDB, 0xC4, 0xC0), 64, True),
    ],
)
def test_jpeg_pictures_that_need_tables_of_others_or_differ_in_size_are_a_doubt(segments, size, doubted):
    reader = make_reader("mjpeg", b"", "MJPG")
    assert reader.read(jpeg(0xDB, 0xC4, 0xC0)) == Picture(order=1, size=(96, 48))
    assert bool(reader.read(jpeg(*segments, size=size)).doubt) is doubted


def test_a_jpeg_picture_with_two_frame_headers_is_an_error():
    with pytest.raises(ValueError, match="several frame headers"):
        make_reader("mjpeg", b"", "MJPG").read(jpeg(0xDB, 0xC4, 0xC3, 0xC0))


def test_codecs_without_a_reader_are_left_to_decoding():
    assert make_reader("theora", b"", "") is None


def test_the_messages_of_an_sei_unit_are_found_behind_escaped_bytes():
    messages = bytes([5, 6, 0, 0, 1, 0, 0, 2]) + bytes([19, 3, 1, 2, 3]) + b"\x80"
    unit = b"\x06" + escape(messages)
    assert len(unit) == 1 + len(messages) + 2
    assert sei_types(unit, 1, len(unit)) == {5, 19}


def test_a_new_parameter_set_changes_how_slices_are_read():
    reader, slice_ = h264(), stored(avc_slice(1, 1, slices=5, field="1"))
    assert [reader.read(slice_).doubt for _ in range(2)] == ["", ""], "frames only, so the bit belongs to the order"
    reader.read(stored(avc_sps(frames_only=False)))
    assert "one of two fields" in reader.read(slice_).doubt


def test_readers_of_two_streams_share_no_state():
    configuration = (
        AVC_CONFIGURATION[:5]
        + b"\xe1"
        + b"".join(
            len(unit).to_bytes(2, "big") + unit + middle for unit, middle in ((avc_sps(), b"\1"), (AVC_PPS, b""))
        )
    )
    numbers = ((5, 0, 0), (1, 6, 1), (1, 3, 2))
    packets = [stored(avc_slice(kind, order, number=number, slices=5)) for kind, order, number in numbers]
    first, second = (make_reader("h264", configuration, "avc1") for _ in range(2))
    expected = [first.read(packet) for packet in packets]
    assert [picture.doubt for picture in expected] == [""] * 3
    first.read(stored(avc_sps(frames_only=False)))
    assert [second.read(packet) for packet in packets] == expected
    third = make_reader("h264", configuration, "avc1")
    assert [third.read(packet) for packet in packets] == expected
