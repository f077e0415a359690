"""tools/predict.py on streams: an address on this machine, a missing camera, an interruption."""

import json
import sys

import numpy as np
import pytest
import torch

from dali_pipes import DataError
from dali_pipes.feed.live import LiveCropper, live_frames
from dali_pipes.scan import build
from dali_pipes.views.windows import whole_windows
from engine.inference import live
from engine.inference.network import open_network
from engine.inference.predict import predict
from engine.inference.stream import predict_stream
from tests.support import tiny
from tests.support.files.site import serving
from tests.support.videos import write_video
from tools.predict import main

FPS = 30  # of write_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a video of two seconds, and a causal network whose logits differ between its frames."""
    folder = tmp_path_factory.mktemp("live")
    write_video(folder / "a.mp4", "libx264", 2 * FPS, gop=6, size=(48, 96))
    config = tiny.config(model={"causal": True}, data={"source": "video", "train": "unknown"})
    tiny.save_network(config, folder / "best.pt")
    return folder


@pytest.fixture
def address(folder):
    with serving(folder) as site:
        yield site.url("a.mp4")


@pytest.fixture
def run(folder, monkeypatch, capfd):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["predict.py", "--weights", str(folder / "best.pt"), *map(str, arguments)])
        code = main()
        return (code, *capfd.readouterr())

    return run


def test_frames_of_an_address_are_predicted_as_those_of_the_file(folder, address, tmp_path):
    network = open_network(str(folder / "best.pt"))
    catalog = build.scan_videos([str(folder / "a.mp4")], tmp_path, "demux")
    wanted = predict_stream(network, network.open_stream(), catalog, 0, every=2, smooth=3)
    found = list(live.predict_frames(network, network.open_stream(), live_frames(address), every=2, smooth=3))
    assert len(found) == len(wanted) == FPS
    assert np.allclose([one.score_K for one in found], [one.score_K for one in wanted], atol=1e-4)
    assert [round(one.end * FPS) for one in found] == [frame.frame for frame in wanted]


def test_a_window_over_a_whole_video_is_predicted_as_the_video(folder, tmp_path):
    network = open_network(str(folder / "best.pt"))
    catalog = build.scan_videos([str(folder / "a.mp4")], tmp_path, "demux")
    ((whole,),) = predict(network, catalog, whole_windows(catalog), {})
    last = (2 * FPS - 1) / FPS
    (found,) = live.predict_windows(network, live_frames(str(folder / "a.mp4")), length=last, stride=last)
    assert np.allclose(found.score_K, whole.score_K, atol=1e-4)
    assert (found.start, found.end) == (0, pytest.approx(last))


@pytest.mark.parametrize("how", ["frames", "windows"])
def test_scores_that_are_not_finite_have_no_class(folder, how):
    network = open_network(str(folder / "best.pt"))
    torch.nn.init.constant_(network.score.fc.bias, torch.nan)
    frames = live_frames(str(folder / "a.mp4"))
    if how == "frames":
        found = live.predict_frames(network, network.open_stream(), frames, every=2, smooth=3)
    else:
        found = live.predict_windows(network, frames, length=1.0, stride=0.5)
    with pytest.raises(FloatingPointError, match="the scores of the network are not finite"):
        next(found)


def test_windows_follow_each_other_at_the_stride(folder):
    network = open_network(str(folder / "best.pt"))
    found = list(live.predict_windows(network, live_frames(str(folder / "a.mp4")), length=1.0, stride=0.5))
    assert [(one.start, one.end) for one in found] == [pytest.approx(span) for span in ((0, 1), (0.5, 1.5))]


def test_crops_are_made_of_upright_pictures_of_any_size():
    cropper = LiveCropper(tiny.CONFIG)
    for shape in ((40, 60, 3), (60, 40, 3), (16, 16, 3)):
        picture = np.full(shape, 255, np.uint8)
        assert cropper.crop(picture).shape == (16, 16, 3)
    clip_BTCHW = cropper.clips_BTCHW([np.zeros((16, 16, 3), np.uint8), cropper.crop(picture)])
    mean, std = np.array(tiny.CONFIG.clip.mean), np.array(tiny.CONFIG.clip.std)
    assert torch.allclose(clip_BTCHW[0, :, :, 0, 0], torch.tensor(np.stack([-mean, 1 - mean]) / std).float(), atol=1e-5)


@pytest.mark.parametrize("how", ["--online", "--sliding"])
def test_a_stream_gets_a_record_with_its_segments(run, address, tmp_path, how):
    arguments = ["--online", "--every", "8"] if how == "--online" else ["--sliding", "1"]
    code, _, said = run(address, *arguments, "--json", tmp_path / "out.jsonl")
    assert code == 0
    (record,) = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert record["path"] == address and record["predictions"] == (8 if how == "--online" else 2)
    assert record["segments"][0]["start"] == 0 and record["segments"][-1]["end"] >= 1.5
    assert f"  {record['segments'][0]['name']}  " in said


@pytest.mark.parametrize(
    "source, answer",
    [
        ("987", "predict.py: /dev/video987: "),
        ("http://127.0.0.1:9/a.mp4", "predict.py: http://127.0.0.1:9/a.mp4: "),
        ("rtsp://127.0.0.1:9/a", "predict.py: rtsp://127.0.0.1:9/a: "),
        ("rtsp://me:pa55@127.0.0.1:9/a?key=pa55", "predict.py: rtsp://***@127.0.0.1:9/a?***: "),
    ],
)
def test_a_source_that_cannot_be_opened_is_named_in_a_line(run, source, answer):
    code, _, said = run(source, "--sliding", "1")
    assert code == 2 and said.splitlines()[-1].startswith(answer) and "pa55" not in said


def test_secrets_of_an_address_are_neither_shown_nor_recorded(run, address, tmp_path):
    files = {flag: tmp_path / f"out.{flag[2:]}" for flag in ("--json", "--csv")}
    secret, shown = (address.replace("://", f"://{user}@") for user in ("me:pa55", "***"))
    code, printed, said = run(secret, "--sliding", "1", *(word for pair in files.items() for word in pair))
    assert code == 0
    for text in (printed, *(file.read_text() for file in files.values())):
        assert shown in text and "pa55" not in text + said


def test_predictions_before_an_interruption_are_kept(run, address, monkeypatch, tmp_path):
    def interrupted(source):
        for seconds, picture in live_frames(source):
            if seconds > 1:
                raise KeyboardInterrupt
            yield seconds, picture

    monkeypatch.setattr("tools.prediction.live.live_frames", interrupted)
    code, _, said = run(address, "--online", "--json", tmp_path / "out.jsonl")
    assert code == 0 and "stopped after 1.0 s" in said
    assert json.loads((tmp_path / "out.jsonl").read_text())["predictions"] == FPS + 1


def test_a_stream_without_frames_is_an_error(run, address, monkeypatch):
    monkeypatch.setattr("tools.prediction.live.live_frames", lambda source: iter(()))
    code, _, said = run(address, "--online")
    assert code == 2 and "ended before there was anything to predict" in said


@pytest.mark.parametrize(
    "arguments, answer",
    [
        (("0",), "0: a camera or a stream needs --online (a causal network) or --sliding SECONDS"),
        (("0", "a.mp4", "--online"), "0: a camera or stream cannot be combined with other sources"),
        (
            ("rtsp://me:pa55@x/y?a=b",),
            "rtsp://***@x/y?***: a camera or a stream needs --online (a causal network) or --sliding SECONDS",
        ),
        (("rtsp://x/y", "--sliding", "2", "--explain", "z"), "--explain: needs a file; record the stream first"),
    ],
)
def test_options_that_a_stream_does_not_support_are_refused(run, capfd, arguments, answer):
    with pytest.raises(SystemExit) as left:
        run(*arguments)
    assert left.value.code == 2 and capfd.readouterr().err == f"predict.py: {answer}\n"


def test_predictions_before_a_stream_breaks_are_kept(run, folder, monkeypatch, tmp_path):
    def broken(source):
        yield from list(live_frames(str(folder / "a.mp4")))[:5]
        raise DataError(source, "cannot be read (Input/output error)")

    monkeypatch.setattr("tools.prediction.live.live_frames", broken)
    code, _, said = run("rtsp://x/y", "--online", "--json", tmp_path / "out.jsonl")
    assert code == 0 and "rtsp://x/y: cannot be read" in said
    assert json.loads((tmp_path / "out.jsonl").read_text())["predictions"] == 5
