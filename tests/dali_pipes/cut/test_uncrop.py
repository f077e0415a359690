"""Cuts without cropping: the same pixels, the coded size as the file's size, and no padding in a clip."""

import io

import av
import numpy as np
import pytest

from dali_pipes.cut.cutter import cut
from dali_pipes.cut.decode import decode_frames
from dali_pipes.cut.uncrop import uncrop
from dali_pipes.feed.decoders import GraphForm
from dali_pipes.feed.graph import clip_graph
from dali_pipes.scan.probe import probe
from dali_pipes.video.bitstream.cropping import uncropped
from tests.support.videos import write_video

SIZES = [(340, 256), (346, 260), (426, 240), (854, 480), (640, 360), (100, 70)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("codec", "form"),
    [
        ("libx264", {"gop": 4, "b_frames": 2}),
        ("libx264", {"gop": 250, "options": {"preset": "ultrafast", "profile": "baseline"}}),
        ("libx265", {"gop": 4}),
    ],
)
def test_the_shown_part_keeps_every_pixel(tmp_path, codec, form, size):
    width, height = size
    video = probe(str(write_video(tmp_path / "a.mp4", codec, 6, size=(height, width), **form)))
    frames = np.array([0, 2, 5])
    small = cut(video, frames)
    with av.open(io.BytesIO(uncrop(small))) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    expected = decode_frames(small, video.path)
    for position, picture_HWC in zip(small.positions, expected, strict=True):
        found_HWC = decoded[position]
        assert found_HWC.shape == (-(-height // 16) * 16, -(-width // 16) * 16, 3)
        np.testing.assert_array_equal(found_HWC[:height, :width], picture_HWC)


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9", "mpeg4"])
def test_streams_without_cropping_in_their_headers_are_unchanged(tmp_path, codec):
    video = probe(str(write_video(tmp_path / "a.mp4", codec, 6, gop=3, size=(64, 96))))
    small = cut(video, np.array([1, 4]))
    assert uncrop(small) is small.data


def test_parameter_sets_among_the_packets_prevent_uncropping(tmp_path):
    options = {"x264-params": "repeat-headers=1"}
    video = probe(str(write_video(tmp_path / "a.mkv", "libx264", 6, gop=3, size=(70, 100), options=options)))
    small = cut(video, np.array([1, 4]))
    assert uncrop(small) is small.data


def test_1000_sizes_of_kinetics_need_few_decoders(tmp_path):
    """Scaled sizes have a short side of 256 and an even long side; DALI keeps a decoder for each coded size."""
    descriptions = {}
    for width in range(256, 480, 2):
        video = probe(str(write_video(tmp_path / "a.mp4", "libx264", 2, size=(256, width))))
        descriptions[width] = uncropped("h264", video.description)
    drawn = np.random.default_rng(0).integers(128, 240, 1000) * 2
    before = sum(descriptions[width] is not None for width in drawn.tolist())
    coded = {descriptions[width].width if descriptions[width] else width for width in drawn.tolist()}
    assert before > 800, "each of these took a decoder for every sample"
    assert len(coded) == 15


def test_clips_contain_no_padding_at_the_edge(tmp_path):
    """VP9 stands in for H.264, which DALI cannot decode on a CPU; its padding is what lies beyond the shown size."""
    whole, shown = (256, 352), (256, 340)
    path = tmp_path / "a.mp4"
    black_and_white = np.zeros((*whole, 3), np.uint8)
    black_and_white[:, shown[1] :] = 255
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=30, options={"lossless": "1"})
        (stream.height, stream.width), stream.pix_fmt = whole, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(black_and_white, format="rgb24")))
        container.mux(stream.encode())
    small = cut(probe(str(path)), np.array([1]))
    box = np.array([[84, 0, 340, 256]], np.float32)
    clips = {}
    for name, sides in (("cropped", shown), ("padded", whole)):
        columns = [np.zeros((1, 1), np.int32)], [box], [np.zeros(1, np.int32)], [np.zeros((0, 1, 1, 3), np.uint8)]
        encoded = [np.array(True)], [np.frombuffer(small.data, np.uint8)], [small.positions], [np.int32(sides)]
        clips[name] = run((*columns, *encoded), "cpu")
    picture = decode_frames(small, str(path))[:, :, :340]
    clips["expected"] = run((*columns[:3], [np.ascontiguousarray(picture)]), "")
    apart = np.abs(clips["cropped"] - clips["expected"])
    assert apart.max() <= 3, "as far apart as two conversions of colours"
    np.testing.assert_array_equal(clips["cropped"][..., :-1, :], clips["padded"][..., :-1, :])
    assert np.abs(clips["padded"] - clips["expected"])[..., -1, :].max() > 10


def run(columns, decoder):
    """Return the clips of one batch, in grey levels."""
    batch = iter([columns])
    pipeline = clip_graph(
        lambda: next(batch),
        form=GraphForm(decoder),
        device="cpu",
        views=1,
        size=112,
        antialias=True,
        mean=(0, 0, 0),
        std=(1 / 255,) * 3,
        half=False,
        batch_size=1,
        num_threads=1,
        device_id=None,
    )
    return pipeline.run()[0].as_array()
