"""`prepare show`: a page of clips from any recipe and split, also where the recipe leaves settings to the data."""

import logging
import threading
from pathlib import Path

import pytest

from engine import logs
from tests.support.loading import write_set
from tools import prepare
from tools.data import show as command


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("videos"))


SMALL = ["model.frames=4", "clip.size=32", "eval.short_side=40", "runtime.device=cpu"]


def show(source, out, *more):
    return prepare.main(["show", "--config", "finetune.yaml", f"data.train={source}", *SMALL, "--out", str(out), *more])


@pytest.mark.parametrize(("split", "clips"), [("train", 5), ("val", 2)])
def test_a_page_has_a_strip_of_each_clip_and_the_settings_that_made_it(source, tmp_path, capsys, split, clips):
    out = tmp_path / "clips.html"
    assert show(source, out, "--split", split, "--clips", str(clips)) == 0
    page = out.read_text()
    assert page.count("<img src=") == clips and page.count("; crop ") == clips
    assert ("multiscale, resized to 32 px" if split == "train" else "32 px of a short side of 40 px") in page
    assert f"{split} side of {source}" in page
    printed = capsys.readouterr().out
    assert f"{out}: up to {clips} clips of data.{split}" in printed and "/show-" not in printed + page


def test_an_existing_page_is_refused_before_the_scan(source, tmp_path, capsys):
    out = tmp_path / "clips.html"
    out.write_text("kept")
    assert show(source, out) == 2
    assert str(out) in capsys.readouterr().err and out.read_text() == "kept"


def test_the_scan_of_show_is_reused_by_training(source, tmp_path):
    assert show(source, tmp_path / "clips.html") == 0
    assert Path(f"{source}.scan/catalog").exists()


def test_a_video_is_never_replaced(source, capsys):
    with open(source) as file:
        video = Path(source).parent / file.readline().rpartition(" ")[0]
    content = video.read_bytes()
    assert show(source, video, "--force") == 2
    assert "is a source of this command, which is never replaced" in capsys.readouterr().err
    assert video.read_bytes() == content


def test_a_long_wait_is_logged(source, tmp_path, monkeypatch):
    told = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record):
            if record.getMessage().startswith("running show, for "):
                told.set()

    monkeypatch.setattr(logs, "SILENCE", 0.01)
    monkeypatch.setattr(command, "make_page", lambda *asked: "told" if told.wait(60) else "silent")
    logger = logging.getLogger("engine")
    logger.addHandler(listener := Listener())
    try:
        assert show(source, tmp_path / "clips.html") == 0
    finally:
        logger.removeHandler(listener)
    assert (tmp_path / "clips.html").read_text() == "told"
