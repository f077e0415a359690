"""Every nasty file: each frame of a full decode comes out of a cut, bit for bit, or the file is refused with a reason.

The sweep takes many minutes; a sample of files runs by default. Both are skipped without the files.
"""

from collections import Counter

import pytest

from dali_pipes.errors import DataError
from dali_pipes.scan.probe import probe
from tests.support.plain import compare

TELLING = {  # file: its access, or the reason for the refusal
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
    "derived__audio_only.mp4": "contains no video, only audio",
    "derived__empty_0byte.mp4": "is empty",
    "derived__faststart_truncated_60pct.mp4": "is cut short",
    "derived__no_moov_mdat_only.mp4": "has no index",
    "derived__random_bytes.mp4": "is damaged, or not a video",
    "derived__zero_frames_video_track.mp4": "contains no pictures",
    "vpf__test_res_change.h264": "its pictures change size",
    "decord__corrupted.mp4": "pictures are damaged",
}


@pytest.fixture(scope="module")
def nasty(shared):
    return shared / "data" / "nasty"


@pytest.mark.parametrize("name", [name for name, outcome in TELLING.items() if outcome in ("ranged", "demux", "whole")])
def test_a_nasty_file_gives_the_frames_of_a_full_decode(nasty, name):
    assert compare(str(nasty / name), "demux", draws=4) == ("identical", TELLING[name])


@pytest.mark.parametrize("name", [name for name, outcome in TELLING.items() if " " in outcome])
def test_an_unusable_nasty_file_is_refused_with_a_reason(nasty, name):
    with pytest.raises(DataError, match=TELLING[name]) as refusal:
        probe(str(nasty / name))
    assert str(refusal.value).startswith(f"{nasty / name}: ")


@pytest.mark.slow
@pytest.mark.parametrize("check", ["demux", "full"])
def test_every_file_is_identical_or_refused(nasty, check):
    counts = Counter(identical=0, refused=0)
    for path in sorted(path for path in nasty.iterdir() if path.suffix not in (".md", ".txt")):
        found = compare(str(path), check, draws=200)
        counts[found.outcome] += 1
        if found.outcome != "identical":
            print(f"{path.name}: {found.outcome}, {found.detail}")
    print(f"check={check}: {dict(counts)}")
    assert counts == {"identical": 88, "refused": 15}
