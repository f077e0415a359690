"""Boxes of mp4 files: written ones are read back, and boxes are found by their path."""

import io
import struct

import av
import numpy as np
import pytest

from benchmarks.nvdec import streams
from dali_pipes.scan.probe import probe
from dali_pipes.storage.opening import open_source
from dali_pipes.video import mp4
from tests.support.videos import number_in, write_video

TABLE = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")


def stored(path) -> tuple[list[bytes], list[bool], np.ndarray]:
    """Return packets in decode order, which of them are keyframes, and the place of each in presentation order."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        shown = np.argsort(np.argsort([packet.pts for packet in packets]))
        return [bytes(p) for p in packets], [p.is_keyframe for p in packets], shown


def rewritten(path) -> bytes:
    """Write the same packets into a file of this project."""
    data, keyframes, shown = stored(path)
    description = mp4.find_box(path.read_bytes(), TABLE)
    sizes = np.array([len(packet) for packet in data])
    return mp4.write(description, 96, 48, sizes, shown, np.flatnonzero(keyframes)) + b"".join(data)


@pytest.mark.parametrize("b_frames", [0, 3])
def test_a_written_file_gives_back_the_packets_and_keyframes_put_in(tmp_path, b_frames):
    source = write_video(tmp_path / "source.mp4", "libx264", b_frames=b_frames)
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(rewritten(source))
    for ours, theirs in zip(stored(copy), stored(source), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("b_frames", [0, 3])
def test_the_picture_shown_as_number_k_starts_at_k_durations(tmp_path, b_frames):
    small = rewritten(write_video(tmp_path / "source.mp4", "libx264", b_frames=b_frames))
    with av.open(io.BytesIO(small)) as container:
        times = [frame.pts for frame in container.decode(video=0)]
    assert times == [k * mp4.DURATION for k in range(48)]


def test_counters_in_the_header_count_all_pictures(tmp_path):
    small = rewritten(write_video(tmp_path / "source.mp4", "libx264", b_frames=3))
    with av.open(io.BytesIO(small)) as container:
        stream = container.streams.video[0]
        assert (stream.frames, stream.duration, stream.width, stream.height) == (48, 48 * mp4.DURATION, 96, 48)


def test_the_picture_size_is_that_of_the_stream_not_of_its_description(tmp_path):
    source = write_video(tmp_path / "source.mp4", "libvpx-vp9", gop=4)
    content = source.read_bytes()
    sides = struct.pack(">HH", 96, 48)
    source.write_bytes(content.replace(sides, struct.pack(">HH", 128, 64)))
    video = probe(str(source))
    assert (video.description.count(sides), video.width, video.height) == (0, 96, 48)
    (decoded,) = streams.decode([streams.cut(video, np.array([1, 6]))], "dali_cpu", "cpu")
    assert decoded.shape == (2, 48, 96, 3)
    assert [number_in(picture) for picture in decoded] == [1, 6]


def test_written_boxes_follow_the_standard_where_ffmpeg_is_lenient(tmp_path):
    small = rewritten(write_video(tmp_path / "source.mp4", "libx264", b_frames=3))
    kinds, _, starts, ends = zip(*mp4.walk_boxes(small), strict=True)
    assert kinds == (b"ftyp", b"moov", b"mdat")
    assert (starts[1:], ends[-1]) == (ends[:-1], len(small))
    keyframes, offsets = (mp4.find_box(small, (*TABLE[:-1], kind)) for kind in (b"stss", b"ctts"))
    assert struct.unpack_from(">4I", keyframes, 12) == (3, 1, 17, 33), "samples are counted from 1"
    assert offsets[8] == 1, "of version 1, whose offsets are signed"


def test_a_box_is_found_by_its_path_whatever_form_its_size_has():
    inner = mp4.box(b"deep", b"here")
    long_form = struct.pack(">I4sQ", 1, b"outr", 16 + len(inner)) + inner
    to_the_end = struct.pack(">I4s", 0, b"last") + inner
    data = mp4.box(b"free", bytes(5)) + long_form + to_the_end
    assert mp4.find_box(data, (b"outr", b"deep")) == inner
    assert mp4.find_box(data, (b"last", b"deep")) == inner
    ends = [end for *_, end in mp4.walk_boxes(data)]
    assert ends == [13, 13 + len(long_form), len(data)]


def test_a_missing_box_gives_none():
    assert mp4.find_box(mp4.box(b"moov", mp4.box(b"trak")), (b"moov", b"udta")) is None


@pytest.mark.parametrize("junk", [b"", b"\0\0\0", b"\0\0\0\x10abc", b"\0\0\0\3moov", b"\0\0\0\1moov\0\0\0\0\0\0\0\1"])
def test_junk_after_a_box_ends_the_walk(junk):
    assert list(mp4.walk_boxes(mp4.box(b"free") + junk)) == [(b"free", 8, 0, 8)]


def test_walking_a_file_gives_the_boxes_of_its_bytes(tmp_path):
    source = write_video(tmp_path / "source.mp4", "libx264")
    with open_source(str(source)) as opened:
        assert list(mp4.walk_source(opened)) == list(mp4.walk_boxes(source.read_bytes()))
