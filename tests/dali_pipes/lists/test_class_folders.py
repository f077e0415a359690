"""Class folders: nested videos, recognition by content, files left out, empty classes, links."""

import os

import pytest

from dali_pipes.errors import DataError
from dali_pipes.lists.listing import read_list
from tests.support.files.trees import plant, rows

MP4, MKV, TS = b"\0\0\0\x18ftypisom", b"\x1a\x45\xdf\xa3....", (b"\x47" + b"." * 187) * 5


def class_folder(root):
    """Write a class folder as users have them: with nested videos, other files and system files."""
    files = {
        "run/a.mp4": b"", "run/day1/b.mp4": b"", "run/day1/cam2/c.MKV": b"", "run/notes.txt": b"text", "run/n.txt": b"",
        "run/.hidden.mp4": b"", "run/Thumbs.db": b"x", "run/c.jpg": b"\xff\xd8", "run/sound.wav": b"RIFF....WAVEfmt",
        "jump/d.divx": b"RIFF....AVI LIST", "jump/e.m2v": b"\0\0\1\xb3", "jump/f": MP4, "jump/g.data": MKV,
        "jump/h.trp": TS, "jump/i.heic": b"\0\0\0\x18ftypheic", "lie/readme": b"none yet", "top.mp4": b"",
        "__MACOSX/run/a.mp4": b"", "run/@eaDir/x.mp4": b"", ".git/x/y.mp4": b"", "train.scan/catalog": b"",
    }  # fmt: skip
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_a_class_has_the_videos_of_its_sub_folders_whatever_their_endings(tmp_path):
    listing = read_list(str(class_folder(tmp_path)))
    assert listing.class_names == ("jump", "lie", "run")
    assert rows(listing) == [
        *((f"jump/{name}", 0) for name in ("d.divx", "e.m2v", "f", "g.data", "h.trp")),
        *((f"run/{name}", 2) for name in ("a.mp4", "day1/b.mp4", "day1/cam2/c.MKV")),
    ]


def test_files_left_out_of_class_folders_are_counted_by_reason_and_empty_classes_named(tmp_path):
    left_out, empty, nested = read_list(str(class_folder(tmp_path))).notes
    counts = [
        *("2 .txt files", "2 hidden", "1 system (Thumbs.db)", "1 .jpg files", "1 .wav files", "1 .heic files"),
        *("1 files without an ending", "1 system (__MACOSX)", "1 system (@eaDir)", "1 catalogues of a scan"),
        "1 videos outside of a class folder",
    ]
    assert left_out.startswith("left out: ")
    assert sorted(left_out.removeprefix("left out: ").split(", ")) == sorted(counts)
    assert empty == "classes without a video: lie"
    assert nested == "2 videos in sub-folders of their class"


def test_class_folders_of_frames_are_answered_with_the_list_that_they_need(tmp_path):
    plant(tmp_path, {"run/a/img_00001.jpg": "", "sit/b/img_00001.jpg": ""})
    with pytest.raises(
        DataError, match=r"\(2 \.jpg files left out\); .* need a list with a line `folder label` for each"
    ):
        read_list(str(tmp_path))


@pytest.mark.parametrize(
    "links",
    [{"set/run/x.mp4": "x.mp4"}, {"set/run/on": "../jump", "set/jump/on": "../run"}],
    ids=["itself", "in turns"],
)
def test_circular_links_are_followed_once(tmp_path, links):
    for name in ("set/jump/c.mp4", "set/run/a.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    listing = read_list(str(tmp_path / "set"))
    assert {("jump/c.mp4", 0), ("run/a.mp4", 1)} <= set(rows(listing)) and len(listing.paths) <= 4


def test_classes_that_differ_only_in_spelling_are_reported(tmp_path):
    for name in ("Run", "run", "tai chi", "jump"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").touch()
    (note,) = read_list(str(tmp_path)).notes
    assert note.startswith("classes 'Run', 'run' differ only in case, blanks, punctuation or Unicode form")


def test_links_to_classes_and_to_folders_of_videos_are_followed_and_circles_end(tmp_path):
    for name in ("disk/run/a.mp4", "disk/more/b.mp4", "set/jump/c.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "set" / "run").symlink_to("../disk/run")
    (tmp_path / "set" / "jump" / "more").symlink_to("../../disk/more")
    (tmp_path / "set" / "jump" / "up").symlink_to("../..")
    listing = read_list(str(tmp_path / "set"))
    assert rows(listing) == [("jump/c.mp4", 0), ("jump/more/b.mp4", 0), ("run/a.mp4", 1)]
    assert listing.notes[0] == "left out: 1 links to a folder above"


def test_a_folder_of_splits_is_no_folder_of_classes(tmp_path):
    for name in ("train/run/a.mp4", "train/jump/b.mp4", "val/run/c.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(
        DataError, match=r"holds splits, not classes: train, val; name each, as in data.train=.*/train data.val=.*/val"
    ):
        read_list(str(tmp_path))
    assert read_list(str(tmp_path / "train")).class_names == ("jump", "run")


def test_a_folder_that_cannot_be_read_is_an_error_and_no_empty_class(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("run"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="run: cannot be read: Permission denied"):
        read_list(str(tmp_path))
