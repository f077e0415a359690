"""Cuts joined into one stream."""

import numpy as np

from benchmarks.joined import joined
from benchmarks.nvdec import streams
from dali_pipes.cut import cutter
from dali_pipes.scan.probe import probe
from tests.support.videos import number_in, write_video


def test_joined_cuts_decode_to_the_frames_of_each_in_turn(tmp_path):
    video = probe(str(write_video(tmp_path / "a.mp4", "libvpx-vp9", 48, gop=8)))
    clips = [np.array(frames) for frames in ([3, 20], [8, 9, 40], [47])]
    (pictures,) = streams.decode([joined(96, 48, cutter.cut_all([video] * 3, clips))], "dali_cpu", "cpu", 1)
    assert [number_in(picture) for picture in pictures] == [3, 20, 8, 9, 40, 47]
