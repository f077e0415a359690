"""Files with traits that once gave wrong frames: every frame is that of a plain decode, or the file is refused."""

import os
import struct

import av
import numpy as np
import pytest

from dali_pipes.cut.cutter import cut
from dali_pipes.errors import DataError
from dali_pipes.scan.probe import probe
from dali_pipes.video import mp4
from tests.support.files.boxes import add_to_entry, edit_entry
from tests.support.plain import compare
from tests.support.videos import write_video


@pytest.fixture(scope="module")
def plain_mp4(tmp_path_factory) -> bytes:
    """Return H.264 without colour tags, of 96x62 pixels, with two cropped rows."""
    path = write_video(tmp_path_factory.mktemp("clips") / "clip.mp4", "libx264", 12, gop=4, size=(62, 96))
    return path.read_bytes()


def expect_identical(path) -> None:
    for check in ("demux", "full"):
        assert compare(str(path), check).outcome == "identical"
        assert compare(str(path), check).detail != "whole"


COLOURS = {
    "icc first": (mp4.box(b"colr", b"prof", bytes(20)), mp4.box(b"colr", b"nclx", struct.pack(">HHHB", 1, 1, 1, 128))),
    "icc last": (mp4.box(b"colr", b"nclx", struct.pack(">HHHB", 1, 1, 1, 128)), mp4.box(b"colr", b"prof", bytes(20))),
    "two": tuple(mp4.box(b"colr", b"nclx", struct.pack(">HHHB", m, m, m, r)) for m, r in ((1, 128), (9, 0))),
    "QuickTime's": (mp4.box(b"colr", b"nclc", struct.pack(">HHH", 9, 16, 9)),),
    "short": (mp4.box(b"colr", b"nclx", struct.pack(">HH", 1, 1)),),
    "unknown": (mp4.box(b"colr", b"else", bytes(11)),),
}


@pytest.mark.parametrize("name", COLOURS)
def test_colour_tags_are_read_as_ffmpeg_reads_them(plain_mp4, tmp_path, name):
    if name == "two" and av.__version__.startswith("17."):
        pytest.skip("PyAV 17 refuses to convert these colours by itself")
    (tmp_path / "clip.mp4").write_bytes(add_to_entry(plain_mp4, *COLOURS[name]))
    expect_identical(tmp_path / "clip.mp4")


def test_a_matroska_colour_range_without_a_matrix_is_kept(tmp_path):
    path = write_video(tmp_path / "clip.mp4", "libx264", 12, gop=4)
    with av.open(str(path)) as source, av.open(str(tmp_path / "clip.mkv"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.codec_context.color_range = 2
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    expect_identical(tmp_path / "clip.mkv")


def test_pictures_that_only_the_container_crops_are_cropped(tmp_path):
    """Cameras write a parameter set without cropping, and the size without padding into the container."""
    content = write_video(tmp_path / "clip.mp4", "libx264", 12, gop=4, size=(64, 96)).read_bytes()
    cropped = edit_entry(content, lambda entry: entry[:34] + struct.pack(">H", 56) + entry[36:])
    (tmp_path / "clip.mp4").write_bytes(cropped)
    expect_identical(tmp_path / "clip.mp4")


def test_empty_packets_are_passed_over(tmp_path):
    """Theora writes an unchanged picture as an empty packet; here in a stream that is read whole."""
    path = write_video(tmp_path / "clip.asf", "wmv2", 12, gop=4)
    with av.open(str(path)) as source, av.open(str(tmp_path / "empty.nut"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size:
                each = av.Packet(b"") if number % 3 == 2 else packet
                each.stream, each.pts, each.dts, each.time_base = stream, packet.pts, packet.dts, packet.time_base
                target.mux(each)
    assert compare(str(tmp_path / "empty.nut"), "demux") == ("identical", "whole")


def write_y4m(path) -> None:
    pictures = (bytes([number]) * (64 * 48 * 3 // 2) for number in range(5))
    path.write_bytes(b"YUV4MPEG2 W64 H48 F25:1 Ip C420jpeg\n" + b"".join(b"FRAME\n" + data for data in pictures))


@pytest.mark.parametrize(
    ("name", "write"),
    [("raw.y4m", write_y4m), ("flash.swf", lambda path: write_video(path, "flv", 12, gop=4))],
    ids=["y4m", "swf"],
)
def test_self_contained_formats_are_read(tmp_path, name, write):
    write(tmp_path / name)
    assert compare(str(tmp_path / name), "demux").outcome == "identical"


def test_a_keyframe_that_is_damaged_after_the_scan_is_refused_when_it_is_cut(tmp_path):
    path = write_video(tmp_path / "clip.mp4", "libx265", 12, gop=4, size=(64, 96))
    video = probe(str(path))
    content = bytearray(path.read_bytes())
    content[video.offsets[video.groups[1]]] = 1  # the length of its first unit
    path.write_bytes(content)
    os.utime(path, ns=(video.mtime_ns, video.mtime_ns))
    with pytest.raises(DataError, match="a packet is damaged"):
        cut(video, np.array([int(np.flatnonzero(video.decode_position == video.groups[1])[0])]))


def test_a_still_picture_is_refused_as_one(tmp_path):
    path = tmp_path / "photo.mp4"
    path.write_bytes(mp4.box(b"ftyp", b"heic", bytes(4), b"mif1heic") + mp4.box(b"meta", bytes(40)))
    assert compare(str(path), "demux") == ("refused", "is a still picture (HEIF), not a video")
