"""Records on the screen."""

import io
import sys

import pytest

from configs import progress
from engine import logs
from engine.outputs import Outputs
from tools.prediction import output

ANSWER = {"path": "a.mp4", "top": [{"label": 0, "name": "jump", "probability": 1.0}]}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def written(monkeypatch):
    """Writes a record while a bar is on the terminal; returns what went to the two streams."""

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


def test_the_bar_of_a_terminal_gives_way_to_a_record(written):
    """Its line is erased before the record is written, and drawn again below it."""
    terminal, shown = written(Terminal(), Terminal())
    assert terminal == "" and "jump" in shown
    before = shown[: shown.index("a.mp4")]
    assert before[before.rindex("predicting") :].rpartition("\x1b[2K")[1]


def test_records_that_go_to_a_file_are_not_taken_to_the_terminal(written):
    file, terminal = written(io.StringIO(), Terminal())
    assert "jump" in file and "jump" not in terminal
