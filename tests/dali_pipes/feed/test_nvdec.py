"""The choice of videos for NVDEC, and the messages if NVDEC or DALI does not work; needs no GPU."""

import re
from dataclasses import replace
from unittest.mock import Mock

import av
import numpy as np
import pytest
import torch

from dali_pipes import DataError
from dali_pipes.feed import dali_errors, dali_runner, nvdec
from dali_pipes.feed.choice import Choice
from dali_pipes.feed.dali_runner import GraphRunner
from dali_pipes.feed.decoders import DALI_CPU, PYAV, Content
from dali_pipes.scan.build import open_catalog
from dali_pipes.scan.probe import probe
from dali_pipes.video import mp4
from dali_pipes.video.bitstream import PictureFormat, picture_format
from tests.support.loading import arrays, assert_same, build_loader, make_config, read, with_section, write_set
from tests.support.videos import damage_packets, picture, write_video

GPU = torch.device("cuda", 0)
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without an NVIDIA GPU")


def stored_as(path, codec, pixels="yuv420p", options=None, size=(48, 96)):
    """Write and probe a video with another pixel format."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=options or {})
        stream.height, stream.width = size
        stream.pix_fmt = pixels
        for number in range(6):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=pixels)))
        container.mux(stream.encode())
    return probe(str(path))


@pytest.mark.parametrize(
    ("codec", "pixels", "options", "expected"),
    [
        ("libx264", "yuv420p", {}, PictureFormat()),
        ("libx264", "yuv420p", {"profile": "baseline"}, PictureFormat()),
        ("libx264", "yuv420p", {"x264-params": "cqm=jvt"}, PictureFormat()),
        ("libx264", "yuv420p", {"x264-params": "interlaced=1"}, PictureFormat(fields=True)),
        ("libx264", "yuv420p10le", {}, PictureFormat(bits=10)),
        ("libx264", "yuv422p", {}, PictureFormat(chroma="4:2:2")),
        ("libx264", "yuv444p", {}, PictureFormat(chroma="4:4:4")),
        ("libx264", "gray", {}, PictureFormat(chroma="4:0:0")),
        ("libx265", "yuv420p", {"x265-params": "log-level=none"}, PictureFormat()),
        ("libx265", "yuv420p10le", {"x265-params": "log-level=none"}, PictureFormat(bits=10)),
        ("libx265", "yuv444p", {"x265-params": "log-level=none"}, PictureFormat(chroma="4:4:4")),
    ],
)
def test_the_picture_format_is_read_from_the_stream_headers(tmp_path, codec, pixels, options, expected):
    video = stored_as(tmp_path / "a.mp4", codec, pixels, options)
    assert picture_format(video.codec, video.description) == expected
    usual = expected == PictureFormat() and codec == "libx264"
    assert (nvdec.refusal(video) is None) == usual  # HEVC of 96x48 is too small


def coded(number: int) -> str:
    """Return a number in Exp-Golomb code."""
    bits = f"{number + 1:b}"
    return "0" * (len(bits) - 1) + bits


def parameter_set(progressive: str) -> bytes:
    """Return an avcC box whose parameter set has every optional field before those that are read."""
    zero, one, end_of_list = coded(0), coded(1), coded(16)  # 16 means −8 as a signed code, which ends the list
    lists = "1" + end_of_list + "1" + 16 * zero + 5 * "0" + "1" + 64 * one  # three of 8
    order = one + "0" + coded(2**24) + coded(2) + coded(2) + coded(4) + coded(7)  # kind 1, two offsets, two pictures
    bits = zero + one + zero + zero + "0" + "1" + lists + zero + order + one + "0" + coded(20) + coded(15) + progressive
    body = bytes([0x67, 100, 0, 30]) + int(bits.ljust(-(-len(bits) // 8) * 8, "1"), 2).to_bytes(-(-len(bits) // 8))
    assert re.search(rb"\0\0[\0-\3]", body)
    escaped = re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", body)
    return bytes([1, 100, 0, 30, 255, 225]) + len(escaped).to_bytes(2) + escaped


@pytest.mark.parametrize("progressive", ["0", "1"])
def test_a_parameter_set_with_every_optional_field_is_read_to_its_end(progressive):
    entry = mp4.box(b"avc1", bytes(78), mp4.box(b"avcC", parameter_set(progressive)))
    description = mp4.box(b"stsd", bytes(7) + b"\1", entry)
    assert picture_format("h264", description) == PictureFormat(fields=progressive == "0")


@pytest.mark.parametrize("cut_to", [0, 8, 11, 13])
def test_nvdec_refuses_a_stream_whose_headers_are_truncated(tmp_path, cut_to):
    video = probe(str(write_video(tmp_path / "a.mp4", "libx264", 6)))
    start = video.description.index(b"avcC") - 4
    box = video.description[start : start + 8 + cut_to]
    short = video.description[:start] + len(box).to_bytes(4, "big") + box[4:]
    assert "does not say how its pictures are stored" in nvdec.refusal(replace(video, description=short)).reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"codec": "vp9"}, "is vp9"),
        ({"codec": "mpeg4"}, "is mpeg4"),
        ({"access": "whole"}, "cannot be cut"),
        ({"width": 97}, "97x48"),
        ({"height": 49}, "96x49"),
        ({"width": 46}, "too small"),
    ],
)
def test_videos_that_nvdec_decodes_wrong_or_not_at_all_are_refused(tmp_path, change, reason):
    video = probe(str(write_video(tmp_path / "a.mp4", "libx264", 6)))
    assert nvdec.refusal(video) is None
    assert reason in nvdec.refusal(replace(video, **change)).reason


@without_gpu
def test_auto_decodes_on_the_cpu_without_nvdec_and_logs_the_reason(tmp_path):
    config = with_section(make_config(write_set(tmp_path)), "data", decoder="auto")
    catalog = open_catalog(config.data.train, config.data)
    choice = Choice(catalog, config.data, GPU)
    assert choice.in_graph is None
    assert {choice.of(row).name for row in range(len(catalog))} == {"pyav"}
    assert choice.note.startswith(
        f"{catalog.source}: decoded on the CPU: NVDEC does not work here: "
        "libnvcuvid.so.1: cannot open shared object file"
    )
    assert choice.note.endswith("or start the container with NVIDIA_DRIVER_CAPABILITIES=all")


@without_gpu
@pytest.mark.parametrize("decoder", ["nvdec", "hybrid"])
def test_requesting_nvdec_without_nvdec_is_an_error_of_one_line(tmp_path, decoder):
    config = with_section(make_config(write_set(tmp_path)), "data", decoder=decoder)
    with pytest.raises(
        DataError, match=rf"^data.decoder: {decoder}: NVDEC does not work here: .*; or use pyav, or auto"
    ):
        build_loader(config, "train", device=GPU)


@without_gpu
def test_a_gpu_that_dali_cannot_use_is_a_one_line_error_with_the_required_driver(tmp_path):
    config = make_config(write_set(tmp_path))
    with pytest.raises(DataError, match=r"DALI cannot work on cuda:0: You are trying to .*driver 580 or newer") as info:
        build_loader(config, "train", device=GPU)
    assert "\n" not in str(info.value)


@without_gpu
def test_the_reason_why_nvdec_fails_quotes_dali(monkeypatch):
    monkeypatch.setattr(nvdec, "library", lambda: None)
    reason = dali_errors.why_nvdec_fails.__wrapped__(GPU)
    assert reason.startswith("NVDEC does not work here: You are trying to create a GPU DALI pipeline")


def test_a_video_that_no_decoder_reads_has_the_reason_of_the_last_decoder(tmp_path, caplog):
    config = with_section(make_config(write_set(tmp_path, "libvpx-vp9")), "data", decoder="dali_cpu")
    damage_packets(tmp_path / "6.mp4")
    videos = build_loader(config, "val")
    for _ in videos.epoch(0):
        pass
    videos.close()
    ((row, path, reason),) = videos.unreadable
    assert (row, path) == (6, str(tmp_path / "6.mp4"))
    assert reason == "is damaged, or not a video"
    assert f"{path}: dali_cpu cannot decode it (Failed to send packet to decoder" in caplog.text


def test_videos_that_dali_refuses_are_decoded_by_cpu_threads(tmp_path, monkeypatch):
    """A truncated input stands for a stream that DALI does not support."""
    config = with_section(make_config(write_set(tmp_path, "libvpx-vp9")), "data", decoder="dali_cpu")
    as_ever, broken = DALI_CPU.content, str(tmp_path / "6.mp4")

    def content(video, *rest):
        found = as_ever(video, *rest)
        return found._replace(encoded=found.encoded[:40]) if video.path == broken else found

    monkeypatch.setattr(DALI_CPU, "content", content)
    videos = build_loader(config, "val")
    batches = list(map(arrays, videos.epoch(0)))
    videos.close()
    assert not videos.unreadable
    assert np.concatenate([row_B for *_, row_B in batches])[:13].tolist() == list(range(13))
    assert videos.choice.of(6) is PYAV


def test_a_decoder_that_fails_on_its_example_stops_the_epoch_and_marks_no_video(tmp_path, monkeypatch):
    config = with_section(make_config(write_set(tmp_path, "libvpx-vp9")), "data", decoder="dali_cpu")
    nothing = Content(encoded=np.zeros(9, np.uint8), position_U=np.zeros(1, np.int32))
    monkeypatch.setattr(DALI_CPU, "content", lambda *_: nothing)
    monkeypatch.setattr(dali_runner, "example", lambda where: nothing)
    videos = build_loader(config, "val")
    with pytest.raises(DataError, match=r"^decoding by dali_cpu on cpu failed: Failed to create video decoder"):
        for _ in videos.epoch(0):
            pass
    assert videos.unreadable == []
    videos.close()


def test_out_of_memory_is_an_error_with_settings_that_need_less(tmp_path):
    config = with_section(make_config(write_set(tmp_path, "libvpx-vp9")), "data", decoder="dali_cpu")
    videos = build_loader(config, "val")
    memory = RuntimeError("encountered:\n\nCUDA runtime API error cudaErrorMemoryAllocation (2):\nout of memory")
    next(videos.epoch(0))
    with pytest.raises(DataError, match=r"on cpu failed: .*out of memory.*decodes separately; .*smaller train.batch"):
        videos._runner._replace_undecodable_video(memory)
    assert_same(list(map(arrays, videos.epoch(0))), read(config, "val"))  # decoded by the pipelines that replace it
    videos.close()


@pytest.mark.parametrize("decoder", ["pyav", "dali_cpu"])
@pytest.mark.parametrize("kind", [TypeError, AttributeError, NameError, KeyError, ValueError, RuntimeError])
def test_a_bug_in_the_feeder_is_raised_and_marks_no_video(tmp_path, monkeypatch, decoder, kind):
    """DALI's own errors are RuntimeErrors, too."""
    config = with_section(make_config(write_set(tmp_path, "libvpx-vp9")), "data", decoder=decoder)
    videos = build_loader(config, "val")
    error = kind("ours")
    monkeypatch.setattr("dali_pipes.feed.feeder.prepare", Mock(side_effect=error))
    with pytest.raises(kind, match="ours") as caught:
        list(videos.epoch(0))
    assert caught.value is error
    assert videos.unreadable == []
    videos.close()


def test_running_out_of_memory_marks_no_video(tmp_path, monkeypatch):
    config = with_section(make_config(write_set(tmp_path, "libvpx-vp9")), "data", decoder="dali_cpu")
    damage_packets(tmp_path / "6.mp4")
    videos = build_loader(config, "val")
    build = GraphRunner._build

    def build_or_fail(self, source, batch):
        if batch == 1:
            raise RuntimeError("Can't allocate 400 bytes")
        return build(self, source, batch)

    monkeypatch.setattr(GraphRunner, "_build", build_or_fail)
    with pytest.raises(DataError, match=r"Can't allocate 400 bytes; if memory is short, use a smaller"):
        list(videos.epoch(0))
    assert videos.unreadable == []
    videos.close()
