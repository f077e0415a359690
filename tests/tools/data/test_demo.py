"""The generated set: its lists, and what stands where it is to be written."""

import pytest

from configs import ConfigError
from engine.outputs import RECORD
from tools.data.demo import CLASSES, write_demo_set


def test_a_set_of_a_version_without_records_is_kept_and_completed(tmp_path):
    write_demo_set(tmp_path, {"train": 1})
    (tmp_path / RECORD).unlink()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    lost = tmp_path / CLASSES[0] / "scene0000.mp4"
    lost.unlink()
    assert write_demo_set(tmp_path, {"train": 1}) == len(CLASSES)
    assert {path: path.read_bytes() for path in before} == before


def test_another_list_in_the_way_is_named_before_any_video_is_made(tmp_path):
    (tmp_path / "train.list").write_text("mine")
    with pytest.raises(ConfigError, match=r"train.list: is in the way: .* kept no record; --force replaces it"):
        write_demo_set(tmp_path, {"train": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["train.list"]
