"""Colours: how DALI reads the colour tags of a file, and that transcoding makes them unambiguous."""

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from nvidia.dali import fn, pipeline_def, types

from dali_pipes.cut.cutter import cut
from dali_pipes.scan.probe import probe
from dali_pipes.video import mp4
from dali_pipes.video.colours import correction
from tests.support.loading import STD, make_config, read, with_section
from tools.data.conversion.reencode import Settings, write_video

BT709, BT601 = 1, 6  # matrices as H.273 numbers them
WEIGHTS = {BT709: (0.2126, 0.0722), BT601: (0.299, 0.114), 9: (0.2627, 0.0593)}  # of red and blue; 9: BT.2020
SIDE = 64


def rgb(frame: av.VideoFrame, matrix: int, *, full: bool) -> np.ndarray:
    """Return [H, W, 3] float64 of a 4:2:0 frame by the textbook, for a matrix and a range."""
    bits = frame.format.components[0].bits
    planes = [
        np.frombuffer(plane, np.uint8 if bits == 8 else np.uint16).reshape(plane.height, -1)[:, : plane.width]
        for plane in frame.planes
    ]
    y, blue, red = (plane.astype(float) / 2 ** (bits - 8) for plane in planes)
    blue, red = (plane.repeat(2, axis=0).repeat(2, axis=1) - 128 for plane in (blue, red))
    if not full:
        y, blue, red = (y - 16) * 255 / 219, blue * 255 / 224, red * 255 / 224
    weight_r, weight_b = WEIGHTS[matrix]
    r, b = y + 2 * (1 - weight_r) * red, y + 2 * (1 - weight_b) * blue
    g = (y - weight_r * r - weight_b * b) / (1 - weight_r - weight_b)
    return np.stack([r, g, b], axis=-1).clip(0, 255)


def write_gradient(path, matrix: int, range_: ColorRange) -> None:
    """Write one picture of many colours as VP9, which DALI decodes on a CPU, with tags for matrix and range."""
    y, x = np.mgrid[:SIDE, :SIDE]
    picture_HWC = np.stack([4 * x, 4 * y, 255 - 2 * x - 2 * y], axis=-1).clip(0, 255).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(picture_HWC, format="rgb24")
    swscale = {BT709: Colorspace.ITU709, BT601: Colorspace.ITU601}[matrix]
    frame = frame.reformat(format="yuv420p", dst_colorspace=swscale, dst_color_range=range_)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=25, options={"crf": "4", "b": "0"})
        stream.width = stream.height = SIDE
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, range_
        frame.pts, frame.colorspace, frame.color_range = 0, matrix, range_
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pipeline_def(batch_size=1, num_threads=1, device_id=None)
def decoder(encoded: np.ndarray):
    source = fn.external_source(source=lambda: [encoded], dtype=types.UINT8, ndim=1)
    return fn.decoders.video(source, frames=[0], device="cpu")


@pytest.mark.parametrize("matrix", [BT709, BT601])
@pytest.mark.parametrize("range_", [ColorRange.MPEG, ColorRange.JPEG])
def test_dali_takes_any_matrix_for_bt601_and_heeds_the_range(tmp_path, matrix, range_):
    write_gradient(tmp_path / "one.mp4", matrix, range_)
    pipeline = decoder(np.fromfile(tmp_path / "one.mp4", np.uint8))
    pipeline.build()
    (batch,) = pipeline.run()
    seen = np.array(batch[0])[0].astype(float)
    with av.open(str(tmp_path / "one.mp4")) as container:
        frame = next(container.decode(video=0))
    assert (frame.colorspace, frame.color_range) == (matrix, range_)
    distance = {m: np.abs(seen - rgb(frame, m, full=range_ == ColorRange.JPEG)).mean() for m in (BT709, BT601)}
    assert distance[BT601] < 2
    assert distance[BT709] > 6


@pytest.mark.parametrize("range_", [ColorRange.MPEG, ColorRange.JPEG])
@pytest.mark.parametrize("matrix", [BT709, BT601])
def test_decoders_agree_on_colours_whatever_a_file_notes(tmp_path, matrix, range_):
    write_gradient(tmp_path / "one.mp4", matrix, range_)
    (tmp_path / "all.list").write_text("one.mp4 0\n" * 4)
    config = make_config(str(tmp_path / "all.list"))
    ((of_pyav, *_),), ((of_dali, *_),) = (
        read(with_section(config, "data", decoder=decoder), "val") for decoder in ("pyav", "dali_cpu")
    )
    apart = np.abs(of_pyav - of_dali) * STD.reshape(3, 1, 1) * 255
    assert apart.mean() < 1.5
    assert apart.max() < 8  # at colours that DALI has clipped


@pytest.mark.parametrize("matrix", [BT709, 9])
def test_a_correction_leads_from_bt601_to_the_colours_of_the_textbook(matrix):
    description = mp4.with_colours(mp4.box(b"stsd", bytes(7) + b"\1", mp4.box(b"avc1", bytes(78))), 1, 1, matrix, 1)
    weights, bt601 = WEIGHTS[matrix], WEIGHTS[BT601]
    yuv = np.random.default_rng(0).uniform(-0.4, 0.4, (3, 50)) + np.array([[0.5], [0], [0]])

    def rgb_by(red, blue):
        r, b = yuv[0] + 2 * (1 - red) * yuv[2], yuv[0] + 2 * (1 - blue) * yuv[1]
        return np.stack([r, (yuv[0] - red * r - blue * b) / (1 - red - blue), b])

    np.testing.assert_allclose(correction(description) @ rgb_by(*bt601), rgb_by(*weights), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("bt601_limited_range", (0, 0.01), 0.5),
        ("bt601_full_range", (0, 0.01), 1.2),
        ("bt709_full_range", (12, 14), 1.8),
        ("bt2020_10bit", (4, 6), 2.8),
    ],
)
def test_colours_are_right_where_bt601_is_assumed(shared, tmp_path, name, before, after):
    """Distances are the mean from the true picture in grey levels, read as BT.601, as DALI always does."""
    path = tmp_path / "start.mp4"  # the first frames of the file, with its headers
    path.write_bytes(cut(probe(str(shared / "data" / "nasty" / f"torchcodec__{name}.mp4")), np.arange(4)).data)
    write_video(probe(str(path)), str(tmp_path / "new.mp4"), vars(Settings(crf=6, short_side=2000)))
    with av.open(str(path)) as old, av.open(str(tmp_path / "new.mp4")) as new:
        source, stored = next(old.decode(video=0)), next(new.decode(video=0))
    assert (stored.colorspace, stored.color_range) == (6, ColorRange.MPEG)
    full = source.color_range == ColorRange.JPEG
    truth = rgb(source, int(source.colorspace), full=full)
    distance = np.abs(rgb(source, 6, full=full) - truth).mean(), np.abs(rgb(stored, 6, full=False) - truth).mean()
    print(f"{name}: {distance[0]:.2f} grey levels off before, {distance[1]:.2f} after")
    assert before[0] <= distance[0] <= before[1]
    assert distance[1] < after
