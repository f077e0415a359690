"""Records of predictions in files and on the screen."""

import io
import json
import os
import sys
from types import SimpleNamespace

import pytest

from configs import cli, progress
from dali_pipes.scan.probe import probe
from dali_pipes.video.orientation import TRANSPOSED, UPSIDE_DOWN
from engine import exits, logs
from engine.outputs import Outputs
from tests.support.videos import write_video
from tools.prediction import answer, output

ANSWER = {"path": "a.mp4", "top": [{"label": 0, "name": "jump", "probability": 1.0}]}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def written(monkeypatch):
    """Return a function that writes a record while a bar is on the terminal, and returns the two streams."""

    def write(stdout, stderr):
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stdout", stdout)
        logs.start_logging(stderr)
        with progress.bars() as bars, output.writer(None, None, Outputs()) as write:
            bars.add_task("predicting", total=2)
            bars.refresh()
            write(ANSWER)
        return stdout.getvalue(), stderr.getvalue()

    return write


def test_the_progress_bar_is_erased_before_a_record_is_printed(written):
    """The bar is drawn again below the record."""
    terminal, shown = written(Terminal(), Terminal())
    assert terminal == "" and "jump" in shown
    before = shown[: shown.index("a.mp4")]
    assert before[before.rindex("predicting") :].rpartition("\x1b[2K")[1]


def test_records_redirected_to_a_file_do_not_go_to_the_terminal(written):
    file, terminal = written(io.StringIO(), Terminal())
    assert "jump" in file and "jump" not in terminal


def test_a_closed_pipe_of_records_ends_the_program_like_any_output(monkeypatch):
    """rich would exit with 1."""
    theirs, ours = os.pipe()
    os.close(theirs)
    monkeypatch.setattr(sys, "stdout", os.fdopen(ours, "w", buffering=1))
    with output.writer(None, None, Outputs()) as write, pytest.raises(BrokenPipeError):
        write(ANSWER)
    assert exits.silence_if_unread(sys.stdout)


@pytest.mark.parametrize("flag", ["json", "csv"])
def test_only_records_are_on_the_standard_output_if_they_are_asked_for_there(capfd, flag):
    files = [cli.text_output("-"), None] if flag == "json" else [None, cli.text_output("-")]
    with output.writer(*files, Outputs()) as write:
        write(ANSWER)
        write({"path": "b.mp4", "error": "is empty"})
    printed, notes = capfd.readouterr()
    assert notes == "b.mp4: is empty\n"
    lines = printed.splitlines()
    if flag == "json":
        assert [json.loads(line)["path"] for line in lines] == ["a.mp4", "b.mp4"]
    else:
        assert [line.split(",")[0] for line in lines] == ["path", "a.mp4", "b.mp4"]


@pytest.mark.parametrize(("span", "shown"), [((0.5, 1), "50 frames, 0.5 s to 1 s"), ((0, 2), "50 frames")])
def test_a_record_of_a_part_shows_its_times(span, shown, capsys):
    video = {"width": 64, "height": 48, "frames": 50, "fps": 25.0}
    with output.writer(None, None, Outputs()) as write:
        write({**ANSWER, "start": span[0], "end": span[1], "video": video})
    assert capsys.readouterr().out.splitlines()[0].strip() == f"a.mp4  64x48, {shown}"


@pytest.mark.parametrize(("turn", "size"), [(0, (64, 48)), (UPSIDE_DOWN, (64, 48)), (TRANSPOSED, (48, 64))])
def test_the_size_of_a_video_is_that_of_its_upright_picture(tmp_path, turn, size):
    video = probe(str(write_video(tmp_path / "a.mp4", "mpeg4", 4, orientation=turn, size=(48, 64))))
    config = SimpleNamespace(eval=SimpleNamespace(short_side=56), eval_size=48)
    found = answer._about(SimpleNamespace(info=SimpleNamespace(config=config, sha256="")), video, {}, 0.0)["video"]
    assert (found["width"], found["height"]) == size
