"""The sample description of a stream: that of its own track, if it is unambiguous."""

import struct
from types import SimpleNamespace

import av
import pytest

from dali_pipes.video import mp4
from dali_pipes.video.sample_description import sample_description, stored
from tests.support.videos import write_video


def track(number: int, description: bytes, *, long_times: bool = False) -> bytes:
    """Return a `trak` box as in ISO/IEC 14496-12 8.3, with times of 32 or 64 bits in its header."""
    header = struct.pack(">B3xQQI60x", 1, 7, 8, number) if long_times else struct.pack(">B3xIII60x", 0, 7, 8, number)
    tables = mp4.box(b"mdia", mp4.box(b"minf", mp4.box(b"stbl", description)))
    return mp4.box(b"trak", mp4.box(b"tkhd", header), tables)


def entries(*names: bytes) -> bytes:
    """Return a `stsd` box of these sample entries."""
    return mp4.box(b"stsd", struct.pack(">II", 0, len(names)), *(mp4.box(name, bytes(78)) for name in names))


def described(moov: bytes, number: int) -> bytes:
    colours = SimpleNamespace(color_primaries=2, color_trc=2, colorspace=2, color_range=0)
    stream = SimpleNamespace(id=number, codec_context=colours)
    return sample_description("none", stream, "h264", stored(moov, stream))


@pytest.mark.parametrize("long_times", [False, True])
def test_the_description_is_that_of_the_streams_own_track(long_times):
    tracks = [track(number, entries(name), long_times=long_times) for number, name in ((1, b"mp4a"), (2, b"avc1"))]
    moov = mp4.box(b"moov", mp4.box(b"mvhd", bytes(100)), *tracks)
    assert described(moov, 1) == entries(b"mp4a")
    assert described(moov, 2) == entries(b"avc1")


def test_a_description_of_several_kinds_of_samples_describes_none_of_them():
    assert described(mp4.box(b"moov", track(1, entries(b"avc1", b"avc1"))), 1) == b""


@pytest.mark.parametrize(("codec", "kind"), [("libvpx", b"vp08"), ("libsvtav1", b"av01")])
def test_a_sample_description_that_the_muxer_cannot_write_is_assembled(tmp_path, codec, kind):
    options = {"preset": "10", "svtav1-params": "lp=1"} if codec == "libsvtav1" else {}
    path = write_video(tmp_path / "clip.mkv", codec, 4, size=(64, 96), options=options)
    with av.open(str(path)) as container:
        context = (stream := container.streams.video[0]).codec_context
        description = sample_description(str(path), stream, context.codec.canonical_name, b"")
        configuration = context.extradata if codec == "libsvtav1" else b""
    ((_, _, _, end),) = mp4.walk_boxes(description)
    assert (end, description[12:16], description[20:24]) == (len(description), b"\0\0\0\1", kind)
    assert struct.unpack_from(">HH", description, 48) == (96, 64)
    assert mp4.configuration(description, b"av1C") == configuration
