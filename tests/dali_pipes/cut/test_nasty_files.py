"""Every awkward file: each frame of a full decode comes out of a cut, every pixel, or it is refused with a reason.

The sweep takes many minutes; a sample of telling files runs by default. Both skip where the files are not.
"""

import hashlib
from collections import Counter

import av
import numpy as np
import pytest

from dali_pipes.cut.cutter import cut
from dali_pipes.cut.decode import decode_frames
from dali_pipes.errors import DataError
from dali_pipes.scan.probe import probe
from dali_pipes.video.packet_table import Video
from dali_pipes.video.pyav import LENIENT_TAGS

SHORT = 64  # frames; of shorter files each frame is tried alone, of longer ones random clips
CLIP = 8

TELLING = {  # file: how it is cut, or why it is refused
    "accvlab__moving_shape_open_gop_h265.mp4": "ranged",
    "torchcodec__discard_first_keyframe.mp4": "ranged",
    "torchcodec__test_non_zero_start.mp4": "ranged",
    "decord__unordered.mov": "ranged",
    "derived__vfr.mkv": "ranged",
    "derived__three_frames.avi": "ranged",
    "torchcodec__testsrc2_vp9.webm": "ranged",
    "torchcodec__sine_stereo_mp2.mpg": "demux",
    "torchvision__TrumanShow_wave_f_nm_np1_fr_med_26.avi": "whole",
    "derived__näme with spaces, comma & ünïcode 手.mp4": "ranged",
    "torchcodec__testsrc2_444_10bit_hevc.mp4": "ranged",
    "derived__audio_only.mp4": "holds no video, only audio",
    "derived__empty_0byte.mp4": "is empty",
    "derived__faststart_truncated_60pct.mp4": "is cut short",
    "derived__no_moov_mdat_only.mp4": "has no index",
    "derived__random_bytes.mp4": "is damaged, or not a video",
    "derived__zero_frames_video_track.mp4": "holds no pictures",
    "vpf__test_res_change.h264": "its pictures change size",
    "decord__corrupted.mp4": "pictures are damaged",
}


@pytest.fixture(scope="module")
def nasty(shared):
    return shared / "data" / "nasty"


def digest(picture_HWC: np.ndarray) -> bytes:
    return hashlib.sha1(picture_HWC.tobytes()).digest()


def full_decode(path: str) -> list[bytes]:
    """A digest of each frame that PyAV gives when asked for all."""
    with av.open(path, **LENIENT_TAGS) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return [digest(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def wrong_frames(video: Video, draws: int) -> list[int]:
    """The frames whose pixels differ from the full decode's."""
    whole = full_decode(video.path)
    assert video.frames == len(whole)
    rng = np.random.default_rng(0)
    if video.frames <= SHORT:
        clips = [np.array([frame]) for frame in range(video.frames)]
    else:
        clips = [rng.integers(0, video.frames, CLIP) for _ in range(draws)]
    return [
        int(frame)
        for frames in clips
        for frame, pixels in zip(frames, decode_frames(cut(video, frames), video.path), strict=True)
        if digest(pixels) != whole[frame]
    ]


@pytest.mark.parametrize("name", [name for name, outcome in TELLING.items() if outcome in ("ranged", "demux", "whole")])
def test_a_telling_file_gives_the_frames_of_a_full_decode(nasty, name):
    video = probe(str(nasty / name))
    assert video.access == TELLING[name]
    assert wrong_frames(video, draws=4) == []


@pytest.mark.parametrize("name", [name for name, outcome in TELLING.items() if " " in outcome])
def test_a_telling_file_is_refused_with_a_reason(nasty, name):
    with pytest.raises(DataError, match=TELLING[name]) as refusal:
        probe(str(nasty / name))
    assert str(refusal.value).startswith(f"{nasty / name}: ")


@pytest.mark.slow
@pytest.mark.parametrize("check", ["demux", "full"])
def test_every_file_is_identical_or_refused(nasty, check):
    counts = Counter(identical=0, refused=0, wrong=0)
    for path in sorted(path for path in nasty.iterdir() if path.suffix not in (".md", ".txt")):
        try:
            video = probe(str(path), check)
        except DataError as refusal:
            counts["refused"] += 1
            print(refusal)
            continue
        counts["wrong" if wrong_frames(video, draws=200) else "identical"] += 1
    print(f"check={check}: {dict(counts)}")
    assert counts == {"identical": 88, "refused": 15, "wrong": 0}
