"""`prepare stats`: the predicted decoding work is the work of real cuts."""

import argparse

import numpy as np
import pytest

from dali_pipes.cut.cutter import cut
from dali_pipes.scan.probe import probe
from tests.support.videos import write_video
from tools import prepare
from tools.data.arguments import datasets
from tools.data.conversion.reencode import Settings
from tools.data.conversion.reencode import write_video as transcode
from tools.data.stats import after_transcoding, decoded_per_used, quantiles


@pytest.mark.parametrize("gop", [16, 8, 1])
def test_the_predicted_decoding_work_after_transcoding_is_the_real_one(tmp_path, gop):
    source = probe(str(write_video(tmp_path / "source.mp4", "libx264", 75, gop=75, b_frames=2)))
    transcode(source, str(tmp_path / "new.mp4"), vars(Settings(gop=gop)))
    new = probe(str(tmp_path / "new.mp4"))
    assert after_transcoding(75, gop, clip_frames=8) == pytest.approx(decoded_per_used(new, clip_frames=8))


def test_one_frame_of_intra_video_costs_one_frame(tmp_path):
    video = probe(str(write_video(tmp_path / "intra.mp4", "libx264", 40, gop=1)))
    assert decoded_per_used(video, clip_frames=8) == 1


def test_decoding_work_per_frame_is_below_that_of_the_last_frame(tmp_path):
    video = probe(str(write_video(tmp_path / "long.mp4", "libx264", 64, gop=64)))
    last = cut(video, np.array([63])).packets
    assert 1 < decoded_per_used(video, clip_frames=1) < last


def test_quantiles_are_values_that_occur_without_an_exponent():
    """The values are the frames of a few short videos and of one of an hour."""
    assert quantiles([1, 3, *[30] * 10, 108_000]) == "30 (1 to 108,000)"


def test_stats_describe_a_set(tmp_path, shared, capsys):
    write_video(tmp_path / "a.mp4", "libx264", 20, gop=10)
    write_video(tmp_path / "b.mp4", "mpeg4", 40, gop=10)
    (tmp_path / "c.mp4").write_text("no video")
    turned = shared / "data" / "nasty" / "torchcodec__nasa_13013_rotated.mp4"
    (tmp_path / "all.list").write_text(f"a.mp4 0\nb.mp4 2\nc.mp4 2\n{turned} 2\n")
    assert prepare.main(["stats", str(tmp_path / "all.list")]) == 0
    said = capsys.readouterr().out
    assert "4 rows, 1 of their files unreadable" in said
    for subject, found in {
        "classes": "2, with 1 (1 to 2) videos; labels without a video: 1",
        "frames": "20 (17 to 40)",
        "codecs": "h264 67 %, mpeg4 33 %",
        "pictures": "96x48 67 %, 480x270 33 %",
        "on a GPU": "nvdec 2 · cpu 1: 1 MPEG4",
        "NVDEC decoders": "2, one for each codec and coded size (2 sizes are shown)",
        "rotated": "1 of 3 sampled",
        "other colours": "1 of 3 sampled",
    }.items():
        line = next(line for line in said.splitlines() if line.strip().startswith(subject))
        assert found in line


def test_a_side_that_training_holds_out_is_no_list_to_work_on():
    arguments = argparse.Namespace(config="finetune.yaml", words=["data.train=my_videos"])
    assert [source for source, _ in datasets(arguments)] == ["my_videos"]
