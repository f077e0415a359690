"""The comparison with a plain decode: it reports equal, refused and different files."""

from itertools import islice

import pytest

from tests.programs import compare_with_plain
from tests.support import plain
from tests.support.videos import write_video


@pytest.mark.parametrize("orientation", range(8))
def test_a_prediction_gets_the_frames_of_a_plain_decode(tmp_path, orientation):
    path = write_video(tmp_path / "a.mp4", "libx264", 20, gop=4, b_frames=2, orientation=orientation)
    assert compare_with_plain.compare_prediction(path).outcome == "identical"


def test_files_are_compared_at_every_check_and_for_a_prediction(tmp_path, capsys):
    write_video(tmp_path / "a.mp4", "mpeg4", 12)
    (tmp_path / "b.mp4").write_text("no video")
    assert compare_with_plain.main([str(tmp_path), "--check", "ends"]) == 0
    assert capsys.readouterr().out.splitlines()[-4:] == [
        "ends: 1 identical",
        "ends: 1 refused",
        "predict: 1 identical",
        "predict: 1 refused",
    ]


def test_a_frame_that_differs_is_reported(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", "libx264", 20, gop=4)
    frames = plain.plain_frames
    for module in (compare_with_plain, plain):
        monkeypatch.setattr(module, "plain_frames", lambda path: islice(frames(path), 1, None))
    assert compare_with_plain.compare_prediction(path).outcome in ("wrong", "miscounted")
    assert compare_with_plain.main([str(path), "--check", "demux"]) == 1
