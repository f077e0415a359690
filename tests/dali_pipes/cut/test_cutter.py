"""Cutting: the right frames from as few packets as possible, in a file that any decoder reads."""

import errno
import os
import struct
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.harness.numbered_videos import hide_keyframes
from dali_pipes.cut import cutter, decode, reading
from dali_pipes.cut.cutter import cut
from dali_pipes.cut.decode import decode_frames
from dali_pipes.errors import DataError
from dali_pipes.scan.probe import probe
from dali_pipes.video import bitstream, mp4
from dali_pipes.video.packet_table import INVISIBLE
from tests.support.videos import decode_whole, number_in, write_video

DALI_TOLERANCE = 4  # grey levels: DALI and FFmpeg round the conversion from YUV differently

CODECS = {  # encoder: the containers that it is tried in
    "libx264": ("mp4", "mkv", "avi", "ts", "mov", "mxf", "flv"),
    "libx265": ("mp4", "mkv", "ts"),
    "libvpx-vp9": ("webm", "mp4"),
    "libvpx": ("webm",),
    "mpeg4": ("mp4", "avi"),
    "mjpeg": ("mp4", "avi"),
    "mpeg2video": ("mpg", "ts", "mp4"),
    "mpeg1video": ("mpg",),
}
MATRIX = [
    (codec, container, gop, b_frames)
    for codec, containers in CODECS.items()
    for container in containers
    for gop in ((1,) if codec == "mjpeg" else (1, 8, 16, 250))
    for b_frames in ((0, 3) if codec in ("libx264", "libx265", "mpeg4", "mpeg2video") and gop > 1 else (0,))
]
TELLING = [
    ("libx264", "mp4", 16, 0),
    ("libx264", "mkv", 16, 3),
    ("libx264", "ts", 8, 3),
    ("libx264", "avi", 8, 3),
    ("libx264", "mxf", 8, 3),
    ("libx265", "mp4", 8, 3),
    ("libvpx-vp9", "webm", 16, 0),
    ("libvpx", "webm", 250, 0),
    ("mpeg4", "avi", 8, 3),
    ("mjpeg", "avi", 1, 0),
    ("mpeg2video", "mpg", 8, 3),
]


def assert_frames_equal_a_full_decode(path, draws: int = 40):
    """Compare every frame alone, and random clips of 8 in any order with repeats, with a decode of the whole file."""
    video, whole = probe(str(path)), decode_whole(path)
    assert video.frames == len(whole)
    rng = np.random.default_rng(0)
    clips = [np.array([frame]) for frame in range(video.frames)]
    clips += [rng.integers(0, video.frames, 8) for _ in range(draws)]
    for frames in clips:
        decoded = decode_frames(cut(video, frames), str(path))
        for pixels, frame in zip(decoded, frames.tolist(), strict=True):
            np.testing.assert_array_equal(pixels, whole[frame], err_msg=f"frame {frame} of {frames.tolist()}")


@pytest.mark.parametrize(("codec", "container", "gop", "b_frames"), TELLING)
def test_every_frame_is_that_of_a_full_decode(tmp_path, codec, container, gop, b_frames):
    path = write_video(tmp_path / f"clip.{container}", codec, gop=gop, b_frames=b_frames)
    assert [number_in(picture) for picture in decode_whole(path)] == list(range(48))
    assert_frames_equal_a_full_decode(path, draws=10)


@pytest.mark.slow
@pytest.mark.parametrize(("codec", "container", "gop", "b_frames"), MATRIX)
def test_every_frame_is_that_of_a_full_decode_in_every_combination(tmp_path, codec, container, gop, b_frames):
    assert_frames_equal_a_full_decode(
        write_video(tmp_path / f"clip.{container}", codec, 60, gop=gop, b_frames=b_frames)
    )


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"x264-params": "open-gop=1:keyint=16:min-keyint=8:bframes=3"}),
        ("libx264", {"x264-params": "intra-refresh=1:keyint=16"}),
        ("libx264", {"x264-params": "b-pyramid=normal:bframes=8:ref=8:keyint=30"}),
        ("libx264", {"x264-params": "slices=3:tff=1:bframes=2:keyint=20"}),
        ("libx265", {"x265-params": "log-level=none:keyint=20:min-keyint=2:bframes=4:open-gop=1"}),
        ("libx265", {"x265-params": "log-level=none:keyint=20:bframes=3:temporal-layers=1"}),
        ("libx265", {"x265-params": "log-level=none:keyint=20:bframes=4:radl=2:open-gop=0"}),
    ],
)
def test_unusual_references_between_pictures_are_respected(tmp_path, codec, options):
    assert_frames_equal_a_full_decode(write_video(tmp_path / "clip.mp4", codec, 64, options=options), draws=20)


@pytest.mark.parametrize("suffix", [".webm", ".mp4"])
def test_reference_pictures_inside_vp9_superframes_do_not_shift_the_count(tmp_path, suffix):
    options = {"error-resilient": "default", "cpu-used": "8", "deadline": "realtime"}  # needs no earlier shown picture
    plain = write_video(tmp_path / "plain.webm", "libvpx-vp9", 40, gop=8, options=options)
    path = tmp_path / f"clip{suffix}"
    hide_keyframes(plain, path, suffix[1:])
    assert probe(str(path)).frames == 35
    assert_frames_equal_a_full_decode(path, draws=10)


def test_vp8_pictures_that_are_never_shown_do_not_shift_the_count(tmp_path):
    path = write_video(tmp_path / "clip.webm", "libvpx")
    video, content = probe(str(path)), bytearray(path.read_bytes())
    for packet in (5, 20, 21):
        content[video.offsets[packet]] &= ~0x10  # show_frame, RFC 6386 9.1
    path.write_bytes(content)
    video = probe(str(path))
    assert np.flatnonzero(video.flags & INVISIBLE).tolist() == [5, 20, 21]
    assert_frames_equal_a_full_decode(path, draws=10)


def test_groups_whose_picture_numbers_collide_after_a_jump_decode(tmp_path):
    params = "log-level=none:keyint=20:min-keyint=2:bframes=4:b-adapt=0:open-gop=1"
    path = write_video(tmp_path / "clip.mp4", "libx265", 340, options={"x265-params": params})
    video = probe(str(path))
    for frames in ([44, 310], [64, 326], [44, 319]):  # HEVC writes numbers modulo 256: 300 and 44 are one
        decoded = decode_frames(cut(video, np.array(frames)), str(path))
        assert [number_in(picture) for picture in decoded] == frames


def test_a_plain_decoder_decodes_cuts_with_adjacent_open_groups(tmp_path):
    params = "log-level=none:keyint=20:min-keyint=2:bframes=4:b-adapt=0:open-gop=1"
    video = probe(str(write_video(tmp_path / "clip.mp4", "libx265", 340, options={"x265-params": params})))
    rng = np.random.default_rng(0)
    for frames in rng.integers(0, 340, (12, 3)):
        result = cut(video, frames)
        shown = shown_by(result, tmp_path)
        assert [number_in(shown[position]) for position in result.positions] == frames.tolist()


def test_positions_count_the_frames_of_the_cut_in_the_order_they_are_shown(tmp_path):
    video = probe(str(write_video(tmp_path / "clip.mp4", "libx264", b_frames=3)))
    frames = np.array([40, 3, 22, 3, 47])
    result = cut(video, frames)
    shown = shown_by(result, tmp_path)
    assert len(shown) == result.packets
    assert [number_in(shown[position]) for position in result.positions] == frames.tolist()


def shown_by(result: cutter.Cut, folder) -> list[np.ndarray]:
    """Write a cut to a file; return all pictures that a plain decoder shows of it."""
    (folder / "small.mp4").write_bytes(result.data)
    return decode_whole(folder / "small.mp4")


def with_colours(description: bytes, colours: bytes) -> bytes:
    """Return a `stsd` box whose entry has one more box with this content."""
    entry = mp4.box(description[20:24], description[24:], mp4.box(b"colr", colours))
    return mp4.box(b"stsd", description[8:16], entry)


BT709_FULL = struct.pack(">4sHHHB", b"nclx", 1, 1, 1, 0x80)
BT709_QUICKTIME = struct.pack(">4sHHH", b"nclc", 1, 1, 1)


@pytest.mark.parametrize("colours", [None, BT709_FULL, BT709_QUICKTIME], ids=["untagged", "nclx", "nclc"])
@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9"])
def test_packets_without_a_container_decode_to_what_the_container_gives(tmp_path, codec, colours):
    b_frames = 0 if codec == "libvpx-vp9" else 3
    video = probe(str(write_video(tmp_path / "clip.mp4", codec, gop=8, b_frames=b_frames, tint=(1, 0.6, 0.2))))
    if colours:
        video = replace(video, description=with_colours(video.description, colours))
    result = cut(video, np.array([3, 20, 21, 40]))
    bare, contained = (
        [(number, frame.to_ndarray(format="rgb24")) for number, frame in frames]
        for frames in (decode._frames_of_packets(result), decode._frames_of_container(result, ""))
    )
    assert [number for number, _ in bare] == [number for number, _ in contained] == list(range(result.packets))
    np.testing.assert_array_equal([pixels for _, pixels in bare], [pixels for _, pixels in contained])


@pytest.mark.parametrize(("codec", "container"), [("libvpx-vp9", "webm"), ("libvpx", "webm"), ("mjpeg", "avi")])
def test_dali_decodes_the_same_frames_from_a_cut_as_pyav(tmp_path, codec, container):
    path = write_video(tmp_path / f"clip.{container}", codec)
    frames = np.array([2, 17, 18, 30, 47])
    result = cut(probe(str(path)), frames)
    ours, theirs = decode_frames(result, str(path)), dali_frames(result)
    assert [number_in(picture) for picture in theirs] == frames.tolist()
    assert np.abs(ours.astype(int) - theirs).max() <= DALI_TOLERANCE


def dali_frames(result: cutter.Cut) -> np.ndarray:
    """Decode a cut with DALI's CPU decoder."""
    from nvidia.dali import fn, pipeline_def

    @pipeline_def(batch_size=1, num_threads=1, device_id=None)
    def decoding():
        data = fn.external_source(source=lambda: [np.frombuffer(result.data, np.uint8)])
        positions = fn.external_source(source=lambda: [result.positions])
        return fn.decoders.video(data, frames=positions, device="cpu")

    pipeline = decoding()
    pipeline.build()
    return np.array(pipeline.run()[0][0])


def test_videos_cut_together_are_cut_as_each_alone_and_a_bad_one_harms_no_other(tmp_path):
    videos = [
        probe(str(write_video(tmp_path / "first.mp4", "libx264", 30, gop=8, b_frames=2))),
        replace(probe(str(write_video(tmp_path / "whole.mp4", "libx264", 20))), access="whole"),
        probe(str(write_video(tmp_path / "gone.mp4", "libx264", 20))),
        probe(str(write_video(tmp_path / "stream.ts", "libx264", 40, b_frames=3))),
        probe(str(write_video(tmp_path / "hevc.mp4", "libx265", 40, gop=8, b_frames=3))),
    ]
    assert [video.access for video in videos] == ["ranged", "whole", "ranged", "demux", "ranged"]
    os.unlink(videos[2].path)
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, video.frames, 5) for video in videos]
    together = cutter.cut_all(videos, frames)
    assert "gone.mp4: cannot be opened" in str(together.pop(2))
    alone = [cut(video, some) for video, some in zip(videos, frames, strict=True) if os.path.exists(video.path)]
    for one, other in zip(together, alone, strict=True):
        assert (one.data, one.packets) == (other.data, other.packets)
        np.testing.assert_array_equal(one.positions, other.positions)


def test_a_one_frame_video_can_be_asked_for_its_frame_many_times(tmp_path):
    path = write_video(tmp_path / "clip.mp4", "libx264", 1)
    video = probe(str(path))
    result = cut(video, np.zeros(8, int))
    assert (result.packets, result.positions.tolist()) == (1, [0] * 8)
    assert [number_in(picture) for picture in decode_frames(result, str(path))] == [0] * 8


def test_packets_beyond_4_gib_are_found(tmp_path):
    path = write_video(tmp_path / "clip.mp4", "libx264", b_frames=2)
    video, beyond = probe(str(path)), 5 << 30
    with (tmp_path / "long.mp4").open("wb") as file:
        file.seek(beyond)  # a sparse file
        file.write(path.read_bytes())
    packets, status = video.packets.copy(), (tmp_path / "long.mp4").stat()
    packets["offset"] += beyond
    long = replace(
        video, path=str(tmp_path / "long.mp4"), size=status.st_size, mtime_ns=status.st_mtime_ns, packets=packets
    )
    frames = np.array([3, 40])
    assert cut(long, frames).data == cut(video, frames).data


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_packets_of_a_transport_stream_are_stored_with_lengths_as_mp4_wants_them(tmp_path, codec):
    video = probe(str(write_video(tmp_path / "clip.ts", codec, b_frames=2)))
    result = cut(video, np.array([3, 20]))
    assert video.access == "demux"
    for start, size in zip(result.layout.starts.tolist(), result.layout.sizes.tolist(), strict=True):
        assert list(bitstream.units(result.data, 4, start, start + size))  # which raises where lengths do not add up


# Reading in parts of any size, and in parallel.


@pytest.mark.parametrize("access", ["ranged", "demux", "whole"])
def test_short_reads_are_completed(tmp_path, monkeypatch, access):
    video = replace(probe(str(write_video(tmp_path / "clip.mp4", "libx264", gop=8))), access=access)
    frames = np.array([3, 20, 40])
    expected, pread = cut(video, frames).data, os.pread
    monkeypatch.setattr(os, "preadv", lambda *_: 0)  # nothing is in the page cache
    monkeypatch.setattr(os, "pread", lambda descriptor, size, offset: pread(descriptor, min(size, 100), offset))
    assert cut(video, frames).data == expected


@pytest.mark.parametrize("access", ["demux", "whole"])
def test_other_threads_continue_while_a_whole_file_is_read(tmp_path, monkeypatch, access):
    video = replace(probe(str(write_video(tmp_path / "clip.mp4", "libx264"))), access=access)
    pread, taken = os.pread, []

    def watched(*arguments):
        taken.append(reading._read_lock.locked())
        return pread(*arguments)

    monkeypatch.setattr(os, "pread", watched)
    cut(video, np.array([3, 20]))
    assert taken == [False]


# Files that changed after the scan.


def test_no_file_stays_open_however_cutting_ends(tmp_path, monkeypatch):
    videos = [probe(str(write_video(tmp_path / f"{name}.mp4", "libx264", 20))) for name in ("whole", "changed", "gone")]
    (tmp_path / "changed.mp4").write_bytes(b"less")
    (tmp_path / "gone.mp4").unlink()
    frames, before = [np.array([3])] * 3, os.listdir("/proc/self/fd")
    cutter.cut_all(videos, frames)
    assert os.listdir("/proc/self/fd") == before
    monkeypatch.setattr(mp4, "write", None)  # a bug
    with pytest.raises(TypeError):
        cutter.cut_all(videos, frames)
    assert os.listdir("/proc/self/fd") == before


def test_a_file_that_is_lost_while_it_is_open_is_named(tmp_path, monkeypatch):
    video = probe(str(write_video(tmp_path / "clip.mp4", "libx264")))

    def lost(descriptor):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    before = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", lost)
        (refusal,) = cutter.cut_all([video], [np.array([0])])
    assert str(refusal) == f"{video.path}: cannot be looked at (Stale file handle); scan the list again"
    assert os.listdir("/proc/self/fd") == before


def test_a_file_changed_since_the_scan_is_named(tmp_path):
    path = write_video(tmp_path / "clip.mp4", "libx264")
    video = probe(str(path))
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(DataError, match=r"clip.mp4: changed since the scan .* scan the list again"):
        cut(video, np.array([0]))


def test_a_file_touched_since_the_scan_is_named(tmp_path):
    path = write_video(tmp_path / "clip.mp4", "libx264")
    video = probe(str(path))
    os.utime(path, ns=(0, 0))
    with pytest.raises(DataError, match=r"clip\.mp4: changed since the scan"):
        cut(video, np.array([0]))


def test_a_file_gone_since_the_scan_is_named(tmp_path):
    path = write_video(tmp_path / "clip.mp4", "libx264")
    video = probe(str(path))
    path.unlink()
    with pytest.raises(DataError, match=r"clip.mp4: cannot be opened \(No such file or directory\)"):
        cut(video, np.array([0]))


def test_a_packet_table_that_reaches_beyond_the_file_is_an_error(tmp_path):
    path = write_video(tmp_path / "clip.mp4", "libx264")
    video = probe(str(path))
    packets = video.packets.copy()
    packets["offset"] += video.size
    with pytest.raises(DataError, match=r"clip.mp4: ends at byte \d+, inside a packet"):
        cut(replace(video, packets=packets), np.array([0]))


def test_a_stream_that_holds_fewer_packets_than_when_scanned_is_an_error(tmp_path):
    video = probe(str(write_video(tmp_path / "clip.ts", "libx264")))
    packets = np.concatenate([video.packets, video.packets[-1:]])
    packets["order"][-1] += 1
    longer = replace(video, packets=packets, frames=video.frames + 1)
    with pytest.raises(DataError, match=r"clip.ts: contains fewer packets than when scanned; scan the list again"):
        cut(longer, np.array([video.frames]))


@pytest.mark.parametrize("access", ["ranged", "whole"])
def test_damage_inside_a_picture_is_an_error_and_not_a_frame(tmp_path, access):
    path = write_video(tmp_path / "clip.mp4", "libx264", gop=250)
    video = probe(str(path))
    result = cut(replace(video, access=access), np.array([40]))
    damaged = bytearray(result.data)
    damaged[damaged.find(b"mdat") + 800 :: 50] = bytes(len(damaged[damaged.find(b"mdat") + 800 :: 50]))
    with pytest.raises(DataError, match=r"clip\.mp4: "):
        decode_frames(replace(result, data=bytes(damaged)), str(path))


def test_pictures_of_another_size_than_scanned_are_an_error(tmp_path):
    path = write_video(tmp_path / "clip.mp4", "libx264")
    result = cut(replace(probe(str(path)), width=98), np.array([0]))
    with pytest.raises(DataError, match="a picture is 96x48, not 98x48"):
        decode_frames(result, str(path))
