"""Decoders mixed in one batch: each sample equals that of its decoder alone, bit for bit, in the order of the list."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from nvidia.dali import fn, pipeline_def, types
from PIL import Image

from dali_pipes import Shard
from dali_pipes.feed import choice as choices
from dali_pipes.feed.choice import Choice, Share
from dali_pipes.feed.dali_runner import GraphRunner
from dali_pipes.feed.decoders import DALI_CPU, JPEG, NVDEC, thread_decoder
from dali_pipes.scan.build import open_catalog
from dali_pipes.video.frame_folders import read_pictures
from dali_pipes.views.plans import EvalPlan
from tests.support.loading import build_loader, make_config, with_section, write_set
from tests.support.videos import damage_packets, picture, with_matrix, write_video

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
FRAMES = 12
KINDS: dict[str, tuple[str, dict]] = {  # file -> encoder, and settings of `write_video`
    "h264.mp4": ("libx264", {"gop": 4, "b_frames": 2}),
    "hevc.mp4": ("libx265", {"gop": 4}),
    "vp9.mp4": ("libvpx-vp9", {"gop": 4}),
    "vp9.webm": ("libvpx-vp9", {"gop": 6, "size": (64, 80)}),
    "mjpeg.avi": ("mjpeg", {}),
    "ten_bit.mp4": ("libx264", {"gop": 4, "pixel_format": "yuv420p10le"}),
    "odd.mp4": ("libvpx-vp9", {"gop": 4, "size": (51, 97)}),
    "interlaced.mp4": ("libx264", {"gop": 4, "options": {"x264-params": "interlaced=1"}}),
    "rotated.mp4": ("libvpx-vp9", {"gop": 4}),
    "mpeg4.avi": ("mpeg4", {"gop": 4}),
}
FOLDER = "folder"  # a folder of JPEG pictures
SPOILED, GONE = "spoiled.mp4", "gone.mp4"  # a packet that no decoder reads; a file that is deleted after the scan


def write_mixed_set(folder: Path) -> str:
    """Write a video of each kind, and two more that are made unreadable after the scan; return the list."""
    for name, (codec, settings) in KINDS.items():
        write_video(folder / name, codec, FRAMES, **settings)
    with_matrix(folder / "rotated.mp4", 0, 1, -1, 0)
    for name in (SPOILED, GONE):
        write_video(folder / name, "libvpx-vp9", FRAMES, gop=4)
    (folder / FOLDER).mkdir()
    for number in range(FRAMES):
        Image.fromarray(picture(number)).save(folder / FOLDER / f"img_{number + 1:05}.jpg")
    lines = [f"{name} {number % 3}" for number, name in enumerate([*KINDS, FOLDER, SPOILED, GONE])]
    (folder / "all.list").write_text("\n".join(lines))
    return str(folder / "all.list")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    config = make_config(write_mixed_set(folder))
    (folder / GONE).unlink()
    damage_packets(folder / SPOILED)
    return with_section(config, "data", decoder="dali_cpu")


@pytest.fixture(scope="module")
def catalog(config):
    return open_catalog(config.data.val, config.data)


def clips_of(config, catalog, batch, decoders=None):
    """Return the clips by row, made in batches of `batch`; `decoders` replaces the decoder of some rows."""
    config = with_section(config, "eval", batch=batch)
    plan, choice = EvalPlan(config, catalog, Shard()), Choice(catalog, config.data, CPU)
    chosen = choice.of_batch
    choice.of_batch = lambda number, row_B: [
        (decoders or {}).get(row, decoder) for row, decoder in zip(row_B.tolist(), chosen(number, row_B), strict=True)
    ]
    runner = GraphRunner(plan, choice, CPU, 2, torch.float32)
    runner.begin(plan.places(0, 0))
    clips = {}
    while found := runner.next():
        prepared, clips_BVTHWC = found
        drawn = prepared.views.row_B.tolist()
        assert [row for row in prepared.row_B.tolist() if row >= 0] == [r for r in drawn if r in prepared.row_B]
        clips |= {row: clip.numpy().copy() for row, clip in zip(prepared.row_B.tolist(), clips_BVTHWC, strict=True)}
    runner.close()
    clips.pop(-1, None)
    assert sorted(catalog.listed_path(row) for row in runner.unreadable) == [GONE, SPOILED]
    return clips


def test_every_mixture_of_decoders_gives_each_sample_what_its_decoder_gives_alone(config, catalog):
    rows = range(len(KINDS) + 1)  # and a folder of pictures
    threads = {row: thread_decoder(catalog.video(row)) for row in range(len(catalog))}
    either = [row for row in rows if not DALI_CPU.refusal(catalog.video(row))]
    assert len(either) == 5
    alone = {
        "threads": clips_of(config, catalog, 1, threads),
        "graph": clips_of(config, catalog, 1, dict.fromkeys(either, DALI_CPU)),
    }
    for by_graph in itertools.product([False, True], repeat=len(either)):
        decoders = threads | {row: DALI_CPU for row, graph in zip(either, by_graph, strict=True) if graph}
        mixed = clips_of(config, catalog, len(catalog), decoders)
        assert sorted(mixed) == list(rows)
        for row in rows:
            np.testing.assert_array_equal(mixed[row], alone["graph" if decoders[row] is DALI_CPU else "threads"][row])


def test_decoders_are_counted_with_the_reasons_why_not_the_fast_one(config, catalog):
    choice = Choice(catalog, config.data, CPU)
    assert choice.in_graph is DALI_CPU
    assert choice.note == f"{catalog.source}: dali_cpu 7 · cpu 6: 3 H264, 1 HEVC, 1 frame folders, 1 MPEG4"


def test_one_video_that_nvdec_refuses_leaves_the_other_99_to_nvdec(tmp_path, monkeypatch):
    monkeypatch.setattr("dali_pipes.feed.dali_errors.why_nvdec_fails", lambda device: "")
    write_video(tmp_path / "usual.mp4", "libx264", 6, gop=4)
    names = [f"{number}.mp4" for number in range(100)]
    for name in names[:-1]:
        os.link(tmp_path / "usual.mp4", tmp_path / name)
    write_video(tmp_path / names[-1], "libx264", 6, gop=4, size=(50, 98), pixel_format="yuv444p")
    (tmp_path / "all.list").write_text("\n".join(f"{name} 0" for name in names))
    config = with_section(make_config(str(tmp_path / "all.list")), "data", decoder="auto")
    catalog = open_catalog(config.data.train, config.data)
    choice = Choice(catalog, config.data, GPU)
    assert [choice.of(row) is NVDEC for row in range(100)] == [True] * 99 + [False]
    assert choice.note == f"{catalog.source}: nvdec 99 · cpu 1: 1 4:4:4"


def test_videos_of_one_coded_size_share_a_decoder(tmp_path):
    sizes = [(62, 98), (64, 98), (64, 112), (62, 112), (66, 112)]  # the last is coded in 80x112 pixels
    for number, size in enumerate(sizes):
        write_video(tmp_path / f"{number}.mp4", "libx264", 6, gop=4, size=size[::-1])
    (tmp_path / "all.list").write_text("\n".join(f"{number}.mp4 0" for number in range(len(sizes))))
    config = make_config(str(tmp_path / "all.list"))
    catalog = open_catalog(config.data.train, config.data)
    assert choices.nvdec_decoders(catalog) == (2, 5)
    assert choices.on_a_gpu(catalog) == "nvdec 5"


@pytest.mark.parametrize("bad", [0, 37, 63])
def test_one_bad_file_in_64_builds_at_most_8_pipelines(tmp_path, monkeypatch, bad):
    usual = write_video(tmp_path / "usual.mp4", "libvpx-vp9", 4, gop=4).read_bytes()
    for row in range(64):
        (tmp_path / f"{row}.mp4").write_bytes(usual)
    (tmp_path / "all.list").write_text("\n".join(f"{row}.mp4 0" for row in range(64)))
    config = with_section(make_config(str(tmp_path / "all.list")), "data", decoder="dali_cpu")
    damage_packets(tmp_path / f"{bad}.mp4")
    build, built = GraphRunner._build, []
    monkeypatch.setattr(GraphRunner, "_build", lambda self, *rest: built.append(1) or build(self, *rest))
    loader = build_loader(with_section(config, "eval", batch=64), "val")
    built.clear()
    (batch,) = loader.epoch(0)
    loader.close()
    assert batch.index_B.tolist() == [-1 if row == bad else row for row in range(64)]
    assert [video.row for video in loader.unreadable] == [bad]
    assert len(built) <= 8


@pytest.mark.parametrize("part", [0.0, 0.3, 0.5, 1.0])
def test_a_fixed_cpu_share_decodes_the_same_videos_in_every_run(part):
    share = Share(part)
    taken = [share.is_for_threads(number) for number in range(1000)]
    assert sum(taken) == pytest.approx(1000 * part, abs=1)
    share.observe(9.0, 0.0)
    assert [share.is_for_threads(number) for number in range(1000)] == taken


@pytest.mark.parametrize(("waits", "moves"), [((1.0, 0.1), -1), ((0.1, 1.0), 1), ((0.0, 0.0), 0)])
def test_the_automatic_cpu_share_moves_load_away_from_the_slower_side(waits, moves):
    share = Share("auto")
    for _ in range(Share.BATCHES):
        share.observe(*waits)
    assert share.part == pytest.approx(Share.START + moves * Share.STEP)


def test_hybrid_shares_every_batch_and_gives_the_views_of_a_single_decoder(tmp_path):
    config = make_config(write_set(tmp_path, "libvpx-vp9"))
    config = with_section(config, "data", decoder="hybrid", cpu_share=0.25)
    loader = build_loader(config, "train")
    number = 0
    for step in range(len(loader)):
        row_B = loader.plan.draw(0, step).row_B
        decoders = loader.choice.of_batch(number, row_B)
        assert [decoder.name for decoder in decoders].count("pyav") == 1
        number += len(row_B)
    loader.close()


def test_pictures_of_a_folder_are_those_of_dalis_image_decoder(catalog):
    video = next(video for row in catalog.usable if (video := catalog.video(row)).access == "frames")
    frames_U = np.array([0, 5, 11])

    @pipeline_def(batch_size=3, num_threads=1, device_id=None)
    def graph():
        files = fn.external_source(lambda: list(read_pictures(video, frames_U)), batch=True, dtype=types.UINT8, ndim=1)
        return fn.decoders.image(files, adjust_orientation=False)

    (expected,) = graph().run()
    np.testing.assert_array_equal(JPEG.content(video, frames_U, None, None).frames, expected.as_array())
