"""`prepare cut`: a file for each part of a video, with exactly its frames, and a list of them."""

import json

import numpy as np
import pytest

from configs.schema import Data
from dali_pipes.scan.build import load_catalog
from tests.support.files.trees import plant
from tests.support.videos import decode_whole, number_in, with_matrix, write_video
from tools import prepare

ROWS = "video,start,end,label\na.mp4,0.5,0.7,run\na.mp4,1,,jump\nb.avi,,,run\na.mp4,7,8,run\n"
ON_SIDE = 0, 1, -1, 0  # a quarter turn clockwise


@pytest.fixture
def folder(tmp_path):
    """Return a list of parts of a video of 40 frames with B-frames and one keyframe, and of a whole one of 10."""
    write_video(tmp_path / "a.mp4", "libx264", 40, gop=40, b_frames=2)
    write_video(tmp_path / "b.avi", "mpeg4", 10)
    return plant(tmp_path, {"parts.csv": ROWS})


def cut(folder, *more):
    return prepare.main(["cut", f"{folder}/parts.csv", "--out", f"{folder}/clips", "--workers", "1", *more])


@pytest.mark.parametrize("command", ["transcode", "frames", "pack", "split"])
def test_results_in_a_folder_that_is_read_are_refused(tmp_path, capsys, command):
    for name in ("set/run/a.mp4", "set/run/b.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(tmp_path / name, "mpeg4", 3)
    assert prepare.main([command, f"{tmp_path}/set", "--out", f"{tmp_path}/set/new"]) == 2
    assert f"lies in {tmp_path}/set, a source of this command" in capsys.readouterr().err
    assert not (tmp_path / "set" / "new").exists()


def numbers(path):
    return [number_in(frame_HWC) for frame_HWC in decode_whole(path)]


def test_each_clip_has_exactly_the_frames_of_its_part(folder):
    assert cut(folder) == 0
    clips = folder / "clips"
    assert numbers(clips / "a_0.5-0.7.mp4") == list(range(15, 21))
    assert numbers(clips / "a_1-end.mp4") == list(range(30, 40))
    assert numbers(clips / "b.mp4") == list(range(10))


def test_the_list_has_the_clips_and_what_cannot_be_cut_is_named(folder):
    assert cut(folder) == 0
    clips = folder / "clips"
    classes = Data(class_names=f"{clips}/parts.classes.txt")
    catalog = load_catalog(f"{clips}/parts.list", classes, workers=1)
    assert catalog.names() == ["a_0.5-0.7.mp4", "a_1-end.mp4", "b.mp4"] and catalog.span_N2 is None
    assert [catalog.class_names[label] for label in catalog.label_N] == ["run", "jump", "run"]
    (left_out,) = map(json.loads, (clips / "left_out.jsonl").read_text().splitlines())
    assert "before its part from 7 s to 8 s begins" in left_out["reason"]


def test_a_list_without_parts_is_refused(folder, capsys):
    plant(folder, {"parts.csv": "path,label\na.mp4,run\n"})
    assert cut(folder) == 2
    assert "parts.csv: names no parts: rows with start and end; prepare.py transcode" in capsys.readouterr().err


def test_started_again_it_makes_only_what_is_new(folder):
    assert cut(folder) == 0
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "clips").glob("*.mp4")}
    plant(folder, {"parts.csv": f"{ROWS}a.mp4,0,0.1,run\n"})
    assert cut(folder) == 0
    after = {path.name: path.stat().st_mtime_ns for path in (folder / "clips").glob("*.mp4")}
    assert after.keys() - before.keys() == {"a_0-0.1.mp4"} and before.items() <= after.items()


def test_a_clip_of_a_rotated_video_is_upright(tmp_path):
    with_matrix(write_video(tmp_path / "a.mp4", "libx264", 20), *ON_SIDE)
    plant(tmp_path, {"parts.csv": "path,start,end,label\na.mp4,0.3,0.5,0\n"})
    assert cut(tmp_path, "--short-side", "48") == 0
    first_HWC = decode_whole(tmp_path / "clips" / "a_0.3-0.5.mp4")[0]
    assert first_HWC.shape == (96, 48, 3) and number_in(np.rot90(first_HWC)) == 9
