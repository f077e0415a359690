"""Frame times from the index of a file: equal to those of its packets, or the index is unsettled."""

from fractions import Fraction

import av
import numpy as np
import pytest

from dali_pipes.errors import DataError
from dali_pipes.scan.probe import probe
from dali_pipes.storage.opening import open_source
from dali_pipes.video import container, sample_table, times
from dali_pipes.video.sample_table import Unsettled
from tests.support.files.corpus import Case, cases
from tests.support.videos import picture

SAMPLE = [
    Case("h264", "mp4", "swapped times"),
    Case("h264", "mp4", "repeated time"),
    Case("h264", "mov", "as it is"),
    Case("h264 pyramid", "mp4", "as it is"),
    Case("hevc", "mp4", "as it is"),
    Case("hevc", "mp4", "from inside a group"),
    Case("mjpeg", "mp4", "swapped times"),
]


def by_packets(video, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sample_table, "picture_times", refuse)
        return times.frame_times(video)


def refuse(source):
    raise Unsettled


def compare(case, folder, monkeypatch):
    """Return True if the times of a file's index are those of its packets; None if the scan refuses the file."""
    path = case.write(folder)
    try:
        video = probe(str(path)) if path else None
    except DataError:
        video = None
    return video and np.array_equal(times.frame_times(video), by_packets(video, monkeypatch))


@pytest.mark.parametrize("case", SAMPLE, ids=str)
def test_times_of_the_index_are_those_of_the_packets(case, tmp_path, monkeypatch):
    assert compare(case, tmp_path, monkeypatch) in (None, True)


@pytest.mark.slow
def test_times_of_the_index_are_those_of_the_packets_in_the_whole_corpus(tmp_path, monkeypatch):
    found = {str(case): compare(case, tmp_path, monkeypatch) for case in cases() if case.container in ("mp4", "mov")}
    assert [case for case, same in found.items() if same is False] == []
    assert sum(same is True for same in found.values()) > 300


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_uneven_frame_times_are_read_from_the_index(tmp_path, codec, monkeypatch):
    ticks = np.cumsum([0, 1, 5, 1, 1, 9, 2, 2, 3, 30, 1, 1])
    path = tmp_path / "uneven.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=30, options={"bf": "2", "preset": "veryfast", "x265-params": "log-level=1"})
        stream.width, stream.height, stream.codec_context.time_base = 96, 48, Fraction(1, 100)
        for number, tick in enumerate(ticks.tolist()):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, 100)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    video = probe(str(path))
    assert video.reordered
    monkeypatch.setattr(container, "open_video", None)
    np.testing.assert_allclose(times.frame_times(video), ticks / 100, atol=1e-9)


def test_an_index_with_frames_of_no_duration_is_unsettled(tmp_path, monkeypatch):
    path = Case("h264", "mp4", "as it is").write(tmp_path)
    content = path.read_bytes()
    at = content.index(b"stts")
    path.write_bytes(content[: at + 16] + bytes(4) + content[at + 20 :])  # the length of the first ones
    with open_source(str(path)) as source, pytest.raises(Unsettled):
        sample_table.picture_times(source)


@pytest.mark.parametrize("edit", [lambda box: b"free" + box[4:], lambda box: box[:16] + bytes(4) + box[20:]])
def test_an_index_without_a_time_scale_is_unsettled(tmp_path, edit):
    path = Case("h264", "mp4", "as it is").write(tmp_path)
    before, name, after = path.read_bytes().partition(b"mdhd")
    path.write_bytes(before + edit(name + after))
    with open_source(str(path)) as source, pytest.raises(Unsettled, match="its times have no unit"):
        sample_table.picture_times(source)
