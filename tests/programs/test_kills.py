"""Commands that are killed at any file change and run again end with the files of an uninterrupted run."""

import itertools
from pathlib import Path

import pytest

from tests.support.files.kills import EQUAL_BYTES, call_killed_at
from tests.support.files.trees import contents
from tests.support.videos import write_video
from tools import prepare

COMMANDS = {
    "transcode": ["transcode", "{set}/all.list", "--out", "{out}", "--workers", "1", *EQUAL_BYTES],
    "frames": ["frames", "{set}/all.list", "--out", "{out}", "--workers", "1"],
    "cut": ["cut", "{set}/parts.csv", "--out", "{out}", "--workers", "1", *EQUAL_BYTES],
    "pack": ["pack", "{set}/all.list", "--out", "{out}", "--shard-size", "1"],
    "split": ["split", "{set}/all.list", "--out", "{out}"],
    "subset": ["subset", "{set}/all.list", "--out", "{out}", "--per-class", "2"],
    "lists": ["lists", "{set}/classes", "--out", "{out}"],
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Return a folder with six videos of two classes, their list, a list of their parts, and folders of classes."""
    folder = tmp_path_factory.mktemp("set")
    for number in range(6):
        write_video(folder / f"{number}.mp4", "mpeg4", 20 + number)
        (folder / "classes" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        (folder / "classes" / "ab"[number % 2] / f"{number}.mp4").hardlink_to(folder / f"{number}.mp4")
    (folder / "all.list").write_text("".join(f"{number}.mp4 {number % 2}\n" for number in range(6)))
    rows = [f"{number}.mp4,0.1,0.5,{'ab'[number % 2]}\n" for number in range(6)]
    (folder / "parts.csv").write_text("".join(["video,start,end,label\n", *rows]))
    return folder


def run_until(moment: int, command: list[str], source: Path, out: Path) -> int:
    words = [word.format(set=source, out=out) for word in command]
    return call_killed_at(moment, out, prepare.main, words)


def results(folder: Path) -> dict[str, bytes]:
    """Return the files but those of catalogues, which hold times."""
    return {name: content for name, content in contents(folder).items() if ".scan/" not in name}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_command_killed_at_any_file_change_and_rerun_gives_the_same_results(tmp_path, videos, command):
    whole = tmp_path / "whole"
    assert run_until(0, command, videos, whole) == 0
    for moment in itertools.count(1):
        killed = tmp_path / str(moment)
        if run_until(moment, command, videos, killed) == 0:
            break
        assert run_until(0, command, videos, killed) == 0
        assert results(killed) == results(whole), f"killed at change {moment}"
    assert moment > 3
