"""A small set of videos, packed into shards."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np

from dali_pipes.cut.cutter import cut_all
from dali_pipes.scan.catalog import Catalog
from tests.support.videos import write_video
from tools import prepare

FRAMES = np.array([3, 19, 7])
NAMES = ("walk/one.mp4", "walk/a b.c.mp4", "walk/a_b_c.MP4", "run/two.avi", "run/bad.mp4")


def write_set(folder: Path) -> Path:
    """Write videos of two classes, one of them unreadable, one named twice; return the list."""
    for number, name in enumerate(NAMES):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        if name.endswith("bad.mp4"):
            (folder / name).write_text("no video")
        else:
            write_video(folder / name, "mpeg4", 20 + number)
    rows = [f"{name} {int(name.startswith('run'))}" for name in (*NAMES, NAMES[0])]
    (folder / "train.list").write_text("\n".join(rows))
    return folder / "train.list"


def pack(source: Path, out: Path | str, *words: str) -> int:
    """Pack into shards of a few kilobytes."""
    with mock.patch("tools.data.pack.MB", 5_000):
        return prepare.run("pack", [str(source), "--out", str(out), "--shard-size", "1", *words])


def packed_set(folder: Path) -> tuple[Path, Path]:
    """Write a set and pack it; return its list, and the folder with shards of one or two videos."""
    source = write_set(folder / "set")
    assert pack(source, folder / "packed") == 0
    return source, folder / "packed"


def refuse_to_scan(function, calls, count):
    """Replace `call_all` in a test in which nothing may be scanned."""
    assert not list(calls), "nothing is to be scanned"
    return iter(())


def assert_cuts_equal(some: Catalog, others: Catalog) -> None:
    """Compare the cuts of the videos of two catalogues, row by row."""
    videos = [[catalog.video(row) for row in catalog.usable.tolist()] for catalog in (some, others)]
    cuts = [cut_all(of_one, [FRAMES] * len(of_one)) for of_one in videos]
    assert [cut.data for cut in cuts[0]] == [cut.data for cut in cuts[1]]
