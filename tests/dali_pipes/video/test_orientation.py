"""Display matrices: read from files, followed by every decoder, and by the boxes of every view."""

from dataclasses import asdict

import numpy as np
import pytest

from dali_pipes.scan.probe import probe
from dali_pipes.video.orientation import MIRRORED, TRANSPOSED, UPRIGHT, UPSIDE_DOWN, stored_boxes, turned
from tests.support.loading import STD, make_config, read, with_section
from tests.support.videos import with_matrix, write_video
from tools.data.reencode import Settings
from tools.data.reencode import write_video as transcode

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
    """A list of videos in all orientations, and one of the same scenes that are stored upright."""
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
