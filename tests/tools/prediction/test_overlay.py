"""Labelled videos show every picture once, at its time and upright, with the caption of that time."""

from fractions import Fraction

import av
import numpy as np
import pytest

from configs import ConfigError
from dali_pipes import DataError
from dali_pipes.scan.probe import probe
from dali_pipes.video.times import frame_times
from engine.output_record import RECORD
from tests.support.videos import decode_whole, number_in, picture, write_video
from tools.prediction.overlay import Caption, LabelledVideos, write

TICKS = np.cumsum([0, 1, 5, 1, 1, 9, 2, 2, 3, 30, 1, 1])  # hundredths of a second


def uneven_video(path, height=96, width=160):
    """Write a video with changing intervals between its pictures."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30, options={"preset": "veryfast", "bf": "2", "crf": "10"})
        stream.height, stream.width, stream.codec_context.time_base = height, width, Fraction(1, 100)
        for number, tick in enumerate(TICKS.tolist()):
            frame = av.VideoFrame.from_ndarray(picture(number, height, width), format="rgb24")
            frame.pts, frame.time_base = tick + 300, Fraction(1, 100)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return probe(str(path))


def test_every_frame_is_written_once_with_its_time_and_caption(tmp_path):
    video = uneven_video(tmp_path / "a.mkv")
    write(video, tmp_path / "out.mp4", [Caption(0, "first"), Caption(TICKS[5] / 100, "something else")])
    labelled, plain = decode_whole(tmp_path / "out.mp4"), decode_whole(tmp_path / "a.mkv")
    assert [number_in(image_HWC) for image_HWC in labelled] == list(range(len(TICKS)))
    np.testing.assert_allclose(frame_times(probe(str(tmp_path / "out.mp4"))), TICKS / 100, atol=1e-3)
    changed = [np.abs(a.astype(int) - b) for a, b in zip(labelled, plain, strict=True)]
    assert max(image_HWC[:70].mean() for image_HWC in changed) < 3
    widths = [int((image_HWC[-8:].mean((0, 2)) > 20).nonzero()[0].max()) for image_HWC in changed]
    assert max(widths[:5]) < 40 < min(widths[5:])


def test_a_turned_video_is_upright(shared, tmp_path):
    source = shared / "data" / "nasty" / "torchcodec__nasa_13013_rotated.mp4"
    write(probe(str(source)), tmp_path / "out.mp4", [Caption(0, "x")])
    with av.open(str(source)) as container:
        frame = next(container.decode(video=0))
        seen = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
    shown = decode_whole(tmp_path / "out.mp4")[0]
    assert shown.shape == seen.shape == (480, 270, 3)
    assert np.abs(shown[:400].astype(int) - seen[:400]).mean() < 8


def test_odd_sides_grow_by_one_and_the_longest_words_fit(tmp_path):
    write_video(tmp_path / "odd.avi", "ffv1", 3, size=(49, 97))
    write(probe(str(tmp_path / "odd.avi")), tmp_path / "out.mp4", [Caption(0, "a name that is far too long " * 5)])
    assert decode_whole(tmp_path / "out.mp4")[0].shape == (50, 98, 3)


def test_a_damaged_video_leaves_no_output_file(tmp_path):
    path = write_video(tmp_path / "a.mp4", "libx264", 30, gop=30)
    video = probe(str(path))
    content = bytearray(path.read_bytes())
    middle = int(video.offsets[12])
    content[middle + 8 : middle + 60] = bytes(52)
    path.write_bytes(content)
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="damaged"):
        write(video, tmp_path / "out" / "a.mp4", [Caption(0, "x")])
    assert list((tmp_path / "out").iterdir()) == []


def test_videos_of_one_name_do_not_overwrite_each_other(tmp_path):
    answer = {"top": [{"name": "[a] name", "probability": 0.5}]}
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_video(tmp_path / folder / "a.mp4", "mpeg4", 2)
    labelled = LabelledVideos(tmp_path / "one")
    found = [labelled.write(probe(str(tmp_path / folder / "a.mp4")), answer) for folder in ("one", "two")]
    assert found == [{"labelled": f"{tmp_path}/one/{name}.labelled.mp4"} for name in ("a", "a-2")]
    (tmp_path / "one" / "a-2.labelled.mp4").write_text("mine")
    again = LabelledVideos(tmp_path / "one")
    found = [again.write(probe(str(tmp_path / folder / "a.mp4")), answer) for folder in ("one", "two")]
    assert found == [{"labelled": f"{tmp_path}/one/{name}.labelled.mp4"} for name in ("a", "a-3")]
    names = sorted(path.name for path in (tmp_path / "one").iterdir() if path.name != RECORD)
    assert names == [*(f"{name}.labelled.mp4" for name in ("a-2", "a-3", "a")), "a.mp4"]
    assert (tmp_path / "one" / "a-2.labelled.mp4").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_an_error_of_the_user(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"--save-video: .*file/below: cannot be made"):
        LabelledVideos(tmp_path / "file" / "below")
