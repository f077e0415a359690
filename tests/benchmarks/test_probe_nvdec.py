"""The probe of NVDEC: its tools against PyAV and arithmetic, and a rehearsal with DALI's CPU decoder."""

import ctypes
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from benchmarks.harness.numbered_videos import VideoSpec, number_in
from benchmarks.harness.record import gpu_query
from benchmarks.nvdec import frames, nvcuvid, remux, streams
from benchmarks.nvdec.scale import CPU, GPU
from benchmarks.nvdec.speed import groups
from dali_pipes.feed import nvdec
from tests.support.paths import ROOT

REORDERED = VideoSpec("hevc", interval=8, b_frames=2, width=192, height=160, frames=40)  # open groups, too


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("videos")


def shown_numbers(data: bytes) -> list[int]:
    """Return the numbers on the pictures of a file, in the order in which PyAV shows them."""
    with av.open(io.BytesIO(data)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return [number_in(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


@pytest.mark.parametrize(
    ("codec", "kind"),
    [(codec, "plain") for codec in ("h264", "hevc", "vp9", "mjpeg", "mpeg4")]
    + [("h264", "interlaced"), ("h264", "10bit"), ("hevc", "10bit"), ("vp9", "hidden")],
)
def test_every_encoded_picture_shows_its_number(folder, codec, kind):
    spec = VideoSpec(codec, interval=8, width=160, height=96, frames=20, kind=kind)
    streams.scanned(folder, spec)
    assert shown_numbers(spec.path(folder).read_bytes()) == list(range(20))


def test_hidden_references_share_packets_with_pictures_that_are_shown(folder):
    video = streams.scanned(folder, VideoSpec("vp9", interval=8, width=160, height=96, frames=20, kind="hidden"))
    with av.open(video.path) as container:
        last_bytes = [bytes(packet)[-1] for packet in container.demux(video=0) if packet.size]
    assert [place for place, byte in enumerate(last_bytes) if byte >> 5 == 6] == video.groups.tolist() == [0, 8, 16]


def test_training_gives_nvdec_all_probed_videos_but_the_awkward_ones(folder):
    given = {
        spec.name: nvdec.refusal(streams.scanned(folder, replace(spec, frames=9))) is None
        for spec in (*GPU.awkward, *(spec for spec in GPU.all_videos if spec.interval == 8))
    }
    assert [name for name, is_given in given.items() if not is_given] == [spec.name for spec in GPU.awkward]


def test_keyframes_and_b_frames_are_where_the_specification_puts_them(folder):
    video = streams.scanned(folder, REORDERED)
    assert np.diff(video.order[video.groups]).tolist() == [8] * 4
    assert video.leading.any()


@pytest.mark.parametrize("form", remux.variants("hevc"))
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_every_way_to_write_a_cut_shows_the_wanted_frames_at_the_same_positions(folder, codec, form):
    spec = VideoSpec(codec, 8, 2, 192, 160, 40)
    video = streams.scanned(folder, spec)
    wanted = streams.clip_frames(video, 4, clip=1)
    cut = streams.cut(video, wanted)
    numbers = shown_numbers(remux.variants(codec)[form](video, cut.data))
    assert [numbers[position] for position in cut.positions] == wanted.tolist()


def test_clips_joined_in_one_stream_show_all_their_frames(folder):
    video = streams.scanned(folder, REORDERED)
    joined = remux.join(video, [streams.clip_frames(video, 4, clip) for clip in range(3)])
    numbers = shown_numbers(joined.data)
    assert [numbers[position] for position in joined.positions] == joined.wanted.tolist()


def test_frames_that_show_another_number_are_found(folder):
    spec = VideoSpec("vp9", interval=8, width=96, height=64, frames=32)
    video = streams.scanned(folder, spec)
    asked = streams.whole(video, np.array([3, 20]))
    (decoded,) = streams.decode([asked], "dali_cpu", "cpu")
    assert streams.wrong_frames([decoded], [np.array([3, 21])]) == [(21, 20)]


@pytest.mark.parametrize(("matrix", "red"), [("bt601", (81, 90, 240)), ("bt709", (63, 102, 240))])
def test_pure_red_is_where_the_standards_put_it(matrix, red):
    planes = [np.full((1, 1, 1), float(value)) for value in red]
    np.testing.assert_allclose(frames._to_rgb(*planes, matrix, "limited")[0, 0, 0], (255, 0, 0), atol=2)


def test_structures_are_laid_out_as_in_nvidias_header():
    sizes = ctypes.sizeof(nvcuvid.Capabilities), ctypes.sizeof(nvcuvid.Creation)
    places = nvcuvid.Capabilities.engines.offset, nvcuvid.Creation.output_format.offset
    assert (sizes, places) == ((88, 176), (25, 88))  # sizeof and offsetof, from a C compiler


@pytest.mark.parametrize(("visible", "asked"), [(None, "0"), ("", "0"), ("3,1", "3"), ("GPU-5a", "GPU-5a")])
def test_readings_are_of_the_gpu_that_is_used(tmp_path, monkeypatch, visible, asked):
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\necho "$3"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_query("utilization.decoder") == f"--id={asked}"


@pytest.mark.parametrize("scale", [GPU, CPU])
def test_no_two_cases_of_a_group_have_the_same_name(scale):
    for group in groups(scale).values():
        assert len({member.name for member in group}) == len(group)


def run_probe(out: Path, device: str, *only: str) -> list[dict]:
    """Run the probe as a command; return the records of its file, which must equal those on stdout."""
    places = ["--out", str(out), "--videos", str(out / "videos")]
    command = [sys.executable, "benchmarks/probe_nvdec.py", "--device", device, *places, "--only", *only]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    written = (out / "probe_nvdec.jsonl").read_text()
    assert output == written
    return [json.loads(line) for line in written.splitlines()]


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory):
    """Run a part of every group of cases on DALI's CPU decoder; return the records by case."""
    usual = CPU.usual.name
    only = ["library/h264-8bit", "awkward/", f"frames/{usual}", f"colours/{usual}", f"speed/interval/dali/{usual}"]
    records = run_probe(tmp_path_factory.mktemp("rehearsal"), "cpu", *only, f"feed/{usual}", "feed/step")
    return {record["case"]: record for record in records}


@pytest.mark.slow
def test_cut_and_whole_files_give_the_same_right_frames(rehearsal):
    cut, whole = (rehearsal[f"frames/{CPU.usual.name}/{form}"] for form in ("cut", "whole"))
    assert cut["wrong"] == whole["wrong"] == 0
    assert (cut["mean_difference"], cut["largest_difference"]) == (
        whole["mean_difference"],
        whole["largest_difference"],
    )


@pytest.mark.slow
def test_awkward_videos_are_decoded_and_the_reason_for_doubt_is_recorded(rehearsal):
    record = rehearsal[f"awkward/{CPU.awkward[0].name}/cut"]
    assert record["wrong"] == 0  # on a CPU, by another decoder
    assert record["refusal"].startswith("is vp9")


@pytest.mark.slow
def test_full_and_limited_range_are_distinguished(rehearsal):
    name = f"colours/{CPU.usual.name}"
    assert rehearsal[name]["nearest"] == "bt601-limited"
    assert rehearsal[f"{name}-full_range"]["nearest"] == "bt601-full"


@pytest.mark.slow
def test_a_cut_decodes_fewer_pictures_than_the_whole_file(rehearsal):
    names = [name for name in rehearsal if name.startswith("speed/")]
    cut, whole = (next(rehearsal[name] for name in names if f"/{form}/" in name) for form in ("cut", "whole"))
    assert cut["decoded_per_frame"] < whole["decoded_per_frame"]
    assert min(cut["clips_per_s_iqr"][0], whole["clips_per_s_iqr"][0]) > 0


@pytest.mark.slow
def test_the_feed_is_judged_against_the_step(rehearsal):
    rates = rehearsal[f"feed/{CPU.usual.name}"]["clips_per_s"]
    assert rates["feed"] == rehearsal[f"feed/{CPU.usual.name}/feed"]["clips_per_s"]
    assert rates["step"] == rehearsal["feed/step"]["clips_per_s"]


@pytest.mark.slow
def test_every_record_contains_its_environment(rehearsal):
    assert all({"commit", "dirty", "packages", "gpu", "driver", "cores"} <= r["env"].keys() for r in rehearsal.values())


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without an NVIDIA GPU")
def test_an_impossible_case_is_recorded_with_its_reason_and_a_command(rehearsal):
    record = rehearsal["library/h264-8bit"]
    assert "libnvcuvid.so.1" in record["error"]
    assert record["reproduce"].endswith("--device cpu --only library/h264-8bit")


@pytest.mark.gpu
def test_nvdec_gives_the_right_frames_of_cut_and_whole_files(tmp_path):
    only = [f"frames/{GPU.usual.name}/", "frames/hevc-i16-b2-352x256/"]
    records = [record for record in run_probe(tmp_path, "gpu", *only) if "/done" not in record["case"]]
    assert [record.get("wrong", record.get("error")) for record in records] == [0] * 2 * len(streams.FORMS)


@pytest.mark.slow
def test_the_demo_recipe_trains_within_the_rehearsal(tmp_path):
    records = {record["case"]: record for record in run_probe(tmp_path, "cpu", "demo/pyav")}
    assert records["demo/pyav"]["evaluated"] == 4 * CPU.demo_scenes[1]
