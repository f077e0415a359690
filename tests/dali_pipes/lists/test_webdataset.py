"""Folders of tar shards as a list."""

import numpy as np
import pytest

from configs.schema import Data
from dali_pipes.errors import DataError
from dali_pipes.lists.listing import read_list
from tests.support.storage.shards import write_tar

VIDEO = b"not looked at"


def test_samples_of_all_shards_are_rows_and_their_labels_are_read(tmp_path):
    write_tar(tmp_path / "set-1.tar", {"b/two.mp4": VIDEO, "b/two.cls": b"1\n", "b/two.txt": b"a caption"})
    write_tar(tmp_path / "set-0.tar", {"one.cls": b"0", "./one.MP4": VIDEO, "x.json": b'{"label": 7}', "x.webm": VIDEO})
    listing = read_list(str(tmp_path))
    assert listing.format == "webdataset" and listing.base == str(tmp_path)
    assert listing.paths == ["set-0.tar/one.MP4", "set-0.tar/x.webm", "set-1.tar/b/two.mp4"]
    assert listing.label_N.tolist() == [0, 7, 1]


def test_names_of_classes_are_numbered_and_splits_are_those_of_the_shards(tmp_path):
    for split, names in (("train", ("walk", "run")), ("val", ("run",))):
        members = {f"{name}.cls": name.encode() for name in names} | {f"{name}.mp4": VIDEO for name in names}
        write_tar(tmp_path / f"{split}-00{len(names)}.tar", members)
    held_out = read_list(f"{tmp_path}:val", Data(train=f"{tmp_path}:train"))
    assert held_out.class_names == ("run", "walk")
    np.testing.assert_array_equal(held_out.label_N, [0])
    with pytest.raises(DataError, match="contains train, val; say which"):
        read_list(str(tmp_path))


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"a.mp4": VIDEO}, "a.mp4 has no label: its sample has neither a .cls nor a .json"),
        ({"a.mp4": VIDEO, "a.avi": VIDEO, "a.cls": b"0"}, "sample 1 has several videos: a.avi, a.mp4"),
        ({"a.mp4": VIDEO, "a.json": b"{}"}, "the .json of a.mp4 contains no cls and no label"),
        ({"a.mp4": VIDEO, "a.json": b"[1"}, "the .json of a.mp4 contains no cls and no label"),
        ({"a.mp4": VIDEO, "a.cls": b" "}, "a.cls is empty"),
        ({"a.mp4": VIDEO, "a.cls": b"-1"}, "label '-1' is not a whole number of at least 0"),
        ({"a.mp4": VIDEO, "a.cls": b"1.0"}, "label '1.0' is not a whole number of at least 0"),
        ({"a.mp4": VIDEO, "a.cls": b"3,5"}, "several labels, '3,5': a video has one label here"),
        ({"a.mp4": VIDEO, "a.json": b'{"label": 1.0}'}, "label is 1.0, neither text nor a whole number"),
        ({"a.mp4": VIDEO, "a.json": b'{"label": [1]}'}, "label is [1], neither text nor a whole number"),
        ({"a.mp4": VIDEO, "a.json": b'{"cls": null}'}, "the .json of a.mp4 has no value for cls"),
        (
            {"a.1.mp4": VIDEO, "a.1.cls": b"0"},
            "a.1.mp4 has no label: its sample has neither a .cls nor a .json; members whose names are equal up to the "
            "first dot are one sample",
        ),
        ({"a.txt": b"0"}, "the list is empty"),
    ],
)
def test_a_sample_that_cannot_be_used_is_named(tmp_path, members, reason):
    write_tar(tmp_path / "a.tar", members)
    with pytest.raises(DataError) as error:
        read_list(str(tmp_path))
    assert f"{tmp_path}/a.tar:1: {reason}" in str(error.value)


@pytest.mark.parametrize(
    ("again", "reason"),
    [
        ({"./a.mp4": VIDEO}, "a.mp4 is in the shard more than once, at bytes 512 and 2560; unpack the shard, and pack"),
        ({"a.cls": b"1"}, "a.cls is in the shard more than once, at bytes 1536 and 2560; unpack the shard, and pack"),
        ({"a.CLS": b"1"}, "a.cls and a.CLS are the same member of a sample; keep one of them"),
    ],
)
def test_a_sample_with_two_members_of_a_kind_is_refused(tmp_path, again, reason):
    write_tar(tmp_path / "a.tar", {"a.mp4": VIDEO, "a.cls": b"0"}, again)
    with pytest.raises(DataError) as error:
        read_list(str(tmp_path))
    assert f"{tmp_path}/a.tar:1: {reason}" in str(error.value)


def test_members_without_a_video_may_be_in_a_shard_twice(tmp_path):
    write_tar(tmp_path / "a.tar", {"a.mp4": VIDEO, "a.cls": b"0", "about.txt": b"1"}, {"about.txt": b"2"})
    assert read_list(str(tmp_path)).paths == ["a.tar/a.mp4"]


def test_an_archive_next_to_class_folders_is_no_shard(tmp_path):
    write_tar(tmp_path / "all.tar", {"a.mp4": VIDEO})
    (tmp_path / "walk").mkdir()
    (tmp_path / "walk" / "a.mp4").write_bytes(VIDEO)
    assert read_list(str(tmp_path)).paths == ["walk/a.mp4"]
