"""The scan of one file: what it finds, what it refuses with which message, and what more thorough checks add."""

import errno
import io
import logging
import os
import shutil
import struct
from pathlib import Path
from unittest.mock import Mock

import av
import numpy as np
import pytest

from configs.schema import Data
from dali_pipes.cut import decode
from dali_pipes.cut.cutter import cut
from dali_pipes.cut.decode import decode_frames
from dali_pipes.errors import DataError, Inaccessible
from dali_pipes.scan import probe as probe_module
from dali_pipes.scan import verify
from dali_pipes.scan.build import load_catalog
from dali_pipes.scan.probe import probe, reader
from dali_pipes.video import mp4
from dali_pipes.video.packet_table import DISPOSABLE, HIDDEN, KEYFRAME, PACKET
from dali_pipes.video.times import frame_times
from tests.support.paths import ROOT
from tests.support.videos import decode_whole, number_in, write_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Return H.264 in mp4, with a keyframe every 16 pictures and B-frames."""
    return write_video(tmp_path_factory.mktemp("clips") / "clip.mp4", "libx264", b_frames=2, options={"crf": "4"})


def refusal(path, check="demux") -> str:
    with pytest.raises(DataError) as caught:
        probe(str(path), check)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_a_probe_gives_size_frames_rate_codec_and_packets(clip):
    video = probe(str(clip))
    assert (video.width, video.height, video.frames, video.fps, video.codec) == (96, 48, 48, 30.0, "h264")
    assert (video.size, video.mtime_ns) == (clip.stat().st_size, clip.stat().st_mtime_ns)
    assert video.access == "ranged"
    assert video.packets.dtype == PACKET
    assert len(video.packets) == 48


def test_tags_may_be_in_any_encoding(tmp_path):
    path = write_video(tmp_path / "a.avi", "mpeg4", tags={"title": "caf# & th#"})
    content = path.read_bytes()
    assert b"caf# & th#" in content
    path.write_bytes(content.replace(b"caf# & th#", b"caf\xe9 & th\xe9"))
    assert probe(str(path), "full").frames == 48


@pytest.mark.parametrize("kind", [TypeError, AttributeError, NameError, KeyError, ValueError, RuntimeError])
@pytest.mark.parametrize(
    "place",
    [
        "video.container.packets",
        "scan.probe.collect",
        "video.sample_description.sample_description",
        "scan.verify.verify_cuts",
    ],
)
def test_a_bug_in_the_probe_is_raised_and_is_no_refusal(clip, monkeypatch, kind, place):
    monkeypatch.setattr(f"dali_pipes.{place}", Mock(side_effect=kind("ours")))
    with pytest.raises(kind, match="ours"):
        probe(str(clip), "full")


def test_the_reader_version_includes_the_ffmpeg_version(monkeypatch):
    before = reader()
    monkeypatch.setitem(av.library_versions, "libavcodec", (99, 1, 2))
    assert "libavcodec 99.1.2" in reader() and reader() != before
    monkeypatch.setattr("dali_pipes.scan.probe.READER", 99)
    assert reader().startswith("99, PyAV ")


@pytest.mark.parametrize("called", ["os.open", "os.pread", "os.stat"])
def test_a_file_that_the_system_refuses_is_not_called_damaged(clip, monkeypatch, called):
    monkeypatch.setattr(
        f"dali_pipes.storage.sources.{called}", Mock(side_effect=PermissionError(13, "Permission denied"))
    )
    with pytest.raises(Inaccessible, match="Permission denied"):
        probe(str(clip))


def test_a_scan_knows_the_code_that_made_it(monkeypatch, tmp_path):
    code = probe_module.code.__wrapped__
    before = code()
    shutil.copytree(ROOT / "dali_pipes", tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(probe_module, "__file__", str(tmp_path / "scan/probe.py"))
    assert code() == before
    (tmp_path / "video/bitstream/bits.py").write_text("# another word")
    assert code() != before


def test_the_packet_table_gives_the_place_of_each_packet(clip):
    video, content = probe(str(clip)), clip.read_bytes()
    with av.open(str(clip)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    ends = video.offsets + video.sizes
    assert [content[start:end] for start, end in zip(video.offsets, ends, strict=True)] == packets


def test_the_order_is_that_of_presentation(clip):
    video, whole = probe(str(clip)), decode_whole(clip)
    assert video.reordered
    assert [number_in(picture) for picture in whole] == sorted(video.order.tolist())
    assert video.order[video.groups].tolist() == [0, 16, 32]


@pytest.mark.parametrize(
    ("codec", "container"),
    [("libx264", "mp4"), ("libx264", "ts"), ("libx265", "mp4"), ("mpeg4", "avi"), ("mpeg2video", "mpg")],
)
def test_b_pictures_that_nothing_refers_to_are_disposable(tmp_path, codec, container):
    video = probe(str(write_video(tmp_path / f"clip.{container}", codec, b_frames=1)))
    kinds = decoded_kinds(tmp_path / f"clip.{container}")
    assert kinds.count("B") > 10
    disposable = video.flags[video.decode_position] & DISPOSABLE
    assert ["B" if flag else "not" for flag in disposable] == ["B" if kind == "B" else "not" for kind in kinds]


def decoded_kinds(path) -> list[str]:
    """Return I, P or B of each frame, in the order in which they are shown."""
    with av.open(str(path)) as container:
        return [av.video.frame.PictureType(frame.pict_type).name for frame in container.decode(video=0)]


@pytest.mark.parametrize(
    ("codec", "container", "access"),
    [
        ("libx264", "mkv", "ranged"),
        ("libx264", "avi", "demux"),  # start codes instead of lengths
        ("libx264", "ts", "demux"),
        ("libvpx-vp9", "webm", "ranged"),
        ("mpeg4", "avi", "ranged"),
        ("mjpeg", "avi", "ranged"),
        ("mpeg2video", "mpg", "demux"),
        ("wmv2", "wmv", "whole"),  # mp4 cannot hold it
    ],
)
def test_packets_are_read_as_ranges_wherever_the_file_holds_them_so(tmp_path, codec, container, access):
    assert probe(str(write_video(tmp_path / f"clip.{container}", codec))).access == access


def test_an_h264_keyframe_that_is_no_idr_picture_starts_no_group(tmp_path):
    params = {"x264-params": "open-gop=1:keyint=8:min-keyint=4:bframes=2"}
    path = write_video(tmp_path / "clip.mp4", "libx264", options=params)
    with av.open(str(path)) as container:
        flagged = sum(packet.is_keyframe for packet in container.demux(video=0))
    assert (flagged > 4, probe(str(path)).groups.tolist()) == (True, [0])


def test_an_edit_list_hides_pictures(clip, tmp_path):
    path = tmp_path / "edited.mp4"
    path.write_bytes(with_edit_list(clip.read_bytes(), first_shown=5))
    whole = [number_in(picture) for picture in decode_whole(path)]
    video = probe(str(path))
    assert (video.frames, whole) == (43, list(range(5, 48)))
    assert (video.flags & HIDDEN > 0).sum() == 48 - 43
    frames = np.array([0, 7, 42])
    decoded = decode_frames(cut(video, frames), str(path))
    assert [number_in(picture) for picture in decoded] == [5, 12, 47]


def with_edit_list(content: bytes, first_shown: int) -> bytes:
    """Change the edit list of an mp4 so that it hides the first pictures; its moov must be the last box."""
    at = content.index(b"elst")
    (media_time,) = struct.unpack_from(">i", content, at + 16)
    scale = struct.unpack_from(">I", content, content.index(b"mdhd") + 16)[0]
    changed = struct.pack(">i", media_time + first_shown * scale // 30)
    return content[: at + 16] + changed + content[at + 20 :]


# Misleading names and files.


@pytest.mark.parametrize(
    "name", ["%03d.mp4", "concat:a|b.mp4", "http:x.mp4", "a,b 'c' #?*.mp4", "näme 手.mp4", "-i.mp4"]
)
def test_file_names_are_not_interpreted_by_ffmpeg(tmp_path, clip, name, monkeypatch):
    (tmp_path / name).write_bytes(clip.read_bytes())
    monkeypatch.chdir(tmp_path)
    video = probe(name)
    assert number_in(decode_frames(cut(video, np.array([9])), name)[0]) == 9


def test_a_file_with_a_non_utf8_name_is_read(tmp_path, clip):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.mp4")
    Path(path).write_bytes(clip.read_bytes())
    assert probe(path).frames == 48


@pytest.mark.parametrize(
    "playlist",
    ["#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile '{clip}'\n"],
)
def test_a_playlist_does_not_open_other_files(tmp_path, clip, playlist):
    path = tmp_path / "list.mp4"
    path.write_text(playlist.format(clip=clip))
    assert refusal(path) in ("is damaged, or not a video", "is not in a format that is read as video")


def test_a_path_that_is_no_regular_file_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    assert refusal(tmp_path / "pipe.mp4") == "is not a file"
    assert refusal(tmp_path) == "is not a file"
    assert refusal("/dev/zero") == "is not a file"
    assert refusal(tmp_path / "missing.mp4") == "No such file or directory"
    assert refusal("with\0zero.mp4") == "no file can have such a name"


# Files that hold no usable video.


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.mp4").touch()
    assert refusal(tmp_path / "empty.mp4") == "is empty (0 bytes)"


def test_text_is_refused(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    assert refusal(tmp_path / "text.mp4") == "is damaged, or not a video"


def test_sound_alone_is_refused(tmp_path):
    assert refusal(write_sound(tmp_path / "sound.mp4")) == "contains no video, only audio"


def test_a_file_of_unknown_tracks_is_not_a_video(tmp_path):
    path = write_video(tmp_path / "a.avi", "mpeg4", 4)
    path.write_bytes(path.read_bytes().replace(b"strf", b"JUNK"))
    assert refusal(path) == "contains no video, only something unknown"


def test_a_decoder_that_does_not_start_is_a_reason_to_refuse_a_file(clip, tmp_path):
    """PyAV 19 raises ValueError at the second packet: the codec is unknown."""
    content = bytearray(clip.read_bytes())
    content[content.index(b"avcC") + 9] ^= 0xFF  # the number of parameter sets
    (tmp_path / "a.mp4").write_bytes(content)
    assert refusal(tmp_path / "a.mp4", "full")


def test_colours_that_ffmpeg_cannot_change_are_a_reason_to_refuse_a_file(clip, monkeypatch):
    video, error = probe(str(clip)), av.error.OSError(errno.EOPNOTSUPP, "Operation not supported")
    monkeypatch.setattr(decode, "reformat", Mock(side_effect=error))
    with pytest.raises(DataError, match=r"clip.mp4: cannot be read \(Operation not supported\)"):
        probe(str(clip), "full")
    with pytest.raises(DataError, match=r"clip.mp4: cannot be read \(Operation not supported\)"):
        decode_frames(cut(video, np.array([3])), video.path)


@pytest.mark.skipif(av.__version__.startswith("15."), reason="PyAV 15 cannot write a cover picture")
def test_a_cover_picture_is_not_a_video(tmp_path):
    still = write_video(tmp_path / "still.jpg", "mjpeg", 1).read_bytes()
    path = write_sound(tmp_path / "covered.mkv", cover=still)
    assert refusal(path) == "contains no video, only a cover picture and audio"


def write_sound(path: Path, cover: bytes = b"") -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        if cover:
            container.add_attachment("cover.jpg", "image/jpeg", cover)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 44100
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("part", [0.2, 0.6, 0.99])
def test_a_truncated_file_is_refused_as_cut_short(tmp_path, clip, part):
    path = tmp_path / "short.mp4"
    path.write_bytes(clip.read_bytes()[: int(part * clip.stat().st_size)])
    assert "is cut short" in refusal(path)


def test_a_file_without_an_index_is_refused_as_such(tmp_path, clip):
    content = clip.read_bytes()
    (tmp_path / "raw.mp4").write_bytes(content[: content.index(b"moov") - 4])
    assert "has no index (moov box)" in refusal(tmp_path / "raw.mp4")


def test_junk_behind_the_last_box_does_no_harm(tmp_path, clip):
    path = tmp_path / "tail.mp4"
    path.write_bytes(clip.read_bytes() + b"\x7f\xff\xff\xffjunk and more of it")
    assert probe(str(path)).frames == 48


def test_pictures_that_change_size_are_refused(tmp_path):
    small = write_video(tmp_path / "small.h264", "libx264")
    large = write_video(tmp_path / "large.h264", "libx264", size=(64, 128))
    path = tmp_path / "both.h264"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    assert refusal(path) == "its pictures change size: 96x48, 128x64"


@pytest.mark.parametrize(
    ("codec", "container"), [("libx264", "ts"), ("libx264", "mkv"), ("mpeg2video", "ts"), ("libvpx-vp9", "webm")]
)
def test_a_stream_that_starts_inside_a_group_is_refused_or_gives_what_a_full_decode_gives(tmp_path, codec, container):
    path = without_start(write_video(tmp_path / f"clip.{container}", codec, b_frames=2 * (codec != "libvpx-vp9")), 5)
    try:
        video = probe(str(path))
    except DataError as error:
        assert "pictures are damaged" in str(error)
        return
    whole = decode_whole(path)
    assert video.frames == len(whole)
    np.testing.assert_array_equal(decode_frames(cut(video, np.arange(len(whole))), str(path)), whole)


def test_leading_pictures_of_a_first_group_which_no_decoder_can_show_are_not_counted(tmp_path):
    params = "log-level=none:keyint=20:min-keyint=2:bframes=4:b-adapt=0:open-gop=1"
    whole = write_video(tmp_path / "clip.mkv", "libx265", 60, options={"x265-params": params})
    before, start, *_ = probe(str(whole)).groups
    assert before == 0 and probe(str(whole)).leading[start:].any()
    path = without_start(whole, start)
    shown = decode_whole(path)
    video = probe(str(path))
    assert video.frames == len(shown) < len(video.packets)
    np.testing.assert_array_equal(decode_frames(cut(video, np.arange(len(shown))), str(path)), shown)


def test_repeated_times_leave_the_order_to_decoding(tmp_path):
    path = write_video(tmp_path / "clip.mp4", "libx264", 20, gop=20, b_frames=2)
    right, content = probe(str(path)), bytearray(path.read_bytes())
    count, offset = struct.unpack_from(">Ii", content, third := content.index(b"ctts") + 12 + 8 * 2)
    assert right.order.tolist()[:3] == [0, 2, 1] and count == 1
    scale = struct.unpack_from(">I", content, content.index(b"mdhd") + 16)[0]
    struct.pack_into(">Ii", content, third, 1, offset + scale // 30)  # the third packet, as late as the second
    path.write_bytes(content)
    video = probe(str(path))
    assert video.order.tolist() == right.order.tolist()
    np.testing.assert_allclose(frame_times(video), np.arange(20) / 30)


def test_pictures_that_are_not_shown_stand_behind_the_one_decoded_before_them():
    assert verify._order_of([2, 1, 4], 5).tolist() == [0, 2, 1, 3, 4]


def without_start(path: Path, packets: int) -> Path:
    """Copy a stream without its first packets."""
    copy = path.with_stem("late")
    with av.open(str(path)) as source, av.open(str(copy), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for index, packet in enumerate(source.demux(video=0)):
            if packet.size and index >= packets:
                packet.stream = stream
                target.mux(packet)
    return copy


# Thoroughness of checks.


def damaged(path: Path, clip: Path, packet: int) -> Path:
    """Copy the clip with the second half of one packet overwritten."""
    video, content = probe(str(clip)), bytearray(clip.read_bytes())
    end = int(video.offsets[packet] + video.sizes[packet])
    half = int(video.sizes[packet]) // 2
    content[end - half : end] = b"\xaa" * half
    path.write_bytes(content)
    return path


def test_demuxing_does_not_see_damage_inside_pictures_but_decoding_refuses_it(tmp_path, clip):
    path = damaged(tmp_path / "damaged.mp4", clip, packet=20)
    video = probe(str(path))
    assert number_in(decode_frames(cut(video, np.array([3])), str(path))[0]) == 3
    with pytest.raises(DataError, match=r"damaged\.mp4: is damaged"):
        decode_frames(cut(video, video.order[[20]]), str(path))


def test_checking_the_ends_finds_damage_there_only(tmp_path, clip):
    assert "damaged" in refusal(damaged(tmp_path / "first.mp4", clip, packet=0), "ends")
    assert "damaged" in refusal(damaged(tmp_path / "last.mp4", clip, packet=40), "ends")
    assert probe(str(damaged(tmp_path / "middle.mp4", clip, packet=20)), "ends").frames == 48


def test_a_full_check_counts_the_damaged_pictures(tmp_path, clip):
    assert refusal(damaged(tmp_path / "middle.mp4", clip, packet=20), "full") == "1 of 48 pictures are damaged"


def test_a_full_check_of_a_sound_file_changes_nothing(clip):
    quick, full = probe(str(clip)), probe(str(clip), "full")
    assert full.access == quick.access
    np.testing.assert_array_equal(full.packets, quick.packets)


def test_a_packet_wrongly_marked_as_keyframe_is_detected(tmp_path):
    path = write_video(tmp_path / "clip.mp4", "mpeg4")
    content = path.read_bytes()
    sync = mp4.find_box(content, (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stss"))
    lying = sync[:-4] + struct.pack(">I", 40)  # the third keyframe is number 33
    path.write_bytes(content.replace(sync, lying))
    video = probe(str(path))
    assert np.flatnonzero(video.packets["flags"] & KEYFRAME).tolist() == [0, 16]


def test_times_that_the_container_does_not_keep_are_taken_from_decoding(tmp_path):
    raw = write_video(tmp_path / "clip.h264", "libx264", b_frames=2)
    video = probe(str(raw))
    assert (video.access, video.frames) == ("demux", 48)
    decoded = decode_frames(cut(video, np.arange(48)), str(raw))
    assert [number_in(picture) for picture in decoded] == list(range(48))


def test_a_stream_that_mp4_cannot_hold_is_read_whole(tmp_path):
    path = write_video(tmp_path / "clip.wmv", "wmv2")
    result = cut(probe(str(path)), np.array([30, 2]))
    assert result.data == path.read_bytes()
    with av.open(io.BytesIO(result.data)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 48
    assert [number_in(picture) for picture in decode_frames(result, str(path))] == [30, 2]


def test_the_summary_counts_files_with_several_video_tracks(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    one = write_video(tmp_path / "1.mp4", "libx264", 12)
    with av.open(str(one)) as source, av.open(str(tmp_path / "2.mp4"), "w") as target:
        tracks = [target.add_stream_from_template(source.streams.video[0]) for _ in range(2)]
        packets = [packet for packet in source.demux(video=0) if packet.size]
        for packet in packets:
            for track in tracks:
                packet.stream = track
                target.mux(packet)
    (tmp_path / "a.list").write_text("1.mp4 0\n2.mp4 1\n2.mp4 1\n")
    for _ in range(2):  # scanned, and known
        load_catalog(str(tmp_path / "a.list"), Data(), workers=1)
        assert (
            "2 readable, 1 rows repeat others, 1 with several video tracks (FFmpeg's best one is read); h264"
            in (caplog.messages[-1])
        )
