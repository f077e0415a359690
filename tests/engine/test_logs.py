"""Log lines on a terminal, in a pipe and in log.txt of a run, and the bar below them."""

import io
import logging
import re

import pytest
import rich

from configs import progress
from engine import activity, logs

engine_logger = logging.getLogger("engine.train.fit")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def test_a_pipe_gets_plain_lines_with_a_time_stamp():
    stream = io.StringIO()
    logs.start_logging(stream)
    engine_logger.warning("step 3 [not markup]")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d WARNING step 3 \[not markup\]\n", stream.getvalue())


def test_a_terminal_gets_lines_above_a_bar(terminal):
    logs.start_logging(terminal)
    with logs.Bar() as bar:
        bar.update(1, 2, "ep 1/1", "2m10 left")
        engine_logger.info("a line [not markup]")
    assert "a line [not markup]" in terminal.getvalue() and "ep 1/1" in terminal.getvalue()
    assert "2m10 left" in terminal.getvalue()


def test_a_terminal_without_cursor_control_gets_lines_without_a_bar(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    logs.start_logging(terminal)
    with logs.Bar() as bar:
        bar.update(1, 2, "ep 1/1", "2m10 left")
        engine_logger.info("a line")
    assert list(progress.with_progress(range(3), 3, "scanning")) == [0, 1, 2]
    (line,) = terminal.getvalue().splitlines()
    assert "a line" in line


def test_other_ranks_log_only_errors(terminal, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    stream = io.StringIO()
    logs.start_logging(stream)
    engine_logger.info("a line")
    engine_logger.error("lost a file")
    assert stream.getvalue().endswith(" ERROR lost a file\n") and stream.getvalue().count("\n") == 1
    logs.start_logging(terminal)
    assert list(progress.with_progress(range(3), 3, "scanning")) == [0, 1, 2]
    with logs.Bar() as bar:
        bar.update(1, 2, "ep 1/1", "2m10 left")
    assert terminal.getvalue() == ""


def test_starting_again_replaces_the_stream():
    first, second = io.StringIO(), io.StringIO()
    logs.start_logging(first)
    logs.start_logging(second)
    engine_logger.info("a line")
    assert first.getvalue() == "" and second.getvalue().count("a line") == 1


def test_lines_of_other_libraries_appear_from_warnings_on(caplog):
    caplog.set_level(logging.WARNING)
    stream = io.StringIO()
    logs.start_logging(stream)
    logging.getLogger("filelock").info("chatter")
    logging.getLogger("filelock").warning("look here")
    engine_logger.info("a line")
    assert [line.split(" ", 2)[2] for line in stream.getvalue().splitlines()] == ["WARNING look here", "INFO a line"]


def test_an_unwritable_log_file_loses_only_its_lines(tmp_path):
    folder = tmp_path / "run"
    with logs.copied_to(folder / "log.txt"):
        engine_logger.info("lost")
        folder.mkdir()
        engine_logger.info("written")
    engine_logger.info("after the run")
    (line,) = (folder / "log.txt").read_text().splitlines()
    assert line.endswith(" INFO written")


def test_bars_go_to_the_stream_of_the_log(terminal):
    logs.start_logging(terminal)
    assert list(progress.with_progress(range(3), 3, "scanning [a]")) == [0, 1, 2]
    assert "scanning [a]" in terminal.getvalue() and rich.get_console().file is terminal


def test_a_job_inside_of_a_training_has_a_bar_of_its_own(terminal):
    logs.start_logging(terminal)
    with logs.Bar() as bar:
        bar.update(1, 2, "ep 1/1", "2m10 left")
        assert list(progress.with_progress(range(3), 3, "evaluating")) == [0, 1, 2]
        bar.update(2, 2, "ep 1/1", "0s left")
    assert "evaluating" in terminal.getvalue()


def test_a_bar_takes_no_output_that_goes_to_a_file_to_the_terminal(terminal, capsys):
    logs.start_logging(terminal)
    for _ in progress.with_progress(range(1), 1, "predicting"):
        print("an answer")
    assert capsys.readouterr().out == "an answer\n" and "an answer" not in terminal.getvalue()


class Waits:
    """An event that is set after some seconds; they pass when it is asked."""

    def __init__(self, seconds):
        self.seconds, self.last = 0, seconds

    def wait(self, _):
        self.seconds += 1
        return self.seconds > self.last


def told_of(monkeypatch, stream, seconds, age):
    """Return the seconds in the lines about an activity whose age is a function of the second."""
    monkeypatch.setenv("TERM", "dumb")
    logs.start_logging(stream)
    stopped = Waits(seconds)
    monkeypatch.setattr(logs, "SILENCE", 5.0)
    monkeypatch.setattr(activity, "current", lambda: {"name": "exporting to onnx", "age": age(stopped.seconds)})
    logs._tell_of_silence(stopped)
    return [int(seconds) for seconds in re.findall(r"exporting to onnx, for (\d+) s", stream.getvalue())]


@pytest.mark.parametrize("kind, lines", [(Terminal, [5, 10, 15, 20, 25, 30, 35, 40]), (io.StringIO, [5, 10, 20, 40])])
def test_a_long_silence_is_logged_with_the_activity(monkeypatch, kind, lines):
    assert told_of(monkeypatch, kind(), 44, lambda second: second) == lines


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_waits_of_the_same_length_are_logged_once(monkeypatch, kind):
    """Slow steps must not fill the log: here sixteen waits of 7 s, then one of 12 s."""
    assert told_of(monkeypatch, kind(), 124, lambda second: second % 7 if second < 112 else second - 112) == [5, 10]
