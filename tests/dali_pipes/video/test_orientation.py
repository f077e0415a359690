"""Display matrices: read from files, and applied by every decoder and by the boxes of every view."""

import struct
from dataclasses import asdict, replace

import av
import numpy as np
import pytest

from dali_pipes.scan.probe import probe
from dali_pipes.video import orientation as module
from dali_pipes.video.orientation import MIRRORED, TRANSPOSED, UPRIGHT, UPSIDE_DOWN, stored_boxes, turned
from tests.support.files.corpus import CODECS, Case, encoded, mux
from tests.support.loading import STD, make_config, read, with_section
from tests.support.videos import with_matrix, write_video
from tools.data.conversion.reencode import Settings
from tools.data.conversion.reencode import write_video as transcode

ROUNDING = 2  # grey levels, as between resamplers
MATRICES = {  # a, b, c, d of the display matrix, and the orientation
    (1, 0, 0, 1): UPRIGHT,
    (0, 1, -1, 0): TRANSPOSED | MIRRORED,  # a quarter turn to the right
    (-1, 0, 0, -1): MIRRORED | UPSIDE_DOWN,
    (0, -1, 1, 0): TRANSPOSED | UPSIDE_DOWN,  # to the left
    (-1, 0, 0, 1): MIRRORED,
    (1, 0, 0, -1): UPSIDE_DOWN,
    (0, 1, 1, 0): TRANSPOSED,
    (0, -1, -1, 0): TRANSPOSED | MIRRORED | UPSIDE_DOWN,
}


@pytest.mark.parametrize(("matrix", "expected"), MATRICES.items())
@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9"])
def test_the_scan_reads_the_display_matrix(tmp_path, codec, matrix, expected):
    path = with_matrix(write_video(tmp_path / "a.mp4", codec, 6, gop=3), *matrix)
    video = probe(str(path))
    assert video.orientation == expected
    assert (video.width, video.height) == (96, 48)  # as stored


RIGHT = TRANSPOSED | MIRRORED  # a quarter turn to the right, as a phone held upright records it


def display_orientation_sei(header: bytes) -> bytes:
    """Return an SEI unit: 270 degrees anticlockwise, no flips, for all later pictures (ITU-T H.264 D.1.27)."""
    bits = "000" + f"{0xC000:016b}" + "1" + "0" + "100"
    content = int(bits, 2).to_bytes(3, "big")
    return header + bytes([47, len(content)]) + content + b"\x80"


def exif(orientation: int) -> bytes:
    """Return the segment of a JPEG with an orientation (tag 0x112 of Exif)."""
    entry = struct.pack(">HHIHH", 0x112, 3, 1, orientation, 0)
    content = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    return b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content


def in_first_packet(change, name: str, container: str, path):
    """Write a clip of the corpus, with its first packet changed."""
    clip = encoded(name)
    first, *others = clip.units
    path.write_bytes(mux(replace(clip, units=(replace(first, data=change(first.data)), *others)), container))
    return str(path)


def first_frame_of_ffmpeg(path: str) -> int:
    with av.open(path) as container:
        return module.orientation(next(container.decode(video=0)))


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize(("codec", "header"), [("h264", b"\x06"), ("hevc", b"\x4e\x01")])
def test_the_scan_follows_an_orientation_in_the_headers_of_a_picture(tmp_path, codec, header, container):
    sei = display_orientation_sei(header)
    path = in_first_packet(
        lambda data: len(sei).to_bytes(4, "big") + sei + data, codec, container, tmp_path / f"a.{container}"
    )
    assert probe(path).orientation == first_frame_of_ffmpeg(path) == RIGHT


def test_the_scan_follows_an_orientation_in_a_jpeg(tmp_path):
    path = in_first_packet(lambda data: data[:2] + exif(6) + data[2:], "mjpeg", "avi", tmp_path / "a.avi")
    assert probe(path).orientation == first_frame_of_ffmpeg(path)  # versions of FFmpeg differ


def test_the_scan_follows_a_display_matrix_in_matroska(tmp_path):
    turned_mp4 = with_matrix(write_video(tmp_path / "a.mp4", "libx264", 6, gop=3), 0, 1, -1, 0)
    path = str(tmp_path / "a.mkv")
    with av.open(str(turned_mp4)) as source, av.open(path, "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    assert probe(path).orientation == first_frame_of_ffmpeg(path) == RIGHT


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "mpeg4", "mpeg2", "mjpeg", "av1"])
def test_an_upright_file_is_scanned_without_decoding(tmp_path, codec, monkeypatch):
    def refuse(*_):
        raise AssertionError("the scan asks for the matrix of a decoded picture")

    monkeypatch.setattr(module, "orientation", refuse)
    for container in {"mp4", "mkv", "avi", "ts", "ivf", "webm"} & {*CODECS[codec][-1]}:
        if path := Case(codec, container, "as it is").write(tmp_path):
            assert probe(str(path)).orientation == UPRIGHT


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (UPRIGHT, [[1, 2, 3], [4, 5, 6]]),
        (TRANSPOSED | MIRRORED, [[4, 1], [5, 2], [6, 3]]),
        (MIRRORED | UPSIDE_DOWN, [[6, 5, 4], [3, 2, 1]]),
        (TRANSPOSED | UPSIDE_DOWN, [[3, 6], [2, 5], [1, 4]]),
        (MIRRORED, [[3, 2, 1], [6, 5, 4]]),
    ],
)
def test_an_orientation_turns_a_picture(orientation, expected):
    np.testing.assert_array_equal(turned(np.array([[1, 2, 3], [4, 5, 6]]), orientation), expected)


@pytest.mark.parametrize("orientation", range(8))
def test_a_box_of_the_upright_picture_shows_the_same_pixels_in_the_stored_one(orientation):
    stored_HW = np.arange(40 * 60).reshape(40, 60)
    upright_HW = turned(stored_HW, orientation)
    left, top, right, bottom = 5, 8, 25, 31
    ((x0, y0, x1, y1),) = stored_boxes(np.array([[left, top, right, bottom]]), orientation, 60, 40)
    np.testing.assert_array_equal(turned(stored_HW[y0:y1, x0:x1], orientation), upright_HW[top:bottom, left:right])


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Return a list of videos in all orientations, and one of the same scenes stored upright."""
    noted, upright = tmp_path_factory.mktemp("noted"), tmp_path_factory.mktemp("upright")
    form = {"codec": "libvpx-vp9", "frames": 12, "gop": 4, "size": (80, 112), "options": {"lossless": "1"}}
    for number, (matrix, orientation) in enumerate(MATRICES.items()):
        with_matrix(write_video(noted / f"{number}.mp4", **form), *matrix)
        write_video(upright / f"{number}.mp4", **form, orientation=orientation)
    for folder in (noted, upright):
        (folder / "all.list").write_text("".join(f"{number}.mp4 {number % 3}\n" for number in range(8)))
    return [make_config(str(folder / "all.list")) for folder in (noted, upright)]


@pytest.mark.parametrize("decoder", ["pyav", "dali_cpu", "hybrid"])
@pytest.mark.parametrize(("split", "crops"), [("train", "center"), ("val", "ten")])
def test_every_decoder_shows_what_is_stored_upright(sets, decoder, split, crops):
    changed = [
        with_section(with_section(config, "eval", crops=crops), "data", decoder=decoder, cpu_share=0.5)
        for config in sets
    ]
    for (clips, *rest), (expected, *expected_rest) in zip(*(read(config, split) for config in changed), strict=True):
        np.testing.assert_array_equal(rest, expected_rest)
        apart = np.abs(clips - expected) * np.array(STD).reshape(3, 1, 1) * 255
        assert apart.max() <= ROUNDING


def test_a_transcoded_video_shows_what_the_original_shows(tmp_path):
    path = with_matrix(write_video(tmp_path / "a.mp4", "libx264", 12, gop=4, size=(80, 112)), 0, 1, -1, 0)
    made = transcode(probe(str(path)), str(tmp_path / "b.mp4"), asdict(Settings(crf=4)))
    assert "turned upright" in made["changes"]
    clips = []
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / f"{name}.list").write_text("".join(f"{name} 0\n" * 4))
        ((batch, *_),) = read(make_config(str(tmp_path / f"{name}.list")), "val")
        clips.append(batch)
    assert np.abs(clips[0] - clips[1]).mean() * 255 * STD.mean() < 4
